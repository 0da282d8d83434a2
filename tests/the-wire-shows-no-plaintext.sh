#!/bin/bash
# Whoever listens on the wire reads a heap's pages, unless there is a key (TLS) or the heap is sealed. In
# a network of its own, with tcpdump.
. "$(dirname "$0")/functions.sh"
. "$(dirname "$0")/keep-functions.sh"
requires userfaultfd
requires tcpdump
requires ip
if [ -z "${OWN_NETWORK:-}" ]; then
	unshare -n true 2> /dev/null || skip "no right to make a network namespace"
	trap - EXIT
	rm -rf "$scratch"
	OWN_NETWORK=1 exec unshare -n bash "$0"
fi
ip link set lo up

# Is as much in the file as went over the wire at least?
written() { [ "$(stat -c %s "$1")" -gt 4000000 ]; }

# watch NAME DONOR [seal]: keeps and fetches words while tcpdump writes NAME.pcap
watch() {
	local name=$1; shift
	local dump
	tcpdump -i lo -U -B 65536 -s 0 -w "$scratch/$name.pcap" > "$scratch/$name.log" 2>&1 &
	dump=$!
	started+=("$dump")
	until_true 20 grep -q "listening on" "$scratch/$name.log"
	keep "$name" "$@"
	kept "$name"
	until_true 20 written "$scratch/$name.pcap"
	kill -INT "$dump"
	wait "$dump" || true
}

infuse key gen "$scratch/key"
start_donor open
start_donor keyed --key "$scratch/key"

watch plain "$donor_open_tcp" 4
has "$scratch/plain.pcap" "$words" || fail "the search finds nothing where something is"
echo "plain: found $counts times"
watch sealed "$donor_open_tcp" 4 seal
has "$scratch/sealed.pcap" "$words" && fail "sealed: $counts times on the wire"
export INFUSE_KEY_FILE="$scratch/key"
watch tls "$donor_keyed_tcp" 4
has "$scratch/tls.pcap" "$words" && fail "TLS: $counts times on the wire"
# Names and numbers of the protocol are not to be read either.
has "$scratch/plain.pcap" "$(printf keeper | od -An -v -tx1 | tr -d ' \n')" || fail "no name in the open"
has "$scratch/tls.pcap" "$(printf keeper | od -An -v -tx1 | tr -d ' \n')" && fail "TLS: the name can be read"
watch both "$donor_keyed_tcp" 4 seal
has "$scratch/both.pcap" "$words" && fail "both: $counts times on the wire"
for name in plain sealed tls both; do echo "$name: $(stat -c %s "$scratch/$name.pcap") bytes"; done
