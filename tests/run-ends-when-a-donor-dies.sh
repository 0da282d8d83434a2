# SPDX-License-Identifier: MIT
# A donor is killed while a program uses its memory: the program ends within 5 s, with a line that
# names donor and heap and status 135; no process of it stays.
. "$(dirname "$0")/functions.sh"
. "$(dirname "$0")/run-functions.sh"
requires python3

cat > "$scratch/job.py" <<'PY'
import sys
x = bytearray(64 << 20)
k = 0
while True:
    k += 1
    for i in range(0, len(x), 4096):
        if x[i] != (k - 1) % 256: sys.exit("wrong byte")
        x[i] = k % 256
    print("round", k, flush=True)
PY
for how in shm unix tcp; do
	start_donor "$how" --size 128M --lazy
	case $how in
	tcp) address=$donor_tcp_tcp ;;
	*) address=$how:$scratch/$how.sock ;;
	esac
	: > "$scratch/out" # the last one's words, before the next one has opened it
	infuse run --local 8M --donor "$address" -- python3 "$scratch/job.py" > "$scratch/out" 2> "$scratch/err" &
	pid=$!
	started+=("$pid")
	until_true 30 grep -q 'round 2' "$scratch/out"
	name=donor_${how}_pid
	kill -KILL "${!name}"
	start=$SECONDS
	status=0
	timeout 10 tail --pid=$pid -f /dev/null || fail "$how: it hangs"
	wait $pid || status=$?
	[ $((SECONDS - start)) -le 5 ] || fail "$how: it took $((SECONDS - start)) s"
	[ "$status" -eq 135 ] || fail "$how: status $status: $(cat "$scratch/err")"
	grep -q "infuse: .*python3.*${address#*:}" "$scratch/err" || fail "$how: '$(cat "$scratch/err")' names not donor and heap"
done
