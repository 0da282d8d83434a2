# SPDX-License-Identifier: MIT
# A guest with little memory and a program that wants more than all of it. Its two donors are on the machine
# that runs it, which kills one when the console says so, and starts it again.
#   a-small-guest-gets-through-its-swap.sh PORT PORT SECONDS [careless]
. /test/functions.sh
. /test/rswap.sh
join_host
unpack_late
load_rswap ${4:+careless=1}
infuse attach rswap0 --size "$(($(meminfo MemTotal) / 1024 + 32))M" --replicas 2 --deadline 30s --donor "tcp:10.0.2.2:$1" --donor "tcp:10.0.2.2:$2"
swap_on rswap0
# The kernel needs no process from here on: what was needed to attach gives its memory back.
rm /usr/bin/infuse
for lib in /usr/lib/x86_64-linux-gnu/*.so*; do
	case $lib in */libc.so* | */libtinfo* | */ld-linux* | */libm.so*) ;; *) rm "$lib" ;; esac
done
total=$(($(meminfo MemTotal) / 1024)) free=$(($(meminfo MemAvailable) / 1024))
step "attached: this guest has $total MiB, $free of them free"

# Says how far it is, without a process or a page of its own: builtins only.
mkfifo /run/never
progress() {
	local name value
	while :; do
		for name in pages_read pages_written replicas_dropped errors; do
			read -r value < "/sys/block/rswap0/rswap/$name"
			printf '%s %s ' "$name" "$value"
		done
		echo "at $SECONDS s"
		read -t 1 -r name <> /run/never || true
	done
}
progress &
start=$(now_ms)
swap-touch $((total + 16)) "$3" 2 || fail "swap gave wrong pages"
took=$(($(now_ms) - start))
kill $!
step "swapped for $took ms: $(counter rswap0 pages_read) pages in, $(counter rswap0 pages_written) out"
[ "$(counter rswap0 errors)" = 0 ] || fail "errors"
[ "$(counter rswap0 replicas_dropped)" -gt 0 ] || fail "no donor died meanwhile"
until_true 240 eval '[ "$(counter rswap0 state)" = ok ]'
step "both replicas are there again"
swapoff /dev/rswap0
rmmod rswap
echo "MEASURED ${4:-careful}: $took ms"
