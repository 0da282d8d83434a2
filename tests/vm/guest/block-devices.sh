# SPDX-License-Identifier: MIT
# `infuse bench device` on what a guest can have side by side: a RAM disk, zram, NVMe over TCP and over
# RDMA (the kernel's own target, on a RAM disk), nbd over a UNIX socket and over TCP, and our device over
# TCP and RDMA. All are local to the guest, so what is compared is software. Prints JSON lines.
#   block-devices.sh SIZE SECONDS [NAMES...]    (default: all)
. /test/functions.sh
size=$1 seconds=$2; shift 2
names=${*:-brd zram nvme-tcp nvme-rdma nbd-unix nbd-tcp rswap-tcp rswap-rdma}
mib=$((${size%M} * 3 / 2))
devices=()
wants() { case " $names " in *" $1 "*) return 0 ;; esac; return 1; }
# A device's node when it has appeared and has a size.
until_block() { until_true 60 eval "[ -b $1 ] && [ \$(blockdev --getsz $1) -gt 0 ]"; devices+=(--device "$2=$1"); }

load dummy
ip link add wire type dummy
ip addr add 10.9.0.1/24 dev wire
ip link set wire up
add_rxe wire
mount_once cgroup2 /sys/fs/cgroup
echo +memory > /sys/fs/cgroup/cgroup.subtree_control
# A fault asks for its page only: what is compared is the way of a page.
echo 0 > /proc/sys/vm/page-cluster

modprobe brd rd_nr=3 rd_size=$((mib * 1024))
wants brd && until_block /dev/ram0 brd
if wants zram; then
	modprobe zram num_devices=1
	echo "${mib}M" > /sys/block/zram0/disksize
	until_block /dev/zram0 zram
fi

# target NAME PORT TRANSPORT RAM-DISK, and a host of our own for it.
target() {
	local t=/sys/kernel/config/nvmet s
	s=$t/subsystems/$1
	mkdir -p "$s/namespaces/1" "$t/ports/$2"
	echo 1 > "$s/attr_allow_any_host"
	echo "$4" > "$s/namespaces/1/device_path"
	echo 1 > "$s/namespaces/1/enable"
	echo "$3" > "$t/ports/$2/addr_trtype"
	echo ipv4 > "$t/ports/$2/addr_adrfam"
	echo 10.9.0.1 > "$t/ports/$2/addr_traddr"
	echo "$2" > "$t/ports/$2/addr_trsvcid"
	ln -s "$s" "$t/ports/$2/subsystems/$1"
	exec 3<> /dev/nvme-fabrics
	echo "nqn=$1,transport=$3,traddr=10.9.0.1,trsvcid=$2,hostnqn=$1,hostid=8d5c8a4e-0000-4000-8000-00000000000$5" >&3
	read -r answer <&3
	exec 3>&-
	answer=${answer#*instance=}
	until_block "/dev/nvme${answer%%,*}n1" "$1"
}
if wants nvme-tcp || wants nvme-rdma; then
	load nvmet nvme-fabrics
	mount_once configfs /sys/kernel/config
	wants nvme-tcp && { load nvmet-tcp nvme-tcp; target nvme-tcp 4421 tcp /dev/ram1 1; }
	wants nvme-rdma && { load nvmet-rdma nvme-rdma; target nvme-rdma 4422 rdma /dev/ram2 2; }
fi

if wants nbd-unix || wants nbd-tcp; then
	modprobe nbd nbds_max=2
	nbdkit -U /run/nbd.sock memory "${mib}M"
	nbdkit -i 10.9.0.1 -p 10809 memory "${mib}M"
	sleep 1
	wants nbd-unix && { nbd-client -unix /run/nbd.sock /dev/nbd0 -b 4096 > /dev/null; until_block /dev/nbd0 nbd-unix; }
	wants nbd-tcp && { nbd-client 10.9.0.1 10809 /dev/nbd1 -b 4096 > /dev/null; until_block /dev/nbd1 nbd-tcp; }
fi

if wants rswap-tcp || wants rswap-rdma; then
	. /test/rswap.sh
	load_rswap
	donor_options+=(${SPIN:+--spin "$SPIN"})
	n=0
	for transport in tcp rdma; do
		wants "rswap-$transport" || continue
		rdma=
		[ "$transport" = tcp ] || rdma=rdma
		start_donor "$transport" "$((mib + 64))M" 10.9.0.1 "477$n" $rdma
		infuse attach "rswap$n" --size "${mib}M" --replicas 1 --donor "${donor[$transport]}"
		until_block "/dev/rswap$n" "rswap-$transport"
		n=$((n + 1))
	done
fi

infuse-bench device --overwrite --json --jobs /test/fio --size "$size" --local 50% --runs 1 \
	--touches 4096 --seconds "$seconds" "${devices[@]}"
