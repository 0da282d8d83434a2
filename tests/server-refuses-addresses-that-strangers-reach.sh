#!/bin/bash
# Without keys the server listens where only this machine can connect, unless --insecure is said;
# an address that is none gets one clear line.
. "$(dirname "$0")/functions.sh"

# refused WORDS OPTIONS...: ends with 1 and one line that has the words
refused() {
	local words=$1 rc=0; shift
	timeout 10 infuse-memory-server --size 4M --no-registry "$@" > "$scratch/out.log" 2>&1 || rc=$?
	[ "$rc" -eq 1 ] || fail "ended with $rc: $*"
	[ "$(wc -l < "$scratch/out.log")" -eq 1 ] || fail "not one line: $(cat "$scratch/out.log")"
	grep -qF -- "$words" "$scratch/out.log" || fail "no '$words' in: $(cat "$scratch/out.log")"
}

refused "--insecure" --listen tcp:0.0.0.0:0
refused "--insecure" --listen 'tcp:[::]:0'
refused "--insecure" --listen tcp:127.0.0.1:0 --listen tcp:0.0.0.0:0
refused "is not tcp:HOST:PORT" --listen tcp:127.0.0.1
refused "is not tcp:HOST:PORT" --listen tcp:::1:80
refused "is not tcp:HOST:PORT" --listen tcp::80
refused "can't listen on tcp:127.0.0.1:notaport" --listen tcp:127.0.0.1:notaport
refused "is not an address" --listen udp:127.0.0.1:1
refused "is not an address" --listen 127.0.0.1:1
# Without a device one word, with one another.
if [ -z "$(ls /sys/class/infiniband 2> /dev/null)" ]; then
	refused "no RDMA device (see infuse check)" --listen rdma:127.0.0.1:0
else
	refused "--insecure" --listen rdma:0.0.0.0:0
	refused "is not rdma:HOST:PORT" --listen rdma:127.0.0.1
fi
refused "can't listen on unix:/nowhere/sock" --listen unix:/nowhere/sock
refused "is not unix:PATH" --listen "unix:$(printf '%0200d' 0)"
refused "not a power of two" --slab 3M --listen tcp:127.0.0.1:0
refused "less than one slab" --slab 8M --listen tcp:127.0.0.1:0
refused "not an option" word
refused "--name and --domain" --name a/b --listen tcp:127.0.0.1:0

start_donor open --listen tcp:0.0.0.0:0 --insecure --size 4M
grep -q '^tcp:0.0.0.0:[1-9]' "$scratch/open.ready" || fail "does not listen: $(cat "$scratch/open.ready")"
if [ -e /proc/net/if_inet6 ]; then
	start_donor six --listen 'tcp:[::1]:0' --size 4M
	grep -q '^tcp:\[::1\]:[1-9]' "$scratch/six.ready" || fail "no IPv6: $(cat "$scratch/six.ready")"
fi
