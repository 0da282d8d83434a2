# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# infuse bench --json prints one object a line, with every field that is promised; the floors, too.
. "$(dirname "$0")/functions.sh"
requires userfaultfd
requires jq

check() {
	jq -e -s 'length > 0 and all(.[]; type == "object" and
		(. as $o | all("workload", "transport", "sealed", "replicas", "code", "hashed", "donors", "size_bytes", "local_bytes", "threads", "us_per_page", "cpu_us_per_page",
			"p50_us", "p99_us", "floor_us", "ratio", "faults", "pages_in", "pages_out",
			"prefetch_hits", "write_percent", "hit_ratio", "lru_hit_ratio",
			"overhead_bytes", "overhead_percent", "page_table_bytes", "faults_staged"; . as $k | $o | has($k))))' "$1" > "$scratch/verdict" ||
		fail "a field is missing in: $(cat "$1")"
	[ "$(wc -l < "$1")" -eq "$(jq -s length "$1")" ] || fail "not one object a line: $(cat "$1")"
}

infuse-bench --json --size 16M --local 4M --runs 1 --touches 1000 --prefetch none random > "$scratch/random"
check "$scratch/random"
jq -e '.us_per_page > 0 and .floor_us > 0 and (.ratio - .us_per_page / .floor_us | fabs) < 0.01
	and .p50_us > 0 and .p99_us >= .p50_us and .faults >= 900 and .size_bytes == 16777216
	and .local_bytes == 4194304 and .hit_ratio == null and .overhead_bytes > 0 and .threads == 1 and .transport == "tcp"' "$scratch/random" > "$scratch/verdict" ||
	fail "implausible: $(cat "$scratch/random")"

infuse-bench --json --size 16M --transport local --runs 1 seq > "$scratch/local"
check "$scratch/local"
jq -e '.us_per_page > 0 and .floor_us == null and .pages_in == 0' "$scratch/local" > "$scratch/verdict" ||
	fail "implausible: $(cat "$scratch/local")"

# Two workloads with three shares are six results; a bigger cache hits more often, LRU, too.
infuse-bench --json --size 16M --local 10%,25%,4M --runs 1 --touches 4000 --write-percent 50 random zipf > "$scratch/sweep"
check "$scratch/sweep"
jq -e -s 'length == 6 and ([.[].workload] | unique == ["random", "zipf"]) and
	.[1].local_bytes == .[2].local_bytes and all(.[]; .floor_us > 0 and .write_percent == 50) and
	all(.[3:][]; .hit_ratio > 0.2 and .hit_ratio < 1 and .lru_hit_ratio > 0.2 and .lru_hit_ratio < 1) and
	.[4].lru_hit_ratio > .[3].lru_hit_ratio and .[4].hit_ratio > .[3].hit_ratio' "$scratch/sweep" > "$scratch/verdict" ||
	fail "implausible: $(cat "$scratch/sweep")"

# Copies and fragments: as many servers as they want, and each page written goes to all of its donors.
infuse-bench --json --size 16M --local 4M --runs 1 --no-floor --transport shm fresh > "$scratch/one"
infuse-bench --json --size 16M --local 4M --runs 1 --no-floor --transport shm --replicas 2 fresh > "$scratch/two"
infuse-bench --json --size 16M --local 4M --runs 1 --no-floor --transport shm --code 4+2 --seal fresh > "$scratch/coded"
check "$scratch/one"
check "$scratch/two"
check "$scratch/coded"
jq -e -s '.[0] as $one | .[1] as $two | .[2] as $coded |
	([$one, $two, $coded] | all(.[]; .hashed and .us_per_page > 0 and .cpu_us_per_page > 0 and .pages_out > 1500 and .write_percent == 0)) and
	$one.replicas == 1 and $one.donors == 1 and $one.code == null and ($one.sealed | not) and
	$two.replicas == 2 and $two.donors == 2 and $two.code == null and
	$coded.replicas == null and $coded.donors == 6 and $coded.code == "4+2" and $coded.sealed and
	$two.bytes_out > 1.9 * $one.bytes_out and $two.bytes_out < 2.1 * $one.bytes_out and
	$coded.bytes_out > 1.4 * $one.bytes_out and $coded.bytes_out < 1.6 * $one.bytes_out' "$scratch/one" "$scratch/two" "$scratch/coded" > "$scratch/verdict" ||
	fail "implausible: $(cat "$scratch/one" "$scratch/two" "$scratch/coded")"

# The program that measures what hashing costs says that it has none, and has not lost its bytes.
infuse-bench-unhashed --json --size 16M --local 4M --runs 1 --no-floor --touches 4000 --transport shm --write-percent 50 random seq fresh > "$scratch/unhashed"
jq -e -s 'length == 3 and all(.[]; .hashed == false and .us_per_page > 0)' "$scratch/unhashed" > "$scratch/verdict" ||
	fail "implausible: $(cat "$scratch/unhashed")"
