# SPDX-License-Identifier: MIT
# Donors are full: malloc gives NULL, mmap ENOMEM, one line says why; the program decides.
. "$(dirname "$0")/functions.sh"
. "$(dirname "$0")/run-functions.sh"
requires python3

start_donor a --size 32M --lazy
cat > "$scratch/job.py" <<'PY'
import mmap
kept = bytearray(b"x" * (8 << 20))
for _ in range(3):
    try:
        bytearray(64 << 20)
        print("given")
    except MemoryError:
        print("refused")
    try:
        mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        print("given")
    except OSError as e:
        print(e.strerror)
print(kept.count(b"x"[0]))
PY
run 4M python3 "$scratch/job.py" > "$scratch/out" 2> "$scratch/err" || fail "it died: $(cat "$scratch/err")"
printf 'refused\nCannot allocate memory\n%.0s' 1 2 3 > "$scratch/want"
echo $((8 << 20)) >> "$scratch/want"
cmp "$scratch/want" "$scratch/out" || fail "$(cat "$scratch/out")"
[ "$(grep -c 'donors are full' "$scratch/err")" = 1 ] || fail "not one line: $(cat "$scratch/err")"
