# SPDX-License-Identifier: MIT
# Parent, child and grandchild each see every page as it was at their fork while the others write;
# a child made behind the library's back, or without room for a snapshot, dies and reads nothing.
. "$(dirname "$0")/functions.sh"
requires userfaultfd

# Should it hang, a sanitizer's build shows where.
export ASAN_OPTIONS=handle_abort=1
start_donor a --size 256M --lazy
start_donor small --size 16M --lazy
for mode in sigbus handler; do
	for donor in "$donor_a_tcp" "unix:$scratch/a.sock" "shm:$scratch/a.sock"; do
		exits_with 0 timeout -s ABRT -k 5 60 inject-check fork $mode "$donor"
		exits_with 0 timeout -s ABRT -k 5 60 inject-check clone $mode "$donor"
	done
	exits_with 0 timeout -s ABRT -k 5 60 inject-check fork-full $mode "$donor_small_tcp"
	case $err in
	*"heap 'full': no snapshot for a forked child"*"no free slabs"*) ;;
	*) fail "the fork without room said: $err" ;;
	esac
done
