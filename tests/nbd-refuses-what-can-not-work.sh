# SPDX-License-Identifier: MIT
# What can't work is told in one line when nbdkit starts, also where it goes into the background.
. "$(dirname "$0")/functions.sh"
. "$(dirname "$0")/nbd-functions.sh"

start_donor a --size 32M

# refused WORDS PARAMETERS...
refused() {
	local words=$1; shift
	exits_with 1 timeout 30 nbdkit -U "$scratch/x.nbd" "$plugin" "$@"
	grep -qF -- "$words" <<< "$err" || fail "$*: no '$words' in: $err"
	[ "$(wc -l <<< "$err")" = 1 ] || fail "$*: more than a line: $err"
}
a="donor=unix:$scratch/a.sock"
refused "say the device's size" "$a"
refused "size=12Q: '12Q' is not a size" 12Q "$a"
refused "donors have 32 MiB free of 32 MiB; 64 MiB asked" 64M "$a"
refused "$scratch/none.sock' can't be reached" 1M "donor=unix:$scratch/none.sock"
refused "can't be reached" 1M donor=tcp:127.0.0.1:1
refused "carrier" 1M donor=carrier:pigeon
refused "no donors are known here" 1M
refused "replicas=0" 1M "$a" replicas=0
refused "ports=99" 1M "$a" ports=99
refused "unknown parameter" 1M "$a" colour=blue
refused "2 replicas need 2 donors" 1M "$a" replicas=2
refused "code=4-2: '4-2' is not K+M" 1M "$a" code=4-2
refused "donors" 1M "$a" code=4+2
refused "replicas or a code, not both" 1M "$a" code=2+1 replicas=2
refused "seal=perhaps" 1M "$a" seal=perhaps
refused "$scratch/no-key" 1M "donor=$donor_a_tcp" key="$scratch/no-key"
[ ! -e "$scratch/x.nbd" ] || fail "a socket is left behind"

# And what can: in the background, too, where mapped memory of donors has to survive a fork.
requires nbdinfo
nbdkit -P "$scratch/bg.pid" -U "$scratch/bg.nbd" "$plugin" 8M "donor=shm:$scratch/a.sock"
until_true 10 test -s "$scratch/bg.pid"
started+=("$(cat "$scratch/bg.pid")")
[ "$(nbdinfo --size "nbd+unix:///?socket=$scratch/bg.nbd")" = $((8 << 20)) ] || fail "not served"
kill "$(cat "$scratch/bg.pid")"
free_again() { infuse donors --donor "unix:$scratch/a.sock" --json | grep -q '"free_bytes":33554432'; }
until_true 10 free_again
