# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# The page store's client, with each of its mappings refused in turn, over every transport, with copies, codes,
# seals and keys, and with a donor that dies: an error with words or the right bytes, and nothing left behind.
. "$(dirname "$0")/functions.sh"

infuse key gen "$scratch/key" > /dev/null
donors=()
for name in a b c d e f; do
	start_donor "$name" --size 16M --slab 64K --lazy --no-reclaim --threads 1 --quiet
	donors+=("$name")
done
start_donor k1 --size 16M --slab 64K --lazy --no-reclaim --threads 1 --quiet --key "$scratch/key"
start_donor k2 --size 16M --slab 64K --lazy --no-reclaim --threads 1 --quiet --key "$scratch/key"
server=$(command -v infuse-memory-server)

# refuse DONORS WAY OPTIONS...
refuse() {
	local name list=() count=$1 way=$2 tcp
	shift 2
	for name in "${donors[@]:0:$count}"; do
		tcp=donor_${name}_tcp
		[ "$way" = tcp ] && list+=(--donor "${!tcp}") || list+=(--donor "$way:$scratch/$name.sock")
	done
	client-without-memory "${list[@]}" "$@" > "$scratch/out" 2> "$scratch/err" ||
		fail "$way $*: status $?: $(tail -n 5 "$scratch/err")"
	echo "$way $*: $(cat "$scratch/out")"
}

refuse 3 tcp --replicas 2 --seal
refuse 3 shm --code 2+1 --victim "$scratch/victim.sock" --server "$server"
[ -z "${INFUSE_SANITIZE:-}" ] || exit 0
refuse 2 shm --replicas 2
refuse 6 unix --code 4+2
donors=(k1 k2)
refuse 2 tcp --replicas 2 --key "$scratch/key"
