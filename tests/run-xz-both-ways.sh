# SPDX-License-Identifier: MIT
# xz -9 packs and unpacks with a fraction of its memory local.
. "$(dirname "$0")/functions.sh"
. "$(dirname "$0")/run-functions.sh"
requires xz

start_donor a --size 1G --lazy
words 2 10000 > "$scratch/in.txt"
cat "$scratch/in.txt" "$scratch/in.txt" > "$scratch/twice.txt"
equal 8M xz -9 --threads=1 -c "$scratch/twice.txt"
went_out 1000
# Unpacking needs a dictionary as large as the file: a larger one, packed fast.
words 3 150000 > "$scratch/twice.txt"
xz -1 --lzma2=preset=1,dict=16MiB --threads=1 -c "$scratch/twice.txt" > "$scratch/twice.xz"
export INFUSE_PLAIN=0
equal 1M xz -d -c "$scratch/twice.xz"
cmp "$scratch/ours.out" "$scratch/twice.txt" || fail "what was unpacked is not what was packed"
went_out 100
