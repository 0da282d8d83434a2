# SPDX-License-Identifier: MIT
# Two guests: the first has the donors, one of which it kills and starts again in the middle; the second
# has little memory and a program that wants more than all of it. $1: tcp or rdma, $2: "careless" or "".
. /test/functions.sh
. /test/rswap.sh
transport=$1 careless=${2-}
join_guests
[ "$transport" = tcp ] || { add_rxe eth0; rdma=rdma; }
if [ "$ROLE" = 1 ]; then
	start_donor a 192M 10.9.0.1 4771 ${rdma-}
	start_donor b 192M 10.9.0.1 4772 ${rdma-}
	meet donors
	meet swapping
	sleep 8
	kill_donor b
	sleep 1
	start_donor b 192M 10.9.0.1 4772 ${rdma-}
	meet over
	exit 0
fi
meet donors
load_rswap ${careless:+careless=1}
start_donor() { :; }
for n in 1 2; do
	donors+=(--donor "tcp:10.9.0.1:477$n${rdma:+,rdma:10.9.0.1:477$n}")
done
infuse attach rswap0 --size 160M --replicas 2 "${donors[@]}"
swap_on rswap0
# The kernel needs no process from here on: what was needed to attach gives its memory back.
rm /usr/bin/infuse
for lib in /usr/lib/x86_64-linux-gnu/*.so*; do
	case $lib in */libc.so* | */libtinfo* | */ld-linux* | */libm.so*) ;; *) rm "$lib" ;; esac
done
total=$(meminfo MemTotal)
step "attached; this guest has $((total / 1024)) MiB, $(($(meminfo MemAvailable) / 1024)) of them free"
meet swapping
start=$(now_ms)
swap-touch $((total / 1024 + 16)) 6 2 || fail "swap gave wrong pages"
took=$(($(now_ms) - start))
step "swapped for $took ms: $(counter rswap0 pages_read) pages in, $(counter rswap0 pages_written) out, $(counter rswap0 errors) errors"
[ "$(counter rswap0 errors)" = 0 ] || fail "errors"
[ "$(counter rswap0 replicas_dropped)" -gt 0 ] || fail "no donor died meanwhile"
until_true 120 eval '[ "$(counter rswap0 state)" = ok ]'
step "both replicas are there again"
swapoff /dev/rswap0
rmmod rswap
meet over
echo "MEASURED $transport ${careless:-careful}: $took ms"
