# SPDX-License-Identifier: MIT
# mmap and its family, malloc and its family, fork, threads, signals and system calls do under
# infuse run what they do plainly, with a local memory far below what is used.
. "$(dirname "$0")/functions.sh"
. "$(dirname "$0")/run-functions.sh"

start_donor a --size 768M --lazy
export INFUSE_PLAIN=0
while read -r name; do
	timeout 60 mappings "$name" || fail "the test itself is wrong: $name"
	timeout 60 infuse run --local 4M --donor "shm:$scratch/a.sock" --stats-file "$scratch/stats" \
		-- mappings "$name" 2> "$scratch/err.log" || fail "$name: status $?: $(tail -n 2 "$scratch/err.log")"
	echo "$name: $(went_out 500)"
done < <(mappings)
