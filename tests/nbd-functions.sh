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
