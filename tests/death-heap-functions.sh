# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# A heap under inject-stress, and donors of it that are killed and come back empty on their sockets.
# Sourced after death-functions.sh.
# shellcheck disable=SC2034 # used by who sources it
names=(a b c d e f g)
lender_size=32M

# again NAME: the donor, on its socket, empty
again() {
	local end=$((SECONDS + 20)) pid
	# The kernel takes its time to close a killed server's sockets.
	while ! lend "$1" || ! kill -0 "$pid" 2>/dev/null; do
		[ $SECONDS -lt $end ] || fail "donor $1 does not start again"
	done
}

lend() {
	rm -f "$scratch/$1.ready"
	infuse-memory-server --name "$1" --listen "unix:$scratch/$1.sock" --size "$lender_size" --slab 256K --lazy \
		--no-registry --ready-file "$scratch/$1.ready" > "$scratch/$1.log" 2>&1 &
	pid=$!
	disown "$pid" # its death is no news
	started+=("$pid")
	printf -v "donor_$1_pid" %s "$pid"
	while kill -0 "$pid" 2>/dev/null && [ ! -s "$scratch/$1.ready" ]; do
		read -rt 0.02 <> <(:) || true
	done
	[ -s "$scratch/$1.ready" ]
}

# kill_lender NAME: returns when it is dead. Sets lost_before for is_hurt.
kill_lender() {
	local pid_of=donor_$1_pid
	degraded || true
	lost_before=${lost:-0}
	kill -KILL "${!pid_of}" 2> /dev/null || return 0
	while kill -0 "${!pid_of}" 2> /dev/null; do read -rt 0.005 <> <(:) || true; done
}

# Renamed into its place whole.
degraded() { read -r now lost rebuilt checks longest < "$scratch/health"; }
is_hurt() { degraded && [ "${lost:-0}" -gt "$lost_before" ]; } # it may be whole again before we look
is_whole() { degraded && [ "$now" -eq 0 ]; }

# wait_for CONDITION: while the heap lives.
wait_for() {
	local end=$((SECONDS + 60))
	until "$1"; do
		kill -0 "$stress" 2> /dev/null || fail "the heap ended: $(cat "$scratch/stress.out")"
		[ $SECONDS -lt $end ] || fail "not $1: $(cat "$scratch/health"), $lost_before lost before: $(cat "$scratch/stress.out")"
		read -rt 0.02 <> <(:) || true
	done
}

# was_noticed: waits until members were lost by the last death. One that came back a moment ago may have held
# none yet: its death is counted in idle_deaths.
idle_deaths=0
was_noticed() {
	local end=$((SECONDS + 20))
	is_hurt_or_idle() { is_hurt || { [ $SECONDS -ge $end ] && is_whole; }; }
	wait_for is_hurt_or_idle
	is_hurt || idle_deaths=$((idle_deaths + 1))
}

# start_heap WAY DONORS OPTIONS...: so many donors, and inject-stress; sets stress.
start_heap() {
	local way=$1 count=$2 list=() name
	shift 2
	for name in "${names[@]:0:$count}"; do
		again "$name"
		list+=(--donor "$way:$scratch/$name.sock")
	done
	rm -f "$scratch/health" "$scratch/series"
	timeout -s KILL 6000 inject-stress --threads 4 --time 5900s --health "$scratch/health" \
		--series "$scratch/series" "$@" "${list[@]}" > "$scratch/stress.out" 2>&1 &
	stress=$!
	started+=("$stress")
	until_true 60 test -s "$scratch/health"
}

# end_heap: it must live, and have found nothing.
end_heap() {
	kill -0 "$stress" 2> /dev/null || fail "the heap ended: $(cat "$scratch/stress.out")"
	kill -TERM "$stress"
	wait "$stress" 2> /dev/null || true
	degraded
	if [ -s "$scratch/stress.out" ]; then fail "$(cat "$scratch/stress.out")"; fi
}
