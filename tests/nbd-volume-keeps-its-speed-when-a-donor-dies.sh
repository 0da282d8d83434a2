# SPDX-License-Identifier: MIT
# In the 5 s after a donor's death, while what it held is made anew, fio writes and verifies at least 80% of
# what it did in the 5 s before. With two copies, and with 4+2.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
# shellcheck source=tests/nbd-functions.sh
. "$(dirname "$0")/nbd-functions.sh"
# shellcheck source=tests/death-functions.sh
. "$(dirname "$0")/death-functions.sh"
# shellcheck source=tests/death-nbd-functions.sh
. "$(dirname "$0")/death-nbd-functions.sh"
requires fio
requires jq
fio --enghelp | grep -q '\<nbd\>' || skip "fio was built without its nbd engine"

# It stays dead for these 5 s: the others take over what it held.
one_dies() {
	lost_before=$(losses)
	kill_donor "${names[$1]}"
}
comes_back() {
	is_hurt || fail "nothing was lost"
	revive "${names[$1]}"
	wait_for is_whole
}

begin_use() { start_volume "${volume[@]}"; }
end_use() {
	end_volume
	fio_series "$scratch/fio/f" > "$scratch/series"
}

keeps_its_speed() {
	volume=("$@")
	read -ra names <<< "$1"
	speed_is_kept "$3"
}

watch_machine
keeps_its_speed "a b c" 16M replicas=2
keeps_its_speed "a b c d e f g" 16M code=4+2
