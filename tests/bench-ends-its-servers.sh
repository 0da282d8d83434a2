# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# The servers that infuse bench starts end with it, however it ends, and so does its folder.
. "$(dirname "$0")/functions.sh"
requires userfaultfd

children() { cat "/proc/$1/task/$1/children" 2>/dev/null; }
gone() { ! kill -0 "$1" 2>/dev/null; }
empty() { [ -z "$(ls "$scratch/tmp")" ]; }
has_child() { [ -n "$(children "$1")" ] && [ -n "$(ls "$scratch/tmp"/*/*.ready 2>/dev/null)" ]; }

mkdir "$scratch/tmp"
export TMPDIR="$scratch/tmp"
for signal in INT TERM KILL; do
	infuse-bench --size 64M --no-floor --runs 64 --touches 10000000 random > "$scratch/bench.log" 2>&1 &
	bench=$!
	started+=("$bench")
	until_true 20 has_child "$bench"
	server=$(children "$bench" | awk '{ print $1 }')
	# A background job of a script ignores SIGINT unless it says otherwise: infuse bench does.
	kill -s "$signal" "$bench"
	until_true 10 gone "$bench"
	until_true 10 gone "$server"
	if [ "$signal" = KILL ]; then rm -rf "$scratch/tmp"/*; else until_true 10 empty; fi
done
