# shellcheck shell=bash disable=SC2034,SC2154 # the demo sets and reads them
# SPDX-License-Identifier: MIT
# Sourced: the sqlite3 part of the demo, in a folder of the caller's, which a test runs, too, on a
# part of the index. sqlite3 is Debian's, unmodified; its database lives in memory.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# This machine's package index as text: apt's lists, compressed or not, else what dpkg knows.
index_text() {
	local list lists=()
	for list in /var/lib/apt/lists/*_Packages /var/lib/apt/lists/*_Packages.*; do
		[ -s "$list" ] && lists+=("$list")
	done
	if [ "${#lists[@]}" -eq 0 ]; then
		apt-cache dumpavail
	elif [ -x /usr/lib/apt/apt-helper ]; then
		for list in "${lists[@]}"; do
			/usr/lib/apt/apt-helper cat-file "$list"
			echo
		done
	else
		cat "${lists[@]}"
	fi
}

# sqlite_prepare FOLDER [N]: the tables to load; of the first N packages, or of all.
sqlite_prepare() {
	mkdir -p "$1"
	index_text | awk -v OUT="$1" -v MOST="${2:-0}" -f "$here/packages.awk" || return 1
	[ -s "$1/package.tsv" ] || { echo "this machine has no package index" >&2; return 1; }
}

now_ms() { local t=${EPOCHREALTIME/[.,]/}; echo $((t / 1000)); }

# sqlite_plain FOLDER: answers to plain.txt, milliseconds to plain.ms, and to working-set.kib the
# peak of what the program held in memory, as the kernel counted it.
sqlite_plain() {
	local from; from=$(now_ms)
	# shellcheck disable=SC2016 # the variable is for the shell that sqlite3 starts: its parent
	{ cat "$here/queries.sql"; echo '.shell grep VmHWM /proc/$PPID/status > peak'; } |
		(cd "$1" && sqlite3 -batch -bail :memory: > plain.txt) || return 1
	echo $(($(now_ms) - from)) > "$1/plain.ms"
	awk '{ print $2 }' "$1/peak" > "$1/working-set.kib"
}

# sqlite_remote FOLDER LOCAL [OPTIONS OF infuse run]...: answers to remote.txt, counters to stats.txt,
# milliseconds to remote.ms.
sqlite_remote() {
	local folder=$1 local_size=$2 from; from=$(now_ms)
	shift 2
	(cd "$folder" && infuse run --local "$local_size" --stats "$@" -- \
		sqlite3 -batch -bail :memory: < "$here/queries.sql" > remote.txt 2> stats.txt) || {
		cat "$folder/stats.txt" >&2
		return 1
	}
	echo $(($(now_ms) - from)) > "$folder/remote.ms"
}

# sqlite_compare FOLDER: are the answers equal, byte for byte?
sqlite_compare() {
	[ -s "$1/plain.txt" ] && cmp "$1/plain.txt" "$1/remote.txt"
}
