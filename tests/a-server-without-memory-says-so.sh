# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# A real memory server, with keys and a registry, each of whose allocations is refused in turn, from its start over
# borrowers' and an asker's visits to its end: it ends with a line that says why, or goes on and serves whoever
# comes next; it never crashes, hangs, gives wrong bytes, or keeps what it should have freed.
# INFUSE_ALL_ALLOCATIONS=1: also those of its libraries (OpenSSL, SQLite); takes long.
. "$(dirname "$0")/functions.sh"

preload=$INFUSE_BUILD/lib/libfail-alloc.so
[ -e "$preload" ] || skip "$preload is not built here"
[ -n "${INFUSE_ALL_ALLOCATIONS:-}" ] && export FAIL_ALLOC_ALL=1
export FAIL_ALLOC_HIT=$scratch/hit FAIL_ALLOC_LEFT=$scratch/left
infuse key gen "$scratch/key" > /dev/null

# serve N: starts it; sets pid, and up if it is there.
serve() {
	rm -f "$scratch"/{hit,left,ready,sock,err}
	up=
	FAIL_ALLOC=$1 LD_PRELOAD=$preload infuse-memory-server --name a --listen "unix:$scratch/sock" \
		--listen tcp:127.0.0.1:0 --key "$scratch/key" --size 1M --slab 64K --grace 200ms --lazy --no-reclaim --threads 1 \
		--registry "$scratch/registry.db" --ready-file "$scratch/ready" > "$scratch/err" 2>&1 &
	pid=$!
	started=("$pid")
	for _ in $(seq 4000); do
		if [ -s "$scratch/ready" ]; then up=1; break; fi
		kill -0 "$pid" 2> /dev/null || break
		read -rt 0.005 <> <(:) || true
	done
}

# visit WHAT OPTIONS...: a borrower, by shared memory.
visit() {
	local what=$1 rc=0
	shift
	timeout 30 client-without-memory --once --donor "$@" > "$scratch/visit" 2>&1 || rc=$?
	[ "$rc" -eq 0 ] || fail "$what: a borrower ended with $rc: $(cat "$scratch/visit" "$scratch/err")"
}

visits() {
	local tcp
	tcp=$(sed -n 's/^\(tcp:127.0.0.1:[0-9]*\).*/\1/p' "$scratch/ready")
	visit "$1" "shm:$scratch/sock" --lenient
	visit "$1" "$tcp" --key "$scratch/key" --lenient
	timeout 30 infuse volumes --donor "unix:$scratch/sock" > /dev/null 2>&1 || true
	# Whatever was refused is over.
	[ -e "$scratch/hit" ] && kill -0 "$pid" 2> /dev/null || return 0
	until_true 20 nothing_lent
	visit "$1, afterwards" "unix:$scratch/sock"
}
nothing_lent() { infuse donors --donor "unix:$scratch/sock" --json | grep -q '"free_bytes":1048576,.*"borrowers":0,'; }

# ends WHAT: within 30 s, by itself or after SIGTERM, not by a signal; says why if it never served.
ends() {
	local end=$((SECONDS + 30))
	while kill -0 "$pid" 2> /dev/null; do
		[ "$SECONDS" -lt "$end" ] || { kill -KILL "$pid"; fail "$1: it does not end: $(cat "$scratch/err")"; }
		read -rt 0.005 <> <(:) || true
	done
	rc=0
	wait "$pid" || rc=$?
	started=()
	[ "$rc" -lt 126 ] || fail "$1: it ended with $rc: $(cat "$scratch/err")"
	[ "$rc" -eq 0 ] || grep -q . "$scratch/err" || fail "$1: it ended with $rc and said nothing"
}

# one N: false when there was no N-th allocation.
one() {
	serve "$1"
	if [ -n "$up" ]; then
		visits "allocation $1"
		kill -TERM "$pid" 2> /dev/null || true
	fi
	ends "allocation $1"
	if [ -n "$up" ] && [ "$rc" -eq 0 ] && [ "$(cat "$scratch/left")" -gt "$usual" ]; then
		fail "allocation $1: $(cat "$scratch/left") others were not freed, $usual usually: $(cat "$scratch/err")"
	fi
	[ -e "$scratch/hit" ]
}

usual=1000000
one 1000000000 && fail "so many?"
usual=$(cat "$scratch/left")
n=${INFUSE_FIRST:-1}
while one "$n"; do n=$((n + ${INFUSE_STEP:-1})); done
[ "$n" -gt 30 ] || fail "only $n allocations were met"
echo "$((n - 1)) allocations of the server were refused, each in a run of its own; $usual are kept to the end"
