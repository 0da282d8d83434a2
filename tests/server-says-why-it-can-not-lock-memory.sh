#!/bin/bash
# A user whose limit of locked memory is too low is told the limit, the need and the ways out; with
# --lazy the server works without locking.
. "$(dirname "$0")/functions.sh"

requires setpriv
[ "$(id -u)" -eq 0 ] || skip "only root can become another user"
[ -z "${INFUSE_SANITIZE:-}" ] || skip "sanitizers make their own use of memory"
chmod 755 "$scratch"
cp "$INFUSE_BUILD/bin/infuse-memory-server" "$scratch/server"
chmod 755 "$scratch/server"
mkdir -m 777 "$scratch/theirs"
# Takes the shell's place: run it in the background or in parentheses.
unprivileged() {
	ulimit -l 8192
	exec setpriv --reuid 65534 --regid 65534 --clear-groups --bounding-set=-all --inh-caps=-all \
		"$scratch/server" --no-registry --listen "unix:$scratch/theirs/sock" "$@"
}

unprivileged --size 1M --slab 64K --ready-file "$scratch/theirs/ready" > "$scratch/small.log" 2>&1 &
small=$!
started+=("$small")
until_true 20 test -s "$scratch/theirs/ready"
kill -TERM "$small"
wait "$small" || fail "within the limit it ended with $?"

rc=0
(unprivileged --size 64M > "$scratch/out.log" 2>&1) || rc=$?
[ "$rc" -eq 1 ] || fail "ended with $rc"
for words in "can't lock 64 MiB" "the limit is 8 MiB" "ulimit -l" "LimitMEMLOCK" "--lazy"; do
	grep -qF -- "$words" "$scratch/out.log" || fail "no '$words' in: $(cat "$scratch/out.log")"
done

rm -f "$scratch/theirs/ready"
unprivileged --size 64M --lazy --ready-file "$scratch/theirs/ready" > "$scratch/lazy.log" 2>&1 &
started+=($!)
until_true 20 test -s "$scratch/theirs/ready"
