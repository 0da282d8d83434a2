# SPDX-License-Identifier: MIT
# GNU sort with a buffer of 400 MB sorts 200 MB with 64 MiB of local memory. The lines are long: each
# of the last merges, whose runs don't fit any more, reads every line's text at a random place, which
# is about one fault a line, however long the line is.
. "$(dirname "$0")/functions.sh"
. "$(dirname "$0")/run-functions.sh"

start_donor a --size 1G --lazy
awk 'BEGIN { srand(1); pad = sprintf("%0560d", 0)
	for (i = 0; i < 345000; i++) printf "%08x%08x %d %s\n", rand() * 4294967296, rand() * 4294967296, i, pad }' \
	> "$scratch/in.txt"
size=$(stat -c %s "$scratch/in.txt")
[ "$size" -gt 200000000 ] || fail "the input is only $size bytes"
export TMPDIR=$scratch
equal 64M sort -S 400M "$scratch/in.txt"
went_out 20000
