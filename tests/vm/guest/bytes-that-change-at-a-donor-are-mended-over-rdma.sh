# SPDX-License-Identifier: MIT
. /test/functions.sh
. /test/rswap.sh
load dummy
ip link add wire type dummy
ip addr add 10.9.0.1/24 dev wire
ip link set wire up
load_rswap
start_donor none 8M 10.9.0.1 4773
refused "see the kernel's log" infuse attach rswap0 --size 4M --donor "${donor[none]},rdma:10.9.0.1:4773"
dmesg | grep -q "no RDMA device of this node leads there" || fail "the log does not tell what is missing"
add_rxe wire
refused "see the kernel's log" infuse attach rswap0 --size 4M --donor "${donor[none]},rdma:10.9.0.1:4773"
kill_donor none
step "clear words"
infuse key gen /tmp/key
infuse key gen /tmp/other
# shellcheck disable=SC2034 # start_donor reads it
donor_options=(--key /tmp/key --allow-plain --slab 1M)
start_donor a 48M 10.9.0.1 4771 rdma
start_donor b 48M 10.9.0.1 4772 rdma
refused "" infuse attach rswap0 --size 8M --donor "${donor[a]}"
refused "" infuse attach rswap0 --size 8M --donor "${donor[a]}" --key /tmp/other
infuse attach rswap0 --size 16M --replicas 2 --deadline 8s --donor "${donor[a]}" --donor "${donor[b]}" --key /tmp/key
step "attached with tokens"

# Every hundredth page can be found again.
dd if=/dev/urandom of=/tmp/data bs=1M count=16 2> /dev/null
for ((i = 0; i < 4096; i += 100)); do
	printf 'MARK-%04d-' $i | dd of=/tmp/data bs=4k seek=$i conv=notrunc 2> /dev/null
done
dd if=/tmp/data of=/dev/rswap0 bs=1M oflag=direct 2> /dev/null
slabs_of_a() {
	local fd
	for fd in /proc/"${donor_pid[a]}"/fd/*; do
		case $(readlink "$fd") in *infuse-slab*) echo "$fd" ;; esac
	done
}
# change FILE AT: a byte of a slab, in the donor's own mapping of it.
change() {
	local range offset _ pid=${donor_pid[a]}
	grep infuse-slab "/proc/$pid/maps" > /tmp/maps
	while read -r range _ offset _; do
		[ "$1" -ef "/proc/$pid/map_files/$range" ] || continue
		printf m | dd of="/proc/$pid/mem" bs=1 seek=$((0x${range%-*} + $2 - 0x$offset)) conv=notrunc 2> /tmp/dd.err ||
			fail "$(cat /tmp/dd.err)"
		return
	done < /tmp/maps
	fail "$1 is mapped nowhere"
}
flipped=0
for fd in $(slabs_of_a); do
	for at in $( (grep -abo 'MARK-[0-9]*00-' "$fd" || true) | cut -d : -f 1); do
		change "$fd" "$at"
		flipped=$((flipped + 1))
	done
done
[ "$flipped" = 41 ] || fail "$flipped pages were changed, not 41"
dd if=/dev/rswap0 of=/tmp/back bs=64k iflag=direct 2> /dev/null
cmp /tmp/data /tmp/back
found=$(counter rswap0 bad_hashes)
# The other replica is asked for some slabs.
[ "$found" -ge 5 ] || fail "only $found of $flipped were found"
[ "$(counter rswap0 errors)" = 0 ] || fail "errors"
until_true 30 eval '[ "$(counter rswap0 repaired)" -ge $found ]'
wrong=$(for fd in $(slabs_of_a); do grep -abo 'mARK-[0-9]*00-' "$fd" || true; done | wc -l)
[ "$wrong" = $((flipped - found)) ] || fail "$wrong pages of $flipped are wrong at the donor, and $found were found"
step "$flipped pages were changed, $found were read, and are right again at the donor"
infuse detach rswap0
rmmod rswap
step over
