# SPDX-License-Identifier: MIT
# A program under `infuse run --replicas 2` keeps its memory when one of the registry's two donors dies, and when
# the other one dies, too, because a third one that came meanwhile has taken the copies; every byte is checked. The
# keeper that told of it ends with the program.
. "$(dirname "$0")/functions.sh"
# shellcheck source=tests/run-functions.sh
. "$(dirname "$0")/run-functions.sh"
requires python3

registry="$scratch/registry.db"
start_announced_donor a "$registry" --slab 1M --lazy
start_announced_donor b "$registry" --slab 1M --lazy
announced() { [ "$(infuse donors --timeout 5s --registry "$registry" --json | jq '.donors | length')" = "$1" ]; }
lent() { infuse donors --timeout 5s --donor "$1" --json | jq '.donors[0].lent_bytes / 1048576 | floor'; }
until_true 20 announced 2

cat > "$scratch/check.py" << 'END'
import os, sys, time
n, size = 48, 1 << 20
mem = [bytearray(bytes([i]) * size) for i in range(n)]
value = list(range(n))
step, stop = sys.argv[1], time.time() + 200
while not os.path.exists(step) and time.time() < stop:
    for i in range(n):
        if mem[i].count(value[i]) != size:
            sys.exit("block %d is wrong" % i)
        value[i] = (value[i] + 7) % 256
        mem[i][:] = bytes([value[i]]) * size
    open(step + ".rounds", "a").write("x")
for i in range(n):
    if mem[i].count(value[i]) != size:
        sys.exit("block %d is wrong in the end" % i)
print("all bytes are right")
END
rounds() { wc -c < "$scratch/stop.rounds"; }
more_than() { [ "$(rounds)" -gt "$1" ]; }
goes_on() { until_true 60 more_than $(($(rounds) + 1)); }

TMPDIR="$scratch" infuse run --local 16M --replicas 2 --registry "$registry" --refresh 2s -- \
	python3 "$scratch/check.py" "$scratch/stop" > "$scratch/out" 2> "$scratch/run.log" &
program=$!
started+=("$program")
until_true 60 test -s "$scratch/stop.rounds"
kill -KILL "$donor_a_pid"
goes_on
start_announced_donor c "$registry" --slab 1M --lazy
# What was lost: all that the other donor has; less when the program gives memory back meanwhile.
caught_up() { [ "$(lent "$donor_c_tcp")" -ge "$(lent "$donor_b_tcp")" ]; }
until_true 60 caught_up
goes_on
kill -KILL "$donor_b_pid"
goes_on
touch "$scratch/stop"
wait "$program" || fail "the program: $(cat "$scratch/run.log")"
grep -q "all bytes are right" "$scratch/out"
no_folder() { [ -z "$(find "$scratch" -maxdepth 1 -name 'infuse-run.*')" ]; }
until_true 30 no_folder
