# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# The heap's choice of victims has at least 0.95 of LRU's hits on skewed touches, is nowhere far below a
# FIFO, and nothing has more hits than Belady's MIN; a trace can come from a file.
. "$(dirname "$0")/functions.sh"
requires jq

infuse-bench residency --size 16M --json > "$scratch/all"
holds() { jq -e -s "$2" "$scratch/all" > "$scratch/verdict" || fail "$1: $(cat "$scratch/all")"; }
holds "a trace is missing" 'length >= 12 and all(.[]; .touches > 0 and .pages == 4096)'
holds "more hits than MIN" 'all(.[]; .hits <= .hits_min + 1e-9 and .hits_lru <= .hits_min + 1e-9
	and .hits_fifo <= .hits_min + 1e-9)'
holds "too few hits on zipf" '[.[] | select(.trace == "zipf")] | length == 4 and all(.[]; .hits >= 0.95 * .hits_lru)'
holds "far below a FIFO" 'all(.[]; .hits >= 0.95 * .hits_fifo - 0.01)'
holds "a loop keeps nothing" 'any(.[]; .trace == "loop" and .hits_lru < 0.01 and .hits > 0.3)'

# Three pages in turn and room for two: LRU never hits, MIN every second time.
for _ in $(seq 300); do printf '0\n1\n2\n'; done > "$scratch/turns"
infuse-bench residency --local 8K --json "$scratch/turns" > "$scratch/all"
holds "a file's trace" 'length == 1 and (.[0] | .pages == 3 and .touches == 600 and .hits_lru == 0 and
	(.hits_min - 0.5 | fabs) < 0.01 and .hits <= .hits_min)'
printf '\1\0\0\0\2\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0' > "$scratch/turns.bin"
infuse-bench residency --local 8K --json "$scratch/turns.bin" > "$scratch/all"
holds "a binary trace" '.[0] | .pages == 3 and .touches == 4 and .hits_lru == 1'

echo "seven" > "$scratch/bad"
! infuse-bench residency "$scratch/bad" 2> "$scratch/err" || fail "read a trace of words"
grep -q "seven" "$scratch/err" || fail "says '$(cat "$scratch/err")'"
