#!/bin/bash
# The socket file of a server that was killed is replaced; that of a living one, and files that are
# no sockets, are left alone; an orderly end removes its own.
. "$(dirname "$0")/functions.sh"

start_donor a --size 4M
sock="$scratch/a.sock"
rc=0
timeout 10 infuse-memory-server --size 4M --no-registry --listen "unix:$sock" 2> "$scratch/second.log" || rc=$?
[ "$rc" -eq 1 ] || fail "a second server took the socket"
grep -q "another server listens there" "$scratch/second.log" || fail "said: $(cat "$scratch/second.log")"
[ -S "$sock" ] || fail "the living server's socket is gone"

kill -KILL "$donor_a_pid"
wait "$donor_a_pid" 2>/dev/null || true
[ -S "$sock" ] || fail "a killed server can't have removed its socket"
rm "$scratch/a.ready"
start_donor a --size 4M
kill -TERM "$donor_a_pid"
wait "$donor_a_pid" || fail "ended with $?"
[ ! -e "$sock" ] || fail "the socket is left behind"

echo precious > "$scratch/file"
rc=0
timeout 10 infuse-memory-server --size 4M --no-registry --listen "unix:$scratch/file" 2> "$scratch/third.log" || rc=$?
[ "$rc" -eq 1 ] || fail "a file was taken for a socket"
[ "$(cat "$scratch/file")" = precious ] || fail "the file was touched"
