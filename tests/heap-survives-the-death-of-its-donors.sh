# SPDX-License-Identifier: MIT
# Donors are killed one after the other, and started again, under a heap that is checked word by word
# by four threads: no error, no difference, and each time all slabs have all their members again. With
# two copies, and with 4+2. INFUSE_ROUNDS is how many deaths each (100).
. "$(dirname "$0")/functions.sh"
requires userfaultfd

rounds=${INFUSE_ROUNDS:-$([ -n "${INFUSE_SANITIZE:-}" ] && echo 10 || echo 100)}
names=(a b c d e f g)

# again NAME: the donor of before, on its socket, empty
again() {
	local end=$((SECONDS + 20)) pid
	# The kernel takes its time to close a killed server's sockets.
	while ! lend "$1" || ! kill -0 "$pid" 2>/dev/null; do
		[ $SECONDS -lt $end ] || fail "donor $1 does not start again"
	done
}
lend() {
	rm -f "$scratch/$1.ready"
	infuse-memory-server --name "$1" --listen "unix:$scratch/$1.sock" --size 32M --slab 256K --lazy \
		--no-registry --ready-file "$scratch/$1.ready" > "$scratch/$1.log" 2>&1 &
	pid=$!
	started+=("$pid")
	printf -v "donor_$1_pid" %s "$pid"
	while kill -0 "$pid" 2>/dev/null && [ ! -s "$scratch/$1.ready" ]; do
		read -rt 0.02 <> <(:) || true
	done
	[ -s "$scratch/$1.ready" ]
}

# Rewritten in place, so it may be empty for a moment.
told() { degraded && [ -n "$longest" ]; }
degraded() { read -r now lost rebuilt checks longest < "$scratch/health"; }
is_hurt() { degraded && [ "${lost:-0}" -gt "$lost_before" ]; } # it may be whole again before we look
is_whole() { degraded && [ "$now" -eq 0 ]; }

wait_for() {
	local end=$((SECONDS + 60))
	until "$1"; do
		[ $SECONDS -lt $end ] || fail "round $i, $name: not $1: $(cat "$scratch/health"), $lost_before before: $(cat "$scratch/stress.out")"
		read -rt 0.05 <> <(:) || true
	done
}

# survive WAY DONORS OPTIONS...
survive() {
	local way=$1 count=$2 list=() i name pid_of stress
	shift 2
	for name in "${names[@]:0:$count}"; do
		again "$name"
		list+=(--donor "$way:$scratch/$name.sock")
	done
	rm -f "$scratch/health"
	timeout -s KILL 3000 inject-stress --threads 4 --size 12M --local 2M --time 2900s \
		--health "$scratch/health" "$@" "${list[@]}" > "$scratch/stress.out" 2>&1 &
	stress=$!
	started+=("$stress")
	until_true 30 test -s "$scratch/health"
	for ((i = 0; i < rounds; i++)); do
		name=${names[$((i % count))]}
		pid_of=donor_${name}_pid
		until_true 10 told
		degraded
		lost_before=$lost
		kill -KILL "${!pid_of}"
		wait "${!pid_of}" 2>/dev/null || true
		wait_for is_hurt
		again "$name"
		wait_for is_whole
		kill -0 $stress 2>/dev/null || fail "round $i: $(cat "$scratch/stress.out")"
	done
	kill -TERM $stress
	wait $stress 2>/dev/null || true
	degraded
	[ -s "$scratch/stress.out" ] && fail "$(cat "$scratch/stress.out")"
	echo "$* over $way: $rounds deaths, $lost members lost, $rebuilt slabs rebuilt, $checks checks," \
		"longest step $longest ms"
	[ "$rebuilt" -gt "$rounds" ] || fail "only $rebuilt slabs were rebuilt"
	for name in "${names[@]:0:$count}"; do
		pid_of=donor_${name}_pid
		kill -KILL "${!pid_of}" 2>/dev/null || true
	done
}

survive unix 3 --replicas 2 --mode handler
# Seven servers under ThreadSanitizer on few cores miss the deadline of three seconds by themselves.
[ "${INFUSE_SANITIZE:-}" = thread ] || survive shm 7 --code 4+2 --mode sigbus
