# SPDX-License-Identifier: MIT
# A donor dies, or stops, in the middle: the program ends within 5 s and names donor and heap, or
# gets the error by the API; never a hang, never wrong bytes.
. "$(dirname "$0")/functions.sh"
requires userfaultfd

# lose CASE MODE TRANSPORT SIGNAL: sets rc, out, ms
lose() {
	local name=d$((++count)) donor start check
	start_donor "$name" --lazy
	local pid_of="donor_${name}_pid" tcp_of="donor_${name}_tcp"
	case $3 in
	tcp) donor=${!tcp_of} ;;
	*) donor=$3:$scratch/$name.sock ;;
	esac
	mkfifo "$scratch/$name.go"
	timeout -s KILL 30 inject-check "$1" "$2" "$donor" < "$scratch/$name.go" > "$scratch/$name.out" 2>&1 &
	check=$!
	exec 7> "$scratch/$name.go"
	until_true 20 grep -q filled "$scratch/$name.out"
	kill "-$4" "${!pid_of}"
	start=$(date +%s%N)
	echo go >&7
	rc=0; wait $check || rc=$?
	ms=$((($(date +%s%N) - start) / 1000000))
	exec 7>&-
	kill -KILL "${!pid_of}" 2>/dev/null || true
	out=$(grep -v filled "$scratch/$name.out")
	[ $ms -lt 5000 ] || [ "$1" = lost-callback ] || fail "$*: $ms ms"
	[ $ms -lt 10000 ] || fail "$*: $ms ms"
	echo "$*: status $rc after $ms ms: $out"
}

count=0
for mode in sigbus handler; do
	for transport in tcp unix shm; do
		lose lost $mode $transport KILL
		# Shared memory outlives its server for as long as its socket does: right bytes are right.
		case $transport-$rc-$out in shm-1-*"all pages were there"*) continue ;; esac
		[ $rc -eq 135 ] || fail "status $rc, not 135"
		case $out in
		*"heap 'lost'"*"donor $transport:"*) ;;
		*) fail "no name of heap and donor in: $out" ;;
		esac
	done
	for transport in tcp unix; do
		lose lost $mode $transport STOP
		[ $rc -eq 135 ] || fail "status $rc, not 135"
		case $out in
		*"heap 'lost'"*"did not answer in time"* | *"heap 'lost'"*"timed out"*) ;;
		*) fail "no word of the time in: $out" ;;
		esac
	done
done
# Pages that were on their way out at that moment are told of first, and end it: try again then.
for _ in 1 2 3 4 5; do
	lose lost-callback sigbus tcp KILL
	case $out in *"written back are lost"*) ;; *) break ;; esac
done
case $out in
*"pin: heap 'lost': page at"*"from donor tcp:"*EIO*) ;;
*) fail "inject_pin did not say what is lost: $out" ;;
esac
