# SPDX-License-Identifier: MIT
# The command's status, signals, descriptors and arguments are as without infuse run.
. "$(dirname "$0")/functions.sh"
. "$(dirname "$0")/run-functions.sh"

start_donor a --size 256M --lazy
export INFUSE_DONOR="shm:$scratch/a.sock" INFUSE_PLAIN=0
status() { local rc=0; "$@" || rc=$?; echo $rc; }

[ "$(status infuse run -- sh -c 'exit 42')" = 42 ] || fail "the status is lost"
[ "$(status infuse run -- sh -c 'kill -TERM $$')" = 143 ] || fail "death by a signal is lost"
[ "$(infuse run -- printf '%s|' a 'b c' -- --stats '')" = 'a|b c|--|--stats||' ] || fail "arguments changed"
[ "$(echo words | infuse run -- cat)" = words ] || fail "standard input is lost"
[ "$(INFUSE_PLAIN=8M infuse run -- sh -c 'ls /proc/self/fd | wc -l')" = "$(sh -c 'ls /proc/self/fd | wc -l')" ] ||
	fail "descriptors were left open"
[ "$(LD_PRELOAD=libm.so.6 infuse run -- sh -c 'echo $LD_PRELOAD')" = "$(realpath "$INFUSE_BUILD/lib/libinject-preload.so") libm.so.6" ] ||
	fail "LD_PRELOAD was replaced"

for signal in TERM INT HUP USR1; do
	rm -f "$scratch/out"
	env --default-signal=INT infuse run -- sh -c "trap 'echo $signal; exit 7' $signal; echo ready; while :; do sleep 0.05; done" \
		> "$scratch/out" 2> "$scratch/err" &
	pid=$!
	started+=("$pid")
	until_true 10 grep -q ready "$scratch/out"
	kill -$signal $pid
	rc=0
	wait $pid || rc=$?
	[ $rc -eq 7 ] || fail "$signal did not reach the command"
	grep -q $signal "$scratch/out" || fail "$signal did not reach the command"
done

# Without a signal the terminal's reader goes away in a pipe, as ever.
[ "$(infuse run -- yes | head -n 1)" = y ] || fail "a pipe does not end"
