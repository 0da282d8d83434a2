# SPDX-License-Identifier: MIT
# In a guest: wrong use gets a clear error; wrong bytes are caught, read elsewhere and mended; a page
# whose last replica is gone is an error in bounded time, and only that page; discards give memory back.
. /test/functions.sh

donor() {
	rm -f "/tmp/$1.ready"
	infuse-memory-server --name "$1" --listen "tcp:127.0.0.1:$2" --size 64M --slab 1M --lazy \
		--no-registry --ready-file "/tmp/$1.ready" > "/tmp/$1.log" 2>&1 &
	eval "pid_$1=$!"
	until_true 30 test -s "/tmp/$1.ready"
}
counter() { cat "/sys/block/rswap0/rswap/$1"; }
is() { [ "$(counter "$1")" = "$2" ]; }
a=tcp:127.0.0.1:4771 b=tcp:127.0.0.1:4772
read_page() { dd if=/dev/rswap0 of=/tmp/page bs=4k count=1 skip="$1" iflag=direct 2> /dev/null; }
dd if=/dev/urandom of=/tmp/data bs=1M count=16 2> /dev/null

step "wrong use"
refused "is not loaded: modprobe rswap" infuse devices
refused "is not loaded: modprobe rswap" infuse attach rswap0 --size 8M --donor $a
load rswap
refused "$a" infuse attach rswap0 --size 8M --donor $a
donor a 4771
refused "not a device's name" infuse attach Rswap/0 --size 8M --donor $a
refused "--size says" infuse attach rswap0 --donor $a
refused "2 replicas need as many donors" infuse attach rswap0 --size 8M --replicas 2 --donor $a
refused "which is not enough" infuse attach rswap0 --size 8G --donor $a
refused "are the same donor" infuse attach rswap0 --size 8M --donor $a --donor tcp:localhost:4771
refused "there is no such device" infuse detach rswap0
infuse attach rswap0 --size 16M --donor $a
refused "the device exists" infuse attach rswap0 --size 8M --donor $a
infuse donors --donor $a --json | grep -q '"free_bytes":50331648' ||
	fail "a refused attach kept slabs: $(infuse donors --donor $a --json)"
exec 9< /dev/rswap0
refused "is in use" infuse detach rswap0 --timeout 200ms
! rmmod rswap 2> /dev/null || fail "rmmod of a module in use"
exec 9<&-

step "discards"
dd if=/tmp/data of=/dev/rswap0 bs=1M oflag=direct 2> /dev/null
held() { awk '/RssShmem/ { print $2 }' "/proc/$pid_a/status"; }
full=$(held) # programs in a guest's memory are counted as well
[ "$full" -ge 16384 ] || fail "the donor holds $full KiB only"
blkdiscard -o 4M -l 8M /dev/rswap0
is pages_trimmed 2048 || fail "$(counter discards) discards, $(counter pages_trimmed) pages trimmed"
given() { [ "$(held)" -le $((full - 8000)) ]; }
until_true 20 given # the donor is told behind the discard
before=$(counter messages)
dd if=/dev/zero of=/tmp/data bs=1M seek=4 count=8 conv=notrunc 2> /dev/null
dd if=/dev/rswap0 of=/tmp/back bs=1M skip=4 count=8 iflag=direct 2> /dev/null
[ "$(counter messages)" = "$before" ] || fail "zeros were asked for"
dd if=/dev/rswap0 of=/tmp/back bs=256k iflag=direct 2> /dev/null
cmp /tmp/back /tmp/data

step "a donor that stops for a moment is waited for"
kill -STOP "$pid_a"
(sleep 1; kill -CONT "$pid_a") &
read_page 3
cmp -n 4096 /tmp/page /tmp/data 0 12288
is errors 0; is timeouts 0

step "the last replica dies: an error in time, of what is lost only"
kill -9 "$pid_a"; wait "$pid_a" 2> /dev/null || true
start=$(now_ms)
! read_page 3 || fail "a lost page was read"
took=$(($(now_ms) - start))
[ "$took" -lt 9000 ] || fail "the error took $took ms"
dmesg | grep -q "rswap0: 1 pages from page 3 on can't be read: donor '$a' is gone" || fail "the log names no donor"
start=$(now_ms)
for i in 4 5 6 7 8 9 10 11; do ! read_page $i || fail "a lost page was read"; done
[ $(($(now_ms) - start)) -lt 4000 ] || fail "each lost page is waited for anew"
read_page 1500
cmp -n 4096 /tmp/page /dev/zero
donor a 4771
until_true 30 is lost 8 # of 16: the others hold zeros
! read_page 3 || fail "a lost page was read from the new donor"
dd if=/tmp/data of=/dev/rswap0 bs=4k count=1 seek=4 oflag=direct 2> /dev/null
dd if=/dev/rswap0 of=/tmp/page bs=4k skip=4 count=1 iflag=direct 2> /dev/null
cmp -n 4096 /tmp/page /tmp/data
# One request over a page that is there and some that are lost: only those fail.
dd if=/dev/rswap0 of=/tmp/page bs=64k count=1 iflag=direct conv=noerror,sync 2> /dev/null || true
! read_page 5 || fail "a lost page was read"
read_page 4
infuse devices
infuse detach rswap0

step "wrong bytes"
donor b 4772
infuse attach rswap0 --size 16M --replicas 2 --donor $a --donor $b
dd if=/tmp/data of=/dev/rswap0 bs=1M oflag=direct 2> /dev/null
echo 100 > /sys/module/rswap/parameters/corrupt
dd if=/dev/rswap0 of=/tmp/back bs=128k iflag=direct 2> /dev/null
cmp /tmp/data /tmp/back
[ "$(counter bad_hashes)" -ge 10 ] || fail "$(counter bad_hashes) wrong pages were found"
echo 0 > /sys/module/rswap/parameters/corrupt
until_true 10 eval '[ "$(counter repaired)" -ge 5 ]'
is errors 0; is state ok
infuse detach rswap0
infuse attach rswap0 --size 16M --donor $a
dd if=/tmp/data of=/dev/rswap0 bs=1M oflag=direct 2> /dev/null
echo 1 > /sys/module/rswap/parameters/corrupt
! read_page 1 || fail "wrong bytes were handed out"
dmesg | grep -q "come back wrong from donor '$a'" || fail "the log names no donor"
echo 0 > /sys/module/rswap/parameters/corrupt
read_page 1

step "a donor that hangs: the other replica, in time"
infuse detach rswap0
infuse attach rswap0 --size 16M --replicas 2 --deadline 1s --donor $a --donor $b
dd if=/tmp/data of=/dev/rswap0 bs=1M oflag=direct 2> /dev/null
kill -STOP "$pid_a"
start=$(now_ms)
dd if=/dev/rswap0 of=/tmp/back bs=1M iflag=direct 2> /dev/null
cmp /tmp/data /tmp/back
[ $(($(now_ms) - start)) -lt 8000 ] || fail "it took $(($(now_ms) - start)) ms"
is timeouts 1; is errors 0
dd if=/tmp/data of=/dev/rswap0 bs=1M oflag=direct 2> /dev/null
is state degraded
kill -CONT "$pid_a"
until_true 30 is state ok
dd if=/dev/rswap0 of=/tmp/back bs=1M iflag=direct 2> /dev/null
cmp /tmp/data /tmp/back

step "keys"
infuse detach rswap0
infuse key gen /tmp/key
infuse key gen /tmp/other
kill "$pid_b"; wait "$pid_b" 2> /dev/null || true
infuse-memory-server --name k --listen tcp:127.0.0.1:4773 --key /tmp/key --allow-plain --size 32M --slab 1M \
	--lazy --no-registry --ready-file /tmp/k.ready > /tmp/k.log 2>&1 &
until_true 30 test -s /tmp/k.ready
k=tcp:127.0.0.1:4773
refused "$k" infuse attach rswap0 --size 8M --donor $k
refused "$k" infuse attach rswap0 --size 8M --donor $k --key /tmp/other
infuse attach rswap0 --size 8M --donor $k --key /tmp/key
dd if=/tmp/data of=/dev/rswap0 bs=1M count=8 oflag=direct 2> /dev/null
dd if=/dev/rswap0 of=/tmp/back bs=1M iflag=direct 2> /dev/null
cmp -n 8388608 /tmp/data /tmp/back
infuse detach rswap0
infuse attach rswap0 --size 16M --donor $a

step "rmmod takes idle devices along"
rmmod rswap
given_back() { infuse donors --donor $a --json | grep -q '"free_bytes":67108864'; }
until_true 10 given_back
