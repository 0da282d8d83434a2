# SPDX-License-Identifier: MIT
# qemu uses a volume as a disk: its tools see it, convert an image into it and find it equal, write
# and check patterns at odd places, and discard.
. "$(dirname "$0")/functions.sh"
. "$(dirname "$0")/nbd-functions.sh"
requires qemu-img
requires qemu-io
requires jq

start_donor a --size 64M --slab 256K
start_nbd v 48M donor="$donor_a_tcp"
uri=$(nbd_uri v)

[ "$(timeout 30 qemu-img info --output=json "$uri" | jq '."virtual-size"')" = $((48 << 20)) ] || fail "not its size"
head -c 10000000 /dev/urandom > "$scratch/raw"
truncate -s 48M "$scratch/raw"
timeout 60 qemu-img convert -f raw -O qcow2 "$scratch/raw" "$scratch/image.qcow2"
timeout 60 qemu-img convert -n -O raw "$scratch/image.qcow2" "$uri"
timeout 60 qemu-img compare -f qcow2 -F raw "$scratch/image.qcow2" "$uri" > "$scratch/out" || fail "$(cat "$scratch/out")"
timeout 60 qemu-io -f raw "$uri" -c 'write -P 0x5a 512 1536' -c 'write -P 0xa5 1048000 3000000' -c 'read -P 0x5a 512 1536' \
	-c 'read -P 0xa5 1048000 3000000' -c 'write -z 1050000 1000000' -c 'read -P 0 1050000 1000000' \
	-c 'read -P 0xa5 2050000 1998000' -c 'discard 0 40M' -c 'read -P 0 0 40M' -c 'flush' > "$scratch/out" 2>&1 ||
	fail "$(cat "$scratch/out")"
! grep -qi 'verification failed\|error' "$scratch/out" || fail "$(cat "$scratch/out")"
map=$(timeout 30 qemu-img map --output=json -f raw "$uri")
[ "$(jq '[.[] | select(.data)] | length' <<< "$map")" = 0 ] || fail "what was discarded holds data: $map"

# It boots from it: a boot sector that says so on the serial port and leaves (33: out 0x501, 0x10).
command -v qemu-system-x86_64 > /dev/null || { echo "qemu-system-x86_64 is not installed: nothing is booted"; exit 0; }
{
	printf '\x31\xc0\x8e\xd8\xbe\x1b\x7c\xba\xf8\x03\xac\x84\xc0\x74\x03\xee\xeb\xf8'
	printf '\xba\x01\x05\xb0\x10\xee\xf4\xeb\xfdbooted from a volume\n\0'
} > "$scratch/boot"
truncate -s 510 "$scratch/boot"
printf '\x55\xaa' >> "$scratch/boot"
truncate -s 48M "$scratch/boot"
timeout 60 qemu-img convert -n -f raw -O raw "$scratch/boot" "$uri"
rc=0
timeout 90 qemu-system-x86_64 -M q35 -accel tcg -m 64 -display none -nodefaults -no-reboot -serial "file:$scratch/serial" \
	-device isa-debug-exit,iobase=0x501,iosize=4 -drive "file=$uri,format=raw,if=virtio" > "$scratch/out" 2>&1 || rc=$?
[ $rc = 33 ] || fail "qemu ended with $rc: $(cat "$scratch/out" "$scratch/serial")"
grep -q 'booted from a volume' "$scratch/serial" || fail "the guest said: $(cat "$scratch/serial")"
