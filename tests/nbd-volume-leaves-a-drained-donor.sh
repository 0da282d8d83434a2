# SPDX-License-Identifier: MIT
# fio writes through NBD and finds every checksum again while each of two donors is drained in turn: it is empty
# while the volume is in use, and no I/O fails. A rebalancing then gives it its share.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
# shellcheck source=tests/nbd-functions.sh
. "$(dirname "$0")/nbd-functions.sh"
requires fio
requires jq
fio --enghelp | grep -q '\<nbd\>' || skip "fio was built without its nbd engine"

start_donor a --size 96M --slab 1M
start_donor b --size 96M --slab 1M
start_nbd v 64M donor="$donor_a_tcp" donor="unix:$scratch/b.sock"
lent() { infuse donors --timeout 10s --donor "$1" --json | jq '.donors[0].lent_bytes / 1048576 | floor'; }

cd "$scratch"
timeout 200 fio --name=v --ioengine=nbd --uri="$(nbd_uri v)" --verify=crc32c --verify_fatal=1 --verify_dump=0 \
	--rw=randwrite --bsrange=4k-64k --size=64m --io_size=6g --iodepth=8 --rate=,50m --runtime=40 --time_based \
	--verify_backlog=256 --minimal > "$scratch/fio.log" 2>&1 &
fio=$!
started+=("$fio")
has_some() { [ "$(lent "$1")" -ge 8 ]; }
until_true 30 has_some "$donor_a_tcp"
for donor in "$donor_a_tcp" "$donor_b_tcp"; do
	had=$(lent "$donor")
	begun=$SECONDS
	infuse drain --wait-at-most 60s --timeout 10s "$donor" > "$scratch/drain" ||
		fail "not empty: $(cat "$scratch/drain")"
	kill -0 "$fio" || fail "fio ended: $(tail -n 5 "$scratch/fio.log")"
	echo "$had MiB left $donor in $((SECONDS - begun)) s"
	infuse drain --undo --timeout 10s "$donor" > /dev/null
done
infuse rebalance --timeout 10s --margin 2 --donor "$donor_a_tcp" --donor "$donor_b_tcp" > "$scratch/balance"
until_true 60 has_some "$donor_b_tcp"
wait "$fio" || fail "fio: $(tail -n 5 "$scratch/fio.log")"
! grep -qi error "$scratch/v.nbdkit.log" || fail "$(cat "$scratch/v.nbdkit.log")"
