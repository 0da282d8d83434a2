# SPDX-License-Identifier: MIT
# replicas=2 on three donors: each round one of them, a different one each time, is killed while fio
# writes and verifies, and comes back empty; no I/O error, no wrong byte, and the volume is whole
# again before the next round. INFUSE_ROUNDS says how many rounds; then erasure coding, a few.
. "$(dirname "$0")/functions.sh"
. "$(dirname "$0")/nbd-functions.sh"
requires fio
requires jq
fio --enghelp | grep -q '\<nbd\>' || skip "fio was built without its nbd engine"
rounds=${INFUSE_ROUNDS:-100}

# rounds_of NAMES N SIZE PARAMETERS...
rounds_of() {
	local names i name donors=() n=$2 size=$3 begin
	read -ra names <<< "$1"
	shift 3
	for name in "${names[@]}"; do
		serve "$name"
		donors+=("donor=tcp:127.0.0.1:${port[$name]}")
	done
	nbd_volume=v$size$#${#names[@]}
	start_nbd "$nbd_volume" "$size" deadline=5s "${donors[@]}" "$@"
	begin=$SECONDS
	for ((i = 0; i < n; i++)); do
		name=${names[i % ${#names[@]}]}
		timeout 60 fio --name=r --ioengine=nbd --uri="$(nbd_uri "$nbd_volume")" --verify=crc32c --verify_fatal=1 \
			--rw=randwrite --bsrange=4k-64k --size="$size" --io_size="$size" --iodepth=8 --randseed=$((i + 1)) \
			--rate=,40m --minimal > "$scratch/fio.log" 2>&1 &
		fio=$!
		started+=("$fio")
		read -rt "0.$((RANDOM % 3))$((RANDOM % 10))" <> <(:) || true
		kill_donor "$name"
		wait "$fio" || fail "round $i: fio: $(tail -n 4 "$scratch/fio.log")"
		serve "$name"
		# Whole again: nobody is to be killed who has the only copy.
		until_true 30 whole "$i"
	done
	echo "$* on ${#names[@]} donors: $n rounds in $((SECONDS - begin)) s"
	kill "$(cat "$scratch/$nbd_volume.pid")"
	for name in "${names[@]}"; do kill_donor "$name"; done
	port=()
}

# The plugin says so: a line each time its health changes.
whole() {
	local log="$scratch/$nbd_volume.nbdkit.log"
	[ "$(grep -c 'have lost a copy' "$log")" -gt "$1" ] && tail -n 1 "$log" | grep -q 'the volume is whole again'
}

rounds_of "a b c" "$rounds" 16M replicas=2
rounds_of "a b c d" "$((rounds / 20 + 1))" 12M code=2+1
