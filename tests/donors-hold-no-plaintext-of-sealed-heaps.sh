#!/bin/bash
# A heap that is sealed leaves nothing to read in the memory of its donor, shared slabs and all, whatever
# the transport; without sealing the same search finds its words.
. "$(dirname "$0")/functions.sh"
. "$(dirname "$0")/keep-functions.sh"
requires userfaultfd

# One for each: buffers of a server remember what passed through them last.
start_donor open
start_donor sealed
for way in tcp unix shm; do
	case $way in
	tcp) open=$donor_open_tcp sealed=$donor_sealed_tcp ;;
	*) open=$way:$scratch/open.sock sealed=$way:$scratch/sealed.sock ;;
	esac
	keep "open-$way" "$open" 4
	has "$donor_open_pid" "$words" || fail "$way: the search finds nothing where something is"
	echo "$way, open: found $counts times"
	kept "open-$way"
	keep "sealed-$way" "$sealed" 4 seal
	has "$donor_sealed_pid" "$words" && fail "$way: words of a sealed heap in its donor's memory ($counts)"
	kept "sealed-$way"
	has "$donor_sealed_pid" "$words" && fail "$way: words of a sealed heap, when they were fetched ($counts)"
done
exit 0
