# SPDX-License-Identifier: MIT
# A program that needs little has no heap: no connection to a donor, no thread, no descriptor.
. "$(dirname "$0")/functions.sh"
. "$(dirname "$0")/run-functions.sh"

start_donor a --size 64M --lazy
run 4M sh -c 'ls /proc/self/task | wc -l; for i in 1 2 3; do echo $i | cat; done' > "$scratch/out"
[ "$(tr '\n' ' ' < "$scratch/out")" = "1 1 2 3 " ] || fail "$(cat "$scratch/out")"
[ ! -s "$scratch/stats" ] || fail "a heap was opened: $(cat "$scratch/stats")"
INFUSE_PLAIN=0 run 4M ls / > "$scratch/out"
[ -s "$scratch/stats" ] || fail "no heap although nothing may stay plain: the test proves nothing"
