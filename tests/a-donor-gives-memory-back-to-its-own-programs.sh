# SPDX-License-Identifier: MIT
# A memory cgroup in which a donor lends most of the memory, and a program that needs it after all. The donor
# gives back at least 90% of what is needed within 10 s, the program is not slowed by more than 10%
# afterwards, a borrower that writes and checks all the time sees no error, and when the program is
# gone the donor lends again.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires jq
[ "$(id -u)" -eq 0 ] || skip "only root makes memory cgroups"

# The memory hierarchy's folder for a new group, version 2 or 1.
make_group() {
	local at
	at=$(awk '$9 == "cgroup2" || $10 ~ /(^|,)memory(,|$)/ { print $5 }' /proc/self/mountinfo |
		while read -r m; do
			if [ -e "$m/cgroup.controllers" ]; then
				grep -qw memory "$m/cgroup.controllers" || continue
				echo +memory > "$m/cgroup.subtree_control" 2> /dev/null || continue
			fi
			echo "$m"
		done | head -n 1)
	[ -n "$at" ] || skip "no memory cgroups are mounted"
	group="$at/infuse-test.$$"
	mkdir "$group" 2> /dev/null || skip "no memory cgroup can be made here"
	limit=$group/memory.max
	[ -e "$limit" ] || limit=$group/memory.limit_in_bytes
	echo "$1" > "$limit" || { rmdir "$group"; skip "the memory cgroup takes no limit"; }
}

drop_group() {
	local end=$((SECONDS + 10))
	for p in "${started[@]}"; do kill -KILL "$p" 2> /dev/null || true; done
	for p in "${started[@]}"; do wait "$p" 2> /dev/null || true; done
	until rmdir "$group" 2> /dev/null || [ "$SECONDS" -ge "$end" ]; do read -rt 0.1 <> <(:) || true; done
	cleanup
}

# In the group; in the background only, where the subshell becomes the program.
in_group() { exec bash -c 'echo $$ > "$1/cgroup.procs" && shift && exec "$@"' - "$group" "$@"; }

# The program alone, with memory for all: the processor time of its best pass, in us.
best() { sort -n | head -n 1; }
memory-eater 120 1 > "$scratch/alone" &
started+=($!)
alone_pid=$!
passes() { [ "$(wc -l < "$scratch/$1")" -gt "$2" ]; }
until_true 60 passes alone 40
kill "$alone_pid"
alone=$(sed 1d "$scratch/alone" | best)

make_group $((256 << 20))
trap drop_group EXIT
in_group infuse-memory-server --name a --listen "unix:$scratch/a.sock" --size 192M --slab 1M --threads 1 \
	--no-registry --ready-file "$scratch/a.ready" --reclaim-below 24M --reclaim-target 48M \
	> "$scratch/a.log" 2>&1 &
started+=($!)
until_true 20 test -s "$scratch/a.ready"
start_donor b --size 192M --slab 1M

volume-load 144 1 "unix:$scratch/a.sock" "unix:$scratch/b.sock" > "$scratch/load" 2> "$scratch/load.log" &
started+=($!)
load=$!
stat_of() { infuse donors --donor "unix:$scratch/a.sock" --timeout 10s --json | jq ".donors[0].$1 / 1048576 | floor"; }
lends() { [ "$(stat_of lent_bytes)" -ge 50 ]; }
until_true 60 lends
lent=$(stat_of lent_bytes)

in_group memory-eater 120 40 > "$scratch/eater" &
started+=($!)
eater=$!
# What was asked for at most, and when 90% of it had come back, once the program has all that it wants.
now_ms() { echo $((${EPOCHREALTIME/./} / 1000)); }
shrink=0 begun=0 ms=''
until [ -n "$ms" ] && passes eater 1; do
	kill -0 "$eater" || fail "the program died of hunger"
	away=$(stat_of away_bytes)
	now=$((away + $(stat_of wanted_bytes)))
	if [ "$now" -gt "$shrink" ]; then shrink=$now ms=''; fi
	[ "$shrink" -eq 0 ] || [ "$begun" -ne 0 ] || begun=$(now_ms)
	if [ -z "$ms" ] && [ "$shrink" -gt 40 ] && [ $((away * 10)) -ge $((shrink * 9)) ]; then
		ms=$(($(now_ms) - begun))
	fi
	[ "$begun" -eq 0 ] || [ $(($(now_ms) - begun)) -lt 60000 ] || fail "asked for $shrink MiB, got $away MiB"
	read -rt 0.1 <> <(:) || true
done
# From the first word of it on, though it was not asked for at once.
[ "$ms" -le 10000 ] || fail "90% of $shrink MiB took $ms ms"
until_true 60 passes eater 30
# The best of its passes: what else the machine does only makes them longer. Faults would be in all.
not_slowed() {
	fed=$(sed 1,10d "$scratch/eater" | best)
	[ $((fed * 10)) -le $((alone * 11)) ]
}
until_true 60 not_slowed
echo "needed $shrink MiB ($lent were lent), 90% back after $ms ms; a pass of the program $alone us alone, $fed us here"

kill "$eater"
wait "$eater" || true
# not all: it stays well above the target
grown() { [ "$(stat_of away_bytes)" -le $((shrink / 2)) ]; }
until_true 120 grown
kill "$load"
rc=0
wait "$load" || rc=$?
[ "$rc" -eq 0 ] || fail "the borrower: $(tail -n 1 "$scratch/load") $(cat "$scratch/load.log")"
