#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What a seed does follows from the seed alone: played twice, also among others and at another place
# in memory, everything that is told is equal to the byte.
. "$(dirname "$0")/functions.sh"

for seed in 3 107 219 758; do
	infuse-sim --quiet --seed "$seed" --verbose > "$scratch/a"
	infuse-sim --quiet --seed "$seed" --verbose > "$scratch/b"
	cmp "$scratch/a" "$scratch/b" || fail "seed $seed is not the same twice"
	[ "$(wc -l < "$scratch/a")" -gt 20 ] || fail "seed $seed tells nothing"
	# After others, what those left in memory must make no difference.
	infuse-sim --quiet --first $((seed - 2)) --seeds 3 --verbose |
		sed -n "/ seed $seed: /,\$p" | grep -v ' seeds: ' > "$scratch/c"
	diff <(grep -v -e ' seeds: ' -e ' digest ' "$scratch/a") "$scratch/c" > "$scratch/diff" ||
		fail "seed $seed is another one after seed $((seed - 1)): $(head -n 5 "$scratch/diff")"
done
infuse-sim --seeds 1 --frobnicate 2> /dev/null && fail "an unknown option is taken"
echo "four seeds are the same again"
