# SPDX-License-Identifier: MIT
# This machine's own kernel swaps to the memory of two donors: `infuse up`, a program with more than
# twice the memory it may have, every byte checked, `infuse down`. Afterwards nothing is left.
. "$(dirname "$0")/functions.sh"
. "$(dirname "$0")/nbd-functions.sh"
. "$(dirname "$0")/swap-functions.sh"

loops_before=$(grep -l . /sys/block/loop*/loop/backing_file 2> /dev/null | sort || true)
start_donor a --size 160M
start_donor b --size 160M
make_group $((48 << 20))
swap_up "size = 256M
donor = $donor_a_tcp
donor = shm:$scratch/b.sock"

again=$(infuse up --config "$scratch/rswap.conf" --run-dir "$scratch/run" rswap0)
[ "$again" = "rswap0 is up: swapping to $device" ] || fail "a second time: $again"

before=$(swapped_out)
limited timeout -s KILL 120 swap-pages 112M 4s > "$scratch/out" 2> "$scratch/err" ||
	fail "swap-pages: $(cat "$scratch/out" "$scratch/err")"
cat "$scratch/out"
grep -q ' bad 0$' "$scratch/out" || fail "$(cat "$scratch/out")"
[ "$(swapped_out)" -gt $((before + 10000)) ] || fail "the kernel swapped out $(($(swapped_out) - before)) pages only"
grep -q error "$scratch/run/rswap0/log" && fail "$(cat "$scratch/run/rswap0/log")"

# Something stays in it while it goes down.
limited bash -c 'x=$(head -c 80000000 /dev/zero | tr "\0" x); echo ready; read -r; [ ${#x} = 80000000 ]' \
	< <(sleep 30) > "$scratch/holder" 2>&1 &
started+=($!)
holder=$!
until_true 150 test -s "$scratch/holder"
used() { awk -v d="$device" '$1 == d { print $4 }' /proc/swaps; }
[ "$(used)" -gt 1000 ] || fail "nothing is swapped out"
# It can't come back into the group that is full; the kernel takes it back over its limit or says so.
if ! timeout 60 infuse down --run-dir "$scratch/run" rswap0 > "$scratch/out" 2>&1; then
	grep -q "can't stop swapping to $device" "$scratch/out" || fail "infuse down: $(cat "$scratch/out")"
	! swap_is_off || fail "it said that it went on swapping, and does not"
	kill -KILL "$holder" 2> /dev/null || true # the kernel may have done it
	wait "$holder" 2> /dev/null || true
	timeout 60 infuse down --run-dir "$scratch/run" rswap0 > "$scratch/out" 2>&1 ||
		fail "infuse down with nothing in it: $(cat "$scratch/out")"
fi
swap_is_off || fail "still swapping to $device"
[ "$(infuse down --run-dir "$scratch/run" rswap0)" = "rswap0 is not up" ] || fail "not idempotent"
[ ! -e "$scratch/run/rswap0" ] || fail "left behind: $(ls -R "$scratch/run")"
! grep -q "$scratch" /proc/mounts || fail "still mounted"
[ "$(grep -l . /sys/block/loop*/loop/backing_file 2> /dev/null | sort || true)" = "$loops_before" ] ||
	fail "a loop device is left"
no_borrowers() { infuse donors --donor "$donor_a_tcp" --json | grep -q '"borrowers":0'; }
until_true 10 no_borrowers
