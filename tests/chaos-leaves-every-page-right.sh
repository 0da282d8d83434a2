#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# infuse bench chaos: faults of many kinds on real servers under a heap and an NBD volume that check every
# page: no error, no mismatch. A seed is a plan; a signal ends it with nothing left behind. INFUSE_MINUTES
# and INFUSE_SEED play more.
. "$(dirname "$0")/functions.sh"
requires userfaultfd
requires jq
requires nbdkit
[ "$(id -u)" = 0 ] || skip "namespaces of its own are root's"

children() { cat "/proc/$1/task/$1/children" 2> /dev/null; }
gone() { ! kill -0 "$1" 2> /dev/null; }
played() { grep -q whole_after "$scratch/out"; }

# The same seed, the same plan; another one, another.
infuse bench chaos --plan --faults 60 --seed 7 --json > "$scratch/plan"
infuse bench chaos --plan --faults 60 --seed 7 --json | cmp - "$scratch/plan" || fail "a seed is not a plan"
infuse bench chaos --plan --faults 60 --seed 8 --json | cmp -s - "$scratch/plan" && fail "all seeds are one plan"
for kind in kill stop cut flap delay loss disk disk-kill pause still; do
	grep -q "\"kind\":\"$kind\"" "$scratch/plan" || fail "no $kind in 60 faults"
done

export TMPDIR="$scratch/tmp"
mkdir "$TMPDIR"
rc=0
faults=$([ -n "${INFUSE_MINUTES:-}" ] && echo 1000000000 || echo 6)
infuse bench chaos --seed "${INFUSE_SEED:-38}" --minutes "${INFUSE_MINUTES:-5}" --faults "$faults" --json \
	> "$scratch/out" 2> "$scratch/chaos.log" || rc=$?
cp "$scratch/out" "$scratch/faults.log"
[ "$rc" -eq 0 ] || fail "it ended with $rc: $(tail -n 1 "$scratch/chaos.log")"
sum=$(tail -n 1 "$scratch/out")
for want in '.errors == 0' '.mismatches == 0' '.stopped == null' '.heap_checks > 10000' \
	'.faults + .passed_over >= 6'; do
	jq -e "$want" <<< "$sum" > /dev/null || fail "not $want: $sum"
done
# What it played is what the plan said.
diff <(infuse bench chaos --plan --faults 6 --seed "${INFUSE_SEED:-38}" --json | jq -c '[.kind, .donor, .length_ms]') \
	<(jq -c 'select(.kind) | [.kind, .donor, .length_ms]' "$scratch/out" | head -n 6) || fail "another plan was played"
[ -z "$(ls "$TMPDIR")" ] || fail "it left $(ls -R "$TMPDIR")"
echo "$sum"

# By a terminal's signal, in the middle of something.
setsid infuse-bench chaos --seed 5 --minutes 5 --json > "$scratch/out" 2> "$scratch/chaos.log" &
bench=$!
started+=("$bench")
until_true 90 played
others=$(children "$bench")
[ "$(wc -w <<< "$others")" -ge 7 ] || fail "only $others run"
kill -INT -- "-$bench"
until_true 60 gone "$bench"
for pid in $others; do until_true 5 gone "$pid"; done
[ -z "$(ls "$TMPDIR")" ] || fail "after a signal it left $(ls -R "$TMPDIR")"
tail -n 1 "$scratch/out" | jq -e '.stopped == "a signal" and .errors == 0' > /dev/null || fail "$(tail -n 1 "$scratch/out")"

# Killed without a word it leaves no process either, not even one that was just stopped.
infuse-bench chaos --seed 5 --minutes 5 --json > "$scratch/out" 2> "$scratch/chaos.log" &
bench=$!
started+=("$bench")
many() { [ "$(children "$1" | wc -w)" -ge 7 ]; }
until_true 60 many "$bench"
others=$(children "$bench")
kill -STOP "${others%% *}"
kill -KILL "$bench"
for pid in $others; do until_true 20 gone "$pid"; done
