# SPDX-License-Identifier: MIT
# In the 5 s after a donor's death, while what it held is made anew, a heap does at least 80% of what it did in
# the 5 s before. With two copies, and with 4+2.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
# shellcheck source=tests/death-functions.sh
. "$(dirname "$0")/death-functions.sh"
# shellcheck source=tests/death-heap-functions.sh
. "$(dirname "$0")/death-heap-functions.sh"
requires userfaultfd
lender_size=192M

# It stays dead for these 5 s: the others take over what it held.
one_dies() { kill_lender "${names[$1]}"; }
comes_back() {
	is_hurt || fail "nothing was lost"
	again "${names[$1]}"
	wait_for is_whole
}

begin_use() { start_heap "$way" "$count" --size 64M --local 8M "${options[@]}"; }
end_use() {
	local name
	end_heap
	for name in "${names[@]:0:$count}"; do kill_lender "$name"; done
}

keeps_its_speed() {
	way=$1 count=$2
	shift 2
	options=("$@")
	speed_is_kept "$* over $way"
}

watch_machine
keeps_its_speed unix 3 --replicas 2 --mode handler
keeps_its_speed shm 7 --code 4+2 --mode sigbus
