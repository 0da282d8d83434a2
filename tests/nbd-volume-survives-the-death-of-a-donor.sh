# SPDX-License-Identifier: MIT
# Each round a donor, a different one each time, is killed while fio writes and verifies a volume, and comes
# back empty: no I/O error, no wrong byte, the 99th percentile of the longest waits after deaths is a second
# at most, and the volume is whole again before the next round. With two copies, and with 4+2.
# INFUSE_ROUNDS is how many deaths each (100).
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
rounds=${INFUSE_ROUNDS:-100}

# rounds_of NAMES SIZE PARAMETERS...
rounds_of() {
	local names i name begin=$SECONDS times=()
	read -ra names <<< "$1"
	# A death is a closed connection. What only answers late on a busy machine is alive: dropped for that
	# just before another one is killed it would take data along.
	start_volume "$@" suspect=3s deadline=10s
	for ((i = 0; i < rounds; i++)); do
		name=${names[i % ${#names[@]}]}
		read -rt "0.0$((RANDOM % 10))" <> <(:) || true
		lost_before=$(losses)
		times+=("$(now_us)")
		kill_donor "$name"
		wait_for is_hurt
		revive "$name"
		# Nobody is to be killed who has the only copy.
		wait_for is_whole
	done
	end_volume
	fio_series "$scratch/fio/f" > "$scratch/series"
	shift 2
	echo "$* on ${#names[@]} donors: $rounds deaths in $((SECONDS - begin)) s," \
		"$(jq -r '.jobs[0] | "\(.write.io_bytes / 1048576 | floor) MiB written, \(.read.io_bytes / 1048576 | floor) MiB verified"' < <(sed '1,/^{/{/^{/!d}' "$scratch/fio/out"))"
	stalls_are_short "$*" "$scratch/series" "${times[@]}"
}

watch_machine
rounds_of "a b c" 16M replicas=2
rounds_of "a b c d e f g" 16M code=4+2
