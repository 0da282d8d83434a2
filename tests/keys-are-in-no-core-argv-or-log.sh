#!/bin/bash
# The cluster's key and the keys made of it are in no core dump of a server or a borrower, in no
# command line, environment or log; they are where the file is.
. "$(dirname "$0")/functions.sh"
. "$(dirname "$0")/keep-functions.sh"
requires userfaultfd
requires gcore

key="$scratch/key"
infuse key gen "$key"
infuse key rotate "$key" --keep 1h
for role in borrower admin metrics; do infuse key derive --role $role "$key" "$scratch/$role"; done
# As bytes, and as a person would write them.
secrets=()
while read -r hex; do
	secrets+=("$hex" "$(printf %s "$hex" | od -An -v -tx1 | tr -d ' \n')")
done < <(cat "$key" "$scratch/borrower" "$scratch/admin" "$scratch/metrics" | awk '/^infuse-key-1/ { print $6 }')
[ ${#secrets[@]} -eq 16 ] || fail "${#secrets[@]} secrets, not 16"
has "$key" "${secrets[@]}" || fail "the search finds nothing where something is"

start_donor a --key "$key" --allow-plain --verbose
export INFUSE_KEY_FILE="$key"
keep open "$donor_a_tcp" 4
infuse donors --donor "$donor_a_tcp" > "$scratch/donors.log"
INFUSE_KEY_FILE="$scratch/metrics" infuse stat --donor "$donor_a_tcp" > "$scratch/stat.log"
kill -HUP "$donor_a_pid"
until_true 10 grep -q "read again" "$scratch/a.log"

look() { # WHAT FILE
	has "$2" "${secrets[@]}" && fail "a key is in $1: $counts"
	return 0
}
for who in "$donor_a_pid" "$keeper_pid"; do
	gcore -o "$scratch/core" "$who" > "$scratch/gcore.log" 2>&1 || skip "gcore: $(tail -n 1 "$scratch/gcore.log")"
	look "the core of $(cat "/proc/$who/comm")" "$scratch/core.$who"
	cat "/proc/$who/cmdline" > "$scratch/text"
	look "the command line of $who" "$scratch/text"
	cat "/proc/$who/environ" > "$scratch/text"
	look "the environment of $who" "$scratch/text"
done
has "$scratch/core.$keeper_pid" "$words" || fail "the dump is empty"
kept open
for log in "$scratch"/*.log "$scratch"/*.out; do look "$log" "$log"; done
