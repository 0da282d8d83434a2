# SPDX-License-Identifier: MIT
# Without replicas a donor's death is an I/O error for its pages within the deadline, with a line that
# names the donor; the other donors' pages are read and written as before.
. "$(dirname "$0")/functions.sh"
. "$(dirname "$0")/nbd-functions.sh"
find_nbdsh || skip "python3-libnbd is not installed"

for how in KILL STOP; do
	start_donor "a$how" --size 16M --slab 64K
	start_donor "b$how" --size 16M --slab 64K
	a=donor_a${how}_tcp b=donor_b${how}_tcp victim=donor_b${how}_pid
	start_nbd "v$how" 16M donor="${!a}" donor="${!b}" deadline=1s
	cat > "$scratch/steps.py" << 'EOF'
import os, signal, time
size = h.get_size()
pattern = bytes(range(1, 256)) * 257 + b"x"
for at in range(0, size, 65536):
    h.pwrite(pattern[:65536], at)
os.kill(int(os.environ["victim"]), getattr(signal, "SIG" + os.environ["how"]))
time.sleep(0.05)
good = bad = 0
start = time.time()
for at in range(0, size, 65536):
    try:
        assert h.pread(65536, at) == pattern[:65536], "wrong bytes"
        h.pwrite(pattern[:65536], at)
        good += 1
    except nbd.Error as e:
        assert e.errno == "EIO", e.errno
        bad += 1
assert good >= 64 and bad >= 64, (good, bad)
assert time.time() - start < 15
print("done")
EOF
	victim=${!victim} how=$how nbdsh -u "$(nbd_uri "v$how")" -c - < "$scratch/steps.py" > "$scratch/out" 2> "$scratch/err" ||
		fail "$how: $(cat "$scratch/out" "$scratch/err")"
	[ "$(cat "$scratch/out")" = "done" ] || fail "$how: $(cat "$scratch/out" "$scratch/err")"
	grep -q "${!b}" "$scratch/v$how.nbdkit.log" || fail "$how: no line names the donor"
done
