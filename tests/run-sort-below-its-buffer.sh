# SPDX-License-Identifier: MIT
# GNU sort with a buffer of 400 MB sorts 200 MB with 64 MiB of local memory.
. "$(dirname "$0")/functions.sh"
. "$(dirname "$0")/run-functions.sh"

start_donor a --size 1G --lazy
words 1 8200000 > "$scratch/in.txt"
size=$(stat -c %s "$scratch/in.txt")
[ "$size" -gt 190000000 ] || fail "the input is only $size bytes"
export TMPDIR=$scratch
equal 64M sort -S 400M "$scratch/in.txt"
went_out 20000
