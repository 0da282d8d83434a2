# SPDX-License-Identifier: MIT
# $1: tcp or rdma.
. /test/functions.sh
. /test/rswap.sh
transport=$1
load dummy
ip link add wire type dummy
ip addr add 10.9.0.1/24 dev wire
ip link set wire up
[ "$transport" = tcp ] || { add_rxe wire; rdma=rdma; }

start_donor a 192M 10.9.0.1 4771 ${rdma-}
start_donor b 192M 10.9.0.1 4772 ${rdma-}
# Once before it is counted: what a first use leaves in the kernel for good is not ours.
load_rswap
infuse attach rswap0 --size 8M --replicas 2 --deadline 8s --donor "${donor[a]}" --donor "${donor[b]}"
infuse detach rswap0
rmmod rswap
remember_memory

load_rswap
infuse attach rswap0 --size 128M --replicas 2 --deadline 8s --donor "${donor[a]}" --donor "${donor[b]}"
infuse devices
step "attached by $transport"
swap_on rswap0
refused "" infuse detach rswap0
in_cgroup 32M swap-touch 64 3 2
[ "$(counter rswap0 pages_read)" -gt 8192 ] || fail "only $(counter rswap0 pages_read) pages were read"
[ "$(counter rswap0 errors)" = 0 ] || fail "errors"
swapoff /dev/rswap0
[ "$(counter rswap0 timeouts)" = 0 ] || fail "timeouts"
step "a program of twice its limit: $(counter rswap0 pages_read) pages in, $(counter rswap0 pages_written) out"

DEVICE=/dev/rswap0 SIZE=48M fio --minimal /test/fio/verify.fio > /tmp/fio || { cat /tmp/fio; fail "fio"; }
[ "$(counter rswap0 errors)" = 0 ] || fail "errors"
[ "$(counter rswap0 bad_hashes)" = 0 ] || fail "bad hashes"
[ "$(counter rswap0 pages_trimmed)" -gt 0 ] || fail "nothing was discarded"
step "fio: $(counter rswap0 writes) writes, $(counter rswap0 discards) discards"
blkdiscard /dev/rswap0
cmp -n $((16 << 20)) /dev/rswap0 /dev/zero || fail "what was discarded reads not as zeros"
infuse detach rswap0
nothing_left 2048
step "nothing is left"
