# SPDX-License-Identifier: MIT
# Sourced behind functions.sh by the tests of nbdkit-rswap.
requires nbdkit
plugin="$INFUSE_BUILD/lib/nbdkit-rswap-plugin.so"
[ -z "${INFUSE_SANITIZE:-}" ] || skip "nbdkit can't load a plugin that is built with a sanitizer"
[ -e "$plugin" ] || skip "nbdkit-plugin-dev was not installed when this was built"

# start_nbd NAME PARAMETERS...: serves nbd+unix:///?socket=$scratch/NAME.nbd; sets nbd_NAME_pid.
start_nbd() {
	local name=$1; shift
	nbdkit -f -P "$scratch/$name.pid" -U "$scratch/$name.nbd" "$plugin" "$@" \
		> "$scratch/$name.nbdkit.log" 2>&1 &
	started+=($!)
	printf -v "nbd_${name}_pid" %s "$!"
	until_true 20 test -s "$scratch/$name.pid"
}

nbd_uri() { echo "nbd+unix:///?socket=$scratch/$1.nbd"; }

# nbdsh ARGS...: libnbd's shell, by whichever python3 has its module (Debian's, where another is first).
nbdsh() { "$nbd_python" -m nbd "$@"; }
find_nbdsh() {
	for nbd_python in python3 /usr/bin/python3; do
		"$nbd_python" -c 'import nbd' 2> /dev/null && return
	done
	return 1
}

# serve NAME: a donor on a TCP port that stays the same when it comes back; port[NAME], pid[NAME].
declare -A port pid
serve() {
	local name=$1
	rm -f "$scratch/$name.ready"
	infuse-memory-server --name "$name" --listen "tcp:127.0.0.1:${port[$name]:-0}" --size 48M --slab 256K \
		--lazy --no-registry --quiet --ready-file "$scratch/$name.ready" > "$scratch/$name.log" 2>&1 &
	pid[$name]=$!
	started+=($!)
	until_true 20 test -s "$scratch/$name.ready"
	port[$name]=$(sed -n 's/^tcp:127.0.0.1:\([0-9]*\).*/\1/p' "$scratch/$name.ready")
}
kill_donor() { kill -KILL "${pid[$1]}"; wait "${pid[$1]}" 2> /dev/null || true; }
