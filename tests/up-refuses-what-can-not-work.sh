# SPDX-License-Identifier: MIT
# `infuse up` and `down` say in one line what is wrong, and leave nothing behind.
. "$(dirname "$0")/functions.sh"
. "$(dirname "$0")/nbd-functions.sh"
. "$(dirname "$0")/swap-functions.sh"

start_donor a --size 32M
conf=$scratch/rswap.conf
# refused WORDS LINES [DEVICE]: of the configuration.
refused() {
	printf '%s\n' "$2" > "$conf"
	exits_with 1 timeout 60 infuse up --config "$conf" --run-dir "$scratch/run" "${3:-rswap0}"
	grep -qF -- "$1" <<< "$err" || fail "no '$1' in: $err"
	[ "$(wc -l <<< "$err")" = 1 ] || fail "more than a line: $err"
	[ ! -e "$scratch/run/${3:-rswap0}" ] || fail "left behind: $(ls -R "$scratch/run")"
	! grep -q "$scratch" /proc/mounts || fail "still mounted"
}
good="[rswap0]
size = 8M
via = nbd
donor = unix:$scratch/a.sock"
refused "there is no [rswap1] in the configuration (rswap0)" "$good" rswap1
refused "[rswap0] size: 'huge' is not a size" "[rswap0]
size = huge"
refused "donors have 32 MiB free of 32 MiB; 64 MiB asked" "${good/8M/64M}"
refused "can't be reached" "${good/a.sock/none.sock}"
exits_with 1 infuse up --config "$scratch/none.conf" rswap0
grep -q "can't read $scratch/none.conf" <<< "$err" || fail "$err"
exits_with 2 infuse up
exits_with 2 infuse down
exits_with 1 infuse down --run-dir "$scratch/run" ../rswap0
grep -q "is not a device's name" <<< "$err" || fail "$err"

printf '[rswap0]\nsize = 1M\n[rswap1]\nsize = 1M\nauto = no\n[rswap2]\nsize = 1M\n' > "$conf"
[ "$(infuse up --list --config "$conf" | tr '\n' ' ')" = "rswap0 rswap2 " ] || fail "not the list"
[ -z "$(infuse up --list --config "$scratch/none.conf")" ] || fail "a list of nothing"

# A daemon that died in between is no reason not to come up again.
swap_up "size = 8M
donor = unix:$scratch/a.sock"
swapoff "$device"
kill -KILL "$(cat "$scratch/run/rswap0/nbdfuse.pid")"
sleep 0.5
timeout 60 infuse up --config "$scratch/rswap.conf" --run-dir "$scratch/run" rswap0 > "$scratch/out" 2>&1 ||
	fail "after its daemon died: $(cat "$scratch/out")"
device=$(cat "$scratch/run/rswap0/device")
grep -q "^$device " /proc/swaps || fail "not swapping to $device"
