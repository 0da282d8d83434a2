# SPDX-License-Identifier: MIT
# fio writes at random with mixed sizes over several connections, trims in between, and finds every
# block's checksum again.
. "$(dirname "$0")/functions.sh"
. "$(dirname "$0")/nbd-functions.sh"
requires fio
fio --enghelp | grep -q '\<nbd\>' || skip "fio was built without its nbd engine"

start_donor a --size 96M
start_donor b --size 96M
start_nbd v 128M donor="$donor_a_tcp" donor="unix:$scratch/b.sock"

# fio_run NAME OPTIONS...: it must end well; fio's engine has one connection a job.
fio_run() {
	local name=$1; shift
	timeout 100 fio --name="$name" --ioengine=nbd --uri="$(nbd_uri v)" --verify=crc32c \
		--verify_fatal=1 --verify_dump=0 --randrepeat=1 --minimal "$@" > "$scratch/fio.log" 2>&1 ||
		fail "fio $name: $(tail -n 5 "$scratch/fio.log")"
}
cd "$scratch"
fio_run mixed --rw=randwrite --bsrange=4k-1m --bs_unaligned=0 --size=120m --iodepth=16
fio_run small --rw=randrw --bs=4k --size=24m --iodepth=32
fio_run odd --rw=randwrite --bsrange=512-70000 --bs_unaligned=1 --size=12m --iodepth=8
# fio has a block's trim and write under way together if it may.
fio_run discards --rw=randtrimwrite --bs=64k --size=32m --iodepth=1
for i in 0 1 2 3; do
	timeout 100 fio --name="jobs$i" --ioengine=nbd --uri="$(nbd_uri v)" --verify=crc32c --verify_fatal=1 \
		--rw=randwrite --bsrange=1k-128k --bs_unaligned=1 --offset=$((i * 32))m --size=24m \
		--iodepth=8 --minimal > "$scratch/jobs$i.log" 2>&1 &
	started+=($!)
	jobs[i]=$!
done
for i in 0 1 2 3; do
	wait "${jobs[i]}" || fail "fio's job $i: $(tail -n 5 "$scratch/jobs$i.log")"
done
