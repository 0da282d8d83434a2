# SPDX-License-Identifier: MIT
# replicas=2 on the two donors of a registry. One is killed: the volume is degraded while fio goes on. A third
# one announces itself: the volume is whole again, and lives on when the second one dies, too; every byte is
# checked. With the watch's hint on SQLite and on etcd, and with nothing but reading it again and again.
. "$(dirname "$0")/functions.sh"
. "$(dirname "$0")/nbd-functions.sh"
here=$(cd "$(dirname "$0")" && pwd)
requires fio
requires jq
fio --enghelp | grep -q '\<nbd\>' || skip "fio was built without its nbd engine"

# fio leaves its state where it is.
cd "$scratch"
load() { # NAME RW SEED
	timeout 60 fio --name=r --ioengine=nbd --uri="$(nbd_uri "$1")" --verify=crc32c --verify_fatal=1 \
		--rw="$2" --bs=16k --size=16m --iodepth=8 --randseed="$3" --minimal > "$scratch/fio.log" 2>&1 ||
		fail "fio: $(tail -n 4 "$scratch/fio.log")"
}
says() { grep -q "$2" "$scratch/$1.nbdkit.log"; }
kill_pid() { kill -KILL "$1"; wait "$1" 2> /dev/null || true; }

announced() { [ "$(infuse donors --timeout 5s --registry "$1" --json | jq '.donors | length')" = "$2" ]; }

# joins NAME REGISTRY PARAMETERS...
joins() {
	local name=$1 registry=$2 begin
	shift 2
	start_announced_donor "${name}a" "$registry" --slab 256K --lazy
	start_announced_donor "${name}b" "$registry" --slab 256K --lazy
	until_true 20 announced "$registry" 2
	start_nbd "$name" 16M replicas=2 registry="$registry" "$@"
	load "$name" randwrite 1
	donor_pid="donor_${name}a_pid"
	kill_pid "${!donor_pid}"
	load "$name" randwrite 2
	until_true 30 says "$name" 'have lost a copy'
	! says "$name" 'whole again' || fail "whole without a second donor"
	begin=$SECONDS
	start_announced_donor "${name}c" "$registry" --slab 256K --lazy
	until_true 60 says "$name" 'the volume is whole again'
	echo "$registry: whole again $((SECONDS - begin)) s after the third donor's start"
	load "$name" randread 2
	donor_pid="donor_${name}b_pid"
	kill_pid "${!donor_pid}"
	load "$name" randread 2
	load "$name" randwrite 3
	kill "$(cat "$scratch/$name.pid")"
	donor_pid="donor_${name}c_pid"
	kill_pid "${!donor_pid}"
}

joins hinted "$scratch/registry.db"
joins polled "$scratch/other.db" refresh=300ms
if command -v etcd > /dev/null || [ -x "${INFUSE_SOURCE:-.}/build/etcd/usr/bin/etcd" ]; then
	. "$here/etcd-functions.sh"
	start_etcd 1
	joins onetcd "$etcd_url/infuse"
fi
