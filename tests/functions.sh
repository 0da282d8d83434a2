# SPDX-License-Identifier: MIT
# Sourced by the behaviour tests: a scratch folder, donors that are ended with the test, polling
# instead of sleeping. A test is skipped (77) with the reason when a feature is missing.
set -euo pipefail

: "${INFUSE_BUILD:?run me through ctest, or set INFUSE_BUILD to the build folder}"
export PATH="$INFUSE_BUILD/bin:$PATH"
export LC_ALL=C
export TSAN_OPTIONS="suppressions=${BASH_SOURCE[0]%/*}/tsan.supp ${TSAN_OPTIONS:-}"
unset INFUSE_REGISTRY INFUSE_DONOR

scratch=$(mktemp -d "${TMPDIR:-/tmp}/infuse-test.XXXXXX")
started=()
asked=() # these are asked to end, since they have processes of their own to end

cleanup() {
	local rc=$? p
	trap - EXIT
	for p in "${asked[@]}"; do kill -TERM "$p" 2>/dev/null && wait "$p" 2>/dev/null || true; done
	for p in "${started[@]}"; do kill -KILL "$p" 2>/dev/null || true; done
	for p in "${started[@]}"; do wait "$p" 2>/dev/null || true; done
	if [ "$rc" -ne 0 ] && [ "$rc" -ne 77 ]; then
		for p in "$scratch"/*.log; do [ -s "$p" ] && { echo "--- ${p##*/}"; tail -n 40 "$p"; }; done
	fi
	rm -rf "$scratch"
	exit "$rc"
}
trap cleanup EXIT

fail() { echo "FAIL: $*" >&2; exit 1; }
skip() { echo "SKIP: $*"; exit 77; }

# until_true SECONDS COMMAND...: polls; fails the test when time is up.
until_true() {
	local end=$((SECONDS + $1)); shift
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$end" ] || fail "after waiting: $*"
		read -rt 0.05 <> <(:) || true
	done
}

# start_donor NAME [OPTIONS...]: a memory server on $scratch/NAME.sock and on a TCP port of its own
# choosing; sets donor_NAME_pid, and donor_NAME_tcp to "tcp:127.0.0.1:PORT".
start_donor() {
	local name=$1; shift
	local ready="$scratch/$name.ready"
	infuse-memory-server --name "$name" --listen "unix:$scratch/$name.sock" \
		--listen tcp:127.0.0.1:0 --size 64M --no-registry --ready-file "$ready" "$@" \
		> "$scratch/$name.log" 2>&1 &
	started+=($!)
	printf -v "donor_${name}_pid" %s "$!"
	until_true 20 test -s "$ready"
	printf -v "donor_${name}_tcp" %s "$(grep ^tcp: "$ready" | head -n 1)"
}

# start_announced_donor NAME REGISTRY [OPTIONS...]: the same, but it announces itself there.
start_announced_donor() {
	local name=$1 registry=$2; shift 2
	local ready="$scratch/$name.ready"
	infuse serve --name "$name" --listen "unix:$scratch/$name.sock" --listen tcp:127.0.0.1:0 \
		--size 64M --registry "$registry" --ready-file "$ready" "$@" > "$scratch/$name.log" 2>&1 &
	started+=($!)
	printf -v "donor_${name}_pid" %s "$!"
	until_true 20 test -s "$ready"
	printf -v "donor_${name}_tcp" %s "$(grep ^tcp: "$ready" | head -n 1)"
}

# exits_with STATUS COMMAND...: runs it; standard output in $scratch/out, standard error in
# $scratch/err and in $err.
exits_with() {
	local expected=$1 rc=0; shift
	"$@" > "$scratch/out" 2> "$scratch/err" || rc=$?
	err=$(cat "$scratch/err")
	[ "$rc" -eq "$expected" ] || fail "'$*' ended with $rc, not $expected: $err"
}

# is_json FILE: one document, by whatever program is there to read it.
is_json() {
	if command -v jq > /dev/null; then
		[ "$(jq -s length "$1" 2> /dev/null)" = 1 ]
	else
		requires python3
		python3 -m json.tool "$1" > /dev/null
	fi
}

# requires FEATURE: userfaultfd | redis-server | a program's name
requires() {
	case $1 in
	redis-server)
		# Debian's redis-server is a name for a program in redis-tools, which starts no service.
		command -v redis-server > /dev/null && return
		command -v redis-check-rdb > /dev/null || skip "redis-server is not installed"
		mkdir -p "$scratch/bin"
		ln -sf "$(command -v redis-check-rdb)" "$scratch/bin/redis-server"
		PATH="$scratch/bin:$PATH" ;;
	userfaultfd) infuse check >/dev/null 2>&1 || skip "$(infuse check 2>&1 | tail -n 1)" ;;
	*) command -v "$1" >/dev/null || skip "$1 is not installed" ;;
	esac
}
