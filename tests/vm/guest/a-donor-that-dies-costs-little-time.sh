# SPDX-License-Identifier: MIT
# $1: tcp or rdma, $2: rounds. Two devices of two replicas on the same two donors: one is swapped to, on the
# other fio verifies, both all the time; the donors are killed by turns and come back.
. /test/functions.sh
. /test/rswap.sh
transport=$1 rounds=$2
load dummy
ip link add wire type dummy
ip addr add 10.9.0.1/24 dev wire
ip link set wire up
[ "$transport" = tcp ] || { add_rxe wire; rdma=rdma; }
load_rswap
donor_options+=(--lazy)
up() { start_donor "$1" 64M 10.9.0.1 "$((4770 + $(printf %d "'$1") - 96))" ${rdma-}; }
up a; up b
for device in rswap0 rswap1; do
	infuse attach $device --size 24M --replicas 2 --donor "${donor[a]}" --donor "${donor[b]}"
done
is() { [ "$(counter "$1" "$2")" = "$3" ]; }
swap_on rswap0

# What the longest touch is here without any death: this machine's own noise.
in_cgroup 8M swap-touch 16 4 > /tmp/calm || fail "swap: $(cat /tmp/calm)"
calm=$(sed 's/.*longest_ms=//' /tmp/calm)
step "a calm swap: $(cat /tmp/calm)"

swap_all_the_time() {
	while [ ! -e /tmp/stop ]; do in_cgroup 8M swap-touch 16 4 >> /tmp/swap 2>&1 || { touch /tmp/bad; return 1; }; done
}
verify_all_the_time() {
	while [ ! -e /tmp/stop ]; do
		fio --name=v --filename=/dev/rswap1 --direct=1 --ioengine=libaio --thread --rw=randwrite \
			--bsrange=4k-1m --iodepth=8 --verify=crc32c --verify_backlog=32 --verify_fatal=1 \
			--serialize_overlap=1 --size=8M --randseed=$RANDOM --minimal >> /tmp/fio 2>&1 || { touch /tmp/bad; return 1; }
	done
}
swap_all_the_time & swap=$!
verify_all_the_time & files=$!
for ((i = 1; i <= rounds; i++)); do
	name=a; [ $((i % 2)) = 1 ] || name=b
	sleep 0.5
	kill_donor $name
	died=$(now_ms)
	until_true 20 is rswap0 state degraded
	up $name
	started=$(now_ms)
	for device in rswap0 rswap1; do until_true 60 is $device state ok; done
	step "round $i: $name was back after $((started - died)) ms, its replicas $(($(now_ms) - started)) ms later"
	[ ! -e /tmp/bad ] || { cat /tmp/swap /tmp/fio; fail "wrong bytes or errors in round $i"; }
done
step "$rounds donors died and came back"
touch /tmp/stop
wait $swap || { cat /tmp/swap; fail "swap gave wrong pages"; }
wait $files || { tail -n 20 /tmp/fio; fail "fio found errors"; }
for device in rswap0 rswap1; do
	is $device errors 0
	is $device degraded 0
	[ "$(counter $device slabs_rebuilt)" -ge "$rounds" ] || fail "$device: $(counter $device slabs_rebuilt) slabs were rebuilt"
done
! grep -v 'bad=0' /tmp/swap || fail "bad pages"
longest=$(sed 's/.*longest_ms=//' /tmp/swap | sort -n | tail -n 1)
echo "MEASURED $transport: longest touch of a swapped page $longest ms ($calm ms when none died), $(wc -l < /tmp/swap) runs of swap, $(wc -l < /tmp/fio) of fio"
# A machine that has other work to do stretches both.
[ "$longest" -le $((2000 + 4 * calm)) ] || fail "a touch took $longest ms"
swapoff /dev/rswap0
infuse detach rswap0
infuse detach rswap1
rmmod rswap
step over
