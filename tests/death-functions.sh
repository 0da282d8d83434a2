# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# For tests that kill donors and look what that costs whoever uses their memory. A series is a file of lines
# "time_us amount longest_us": what was done since the line before, and the longest single step in it.
# Sourced after functions.sh.

now_us() { echo "${EPOCHREALTIME/./}"; }

# p99 < NUMBERS: the nearest rank.
p99() { sort -n | awk '{ v[NR] = $1 } END { if (!NR) exit 1; print v[int(NR * 0.99 + 0.999999)] }'; }

# stalls SERIES TIMES...: for each time the longest step until the next one, in ms.
stalls() {
	local series=$1
	shift
	sort -n "$series" | awk -v times="$*" '
		BEGIN { n = split(times, t, " "); i = 0 }
		{
			while (i < n && $1 + 0 > t[i + 1] + 0)
				i++
			if (i && $3 + 0 > longest[i] + 0)
				longest[i] = $3
		}
		END { for (i = 1; i <= n; i++) printf "%d\n", (longest[i] + 999) / 1000 }'
}

# kept SERIES TIME SECONDS: percent of what was done in the seconds before that was done in those after.
kept() {
	awk -v at="$2" -v us="${3}000000" '
		$1 > at - us && $1 <= at { before += $2 }
		$1 > at && $1 <= at + us { after += $2 }
		END { if (!before) exit 1; printf "%d\n", 100 * after / before }' "$1"
}

# median < NUMBERS: of an even number the lower one of the middle.
median() { sort -n | awk '{ v[NR] = $1 } END { if (!NR) exit 1; print v[int((NR + 1) / 2)] }'; }

# watch_machine: how much too late somebody who sleeps is woken here, as a series in $scratch/machine.
watch_machine() {
	(
		exec {fd}<> <(:)
		while a=$(now_us); do
			read -rt 0.05 -u "$fd" || true
			b=$(now_us)
			echo "$b 0 $((b - a - 50000))"
		done
	) > "$scratch/machine" 2> /dev/null &
	started+=($!)
}

# stalls_are_short WHAT SERIES TIMES...: each death's longest step, of which the 99th percentile is a second
# at most; and what a busy machine adds to each of the four threads that hand a request on.
stalls_are_short() {
	local what=$1 worst late
	shift
	stalls "$@" > "$scratch/stalls"
	worst=$(p99 < "$scratch/stalls")
	shift
	late=$(stalls "$scratch/machine" "$@" | p99)
	echo "$what: the longest wait after a death: median $(median < "$scratch/stalls") ms, p99 $worst ms," \
		"maximum $(sort -n "$scratch/stalls" | tail -n 1) ms; sleepers woke up to $late ms late"
	# Sanitizers' waits are their own.
	[ -n "${INFUSE_SANITIZE:-}" ] || [ "$worst" -le $((1000 + 4 * late)) ] || fail "$what: stall p99 is $worst ms"
}

# fio_series PREFIX: a series from fio's logs (--write_bw_log and --write_lat_log with log_max_value and
# log_unix_epoch): KiB/s stand for the amount.
fio_series() {
	awk -F '[, ]+' '{ printf "%s000 %s 0\n", $1, $2 }' "$1"_bw.*.log
	awk -F '[, ]+' '{ printf "%s000 0 %d\n", $1, $2 / 1000 }' "$1"_clat.*.log
}

# speed_is_kept WHAT: what is done in the 5 s after a donor's death against the 5 s before it: the median of two
# deaths is 80% at least, or of up to eight where other work disturbs the machine. The caller's functions
# begin_use, one_dies I, comes_back I and end_use, which leaves $scratch/series, say what is used.
speed_is_kept() {
	local what=$1 i run percent=() middle=0 at times=()
	for ((run = 0; run < 4 && middle < 80; run++)); do
		begin_use
		times=()
		for i in 0 1; do
			sleep 5.2
			at=$(now_us)
			times+=("$at")
			one_dies "$i"
			sleep 5.2
			comes_back "$i"
		done
		end_use
		stalls_are_short "$what" "$scratch/series" "${times[@]}"
		for at in "${times[@]}"; do percent+=("$(kept "$scratch/series" "$at" 5)"); done
		middle=$(printf '%s\n' "${percent[@]}" | median)
	done
	echo "$what: percent of the speed that is left in the 5 s after a death: ${percent[*]}"
	[ "$middle" -ge 80 ] || fail "$what: after a death $middle% of the speed is left"
}
