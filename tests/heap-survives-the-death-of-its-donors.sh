# SPDX-License-Identifier: MIT
# Donors are killed one after the other, and started again, under a heap that is checked word by word
# by four threads: no error, no difference, the 99th percentile of the longest waits after deaths is a second
# at most, and each time all slabs have all their members again. With two copies, and with 4+2.
# INFUSE_ROUNDS is how many deaths each (100).
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
# shellcheck source=tests/death-functions.sh
. "$(dirname "$0")/death-functions.sh"
# shellcheck source=tests/death-heap-functions.sh
. "$(dirname "$0")/death-heap-functions.sh"
requires userfaultfd

rounds=${INFUSE_ROUNDS:-$([ -n "${INFUSE_SANITIZE:-}" ] && echo 10 || echo 100)}

# survive WAY DONORS OPTIONS...
survive() {
	local way=$1 count=$2 i name times=()
	shift 2
	# A death is a closed connection. What only answers late on a busy machine is alive: dropped for that
	# just before another one is killed it would take data along.
	start_heap "$way" "$count" --size 12M --local 2M --suspect 3s --deadline 10s "$@"
	for ((i = 0; i < rounds; i++)); do
		name=${names[$((i % count))]}
		times+=("$(now_us)")
		kill_lender "$name"
		was_noticed
		again "$name"
		wait_for is_whole
	done
	end_heap
	echo "$* over $way: $rounds deaths, $lost members lost, $rebuilt slabs rebuilt, $checks checks," \
		"longest step $longest ms"
	stalls_are_short "$* over $way" "$scratch/series" "${times[@]}"
	[ $((idle_deaths * 10)) -le "$rounds" ] || fail "$idle_deaths of the donors that died held nothing"
	[ "$rebuilt" -gt "$rounds" ] || fail "only $rebuilt slabs were rebuilt"
	for name in "${names[@]:0:$count}"; do kill_lender "$name"; done
}

watch_machine
survive unix 3 --replicas 2 --mode handler
# Seven servers under ThreadSanitizer on few cores miss deadlines by themselves.
[ "${INFUSE_SANITIZE:-}" = thread ] || survive shm 7 --code 4+2 --mode sigbus
