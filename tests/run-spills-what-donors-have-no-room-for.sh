# SPDX-License-Identifier: MIT
# A program that needs three times what its donor lends: the rest goes to a file in the folder that was named, and
# comes back byte by byte. Nothing stays in the folder.
. "$(dirname "$0")/functions.sh"
. "$(dirname "$0")/run-functions.sh"
requires python3

start_donor a --size 48M --slab 1M --lazy
mkdir "$scratch/spill"
cat > "$scratch/job.py" <<'PY'
import hashlib, sys

size = 2 << 20
parts = [bytearray(hashlib.shake_128(str(i).encode()).digest(size)) for i in range(60)]
sums = [hashlib.sha256(p).digest() for p in parts]

def check(who):
    for i, p in enumerate(parts):
        if hashlib.sha256(p).digest() != sums[i]:
            print(who, "part", i, "is wrong")
            sys.exit(1)

check("before")
for i in range(0, len(parts), 3):
    parts[i][5000] ^= 1
    sums[i] = hashlib.sha256(parts[i]).digest()
check("after")
print("all is right")
PY
timeout 200 infuse run --local 16M --donor "shm:$scratch/a.sock" --spill "$scratch/spill" --stats --stats-file "$scratch/stats" -- \
	python3 "$scratch/job.py" > "$scratch/out" 2> "$scratch/err" || fail "it ended with $?: $(cat "$scratch/out" "$scratch/err")"
[ "$(cat "$scratch/out")" = "all is right" ] || fail "$(cat "$scratch/out" "$scratch/err")"
[ "$(stat_of spill_out)" -gt 50000000 ] || fail "not much was spilled: $(cat "$scratch/stats")"
[ "$(stat_of spill_in)" -gt 50000000 ] || fail "not much came back: $(cat "$scratch/stats")"
grep -q 'spilled .*from the file' "$scratch/err" || fail "the statistics don't tell: $(cat "$scratch/err")"
[ -z "$(ls -A "$scratch/spill")" ] || fail "left behind: $(ls -A "$scratch/spill")"

# Without the folder, or with a file of too little, it is told at once what there is not.
! infuse run --local 16M --donor "shm:$scratch/a.sock" --spill "$scratch/nowhere" -- \
	python3 "$scratch/job.py" > "$scratch/out" 2> "$scratch/err" || fail "it ran all the same"
grep -q "nowhere.*No such file" "$scratch/err" || fail "$(cat "$scratch/err")"
! infuse run --local 16M --donor "shm:$scratch/a.sock" --spill "$scratch/spill" --spill-max 10M -- \
	python3 "$scratch/job.py" > "$scratch/out" 2> "$scratch/err" || fail "it had room"
grep -q "donors are full" "$scratch/err" || fail "$(cat "$scratch/err")"
grep -q "MemoryError" "$scratch/err" || fail "$(cat "$scratch/err")"
