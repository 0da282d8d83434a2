# SPDX-License-Identifier: MIT
# The first guest has the donors, the second our device.
. /test/functions.sh
. /test/rswap.sh
join_guests
add_rxe eth0
if [ "$ROLE" = 1 ]; then
	start_donor a 128M 10.9.0.1 4771 rdma
	start_donor b 128M 10.9.0.1 4772 rdma
	meet donors
	meet over
	for port in 4771 4772; do
		infuse donors --donor tcp:10.9.0.1:$port --json | grep -q '"free_bytes":134217728' ||
			fail "the donor on $port still lends what nobody has"
	done
	exit 0
fi
meet donors
load_rswap
donors=(--donor "tcp:10.9.0.1:4771,rdma:10.9.0.1:4771" --donor "tcp:10.9.0.1:4772,rdma:10.9.0.1:4772")
infuse attach rswap0 --size 96M --replicas 2 --deadline 8s "${donors[@]}"
step attached
swap_on rswap0
in_cgroup 24M swap-touch 48 3
[ "$(counter rswap0 pages_read)" -gt 6144 ] || fail "only $(counter rswap0 pages_read) pages were read"
swapoff /dev/rswap0
step "a program of twice its limit: $(counter rswap0 pages_read) pages in, $(counter rswap0 pages_written) out"
DEVICE=/dev/rswap0 SIZE=32M fio --minimal /test/fio/verify.fio > /tmp/fio || { cat /tmp/fio; fail "fio"; }
for name in errors bad_hashes timeouts failovers; do
	[ "$(counter rswap0 $name)" = 0 ] || fail "$name: $(counter rswap0 $name)"
done
step "fio: $(counter rswap0 writes) writes, $(counter rswap0 discards) discards"
infuse detach rswap0
rmmod rswap
meet over
