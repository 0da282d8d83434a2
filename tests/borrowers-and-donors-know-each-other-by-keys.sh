#!/bin/bash
# With a key, commands and heaps reach donors by TLS; with another one, none, or a role that may not, they
# get an error that says so. A borrower with a key speaks to no donor without one. Keys are changed
# while heaps are in use.
. "$(dirname "$0")/functions.sh"
. "$(dirname "$0")/keep-functions.sh"
requires userfaultfd

key="$scratch/key"
infuse key gen "$key"
infuse key gen "$scratch/other"
for role in borrower admin metrics; do infuse key derive --role $role "$key" "$scratch/$role"; done
start_donor a --key "$key"
start_donor open

exits_with 0 infuse donors --donor "$donor_a_tcp" --key "$key"
exits_with 0 infuse donors --donor "$donor_a_tcp" --key "$scratch/metrics"
exits_with 0 infuse volumes --donor "unix:$scratch/a.sock"
exits_with 1 infuse donors --donor "$donor_a_tcp"
[[ $err == *"only who has its key"* ]] || fail "$err"
exits_with 1 infuse donors --donor "$donor_a_tcp" --key "$scratch/other"
[[ $err == *"key is not known"* ]] || fail "$err"
exits_with 1 infuse donors --donor "$donor_open_tcp" --key "$key"
[[ $err == *"key"* ]] || fail "$err"
exits_with 1 infuse donors --donor "$donor_a_tcp" --key "$scratch/nothing"
[[ $err == *"No such file"* ]] || fail "$err"

# An administrator's word is an administrator's.
exits_with 1 infuse drain --key "$scratch/metrics" "$donor_a_tcp"
exits_with 1 infuse drain --key "$scratch/borrower" "$donor_a_tcp"
exits_with 0 infuse drain --key "$scratch/admin" "$donor_a_tcp"
exits_with 0 infuse drain --undo --key "$key" "$donor_a_tcp"

refused() { # WORDS DONOR
	local rc=0
	echo | keeper "$2" 4 > "$scratch/refused" 2>&1 || rc=$?
	[ $rc -eq 1 ] || fail "'$1' expected; status $rc: $(cat "$scratch/refused")"
	[[ $(cat "$scratch/refused") == *"$1"* ]] || fail "'$1' expected: $(cat "$scratch/refused")"
}
refused "only who has its key" "$donor_a_tcp"
INFUSE_KEY_FILE="$scratch/other" refused "key is not known" "$donor_a_tcp"
INFUSE_KEY_FILE="$scratch/metrics" refused "not for borrowing" "$donor_a_tcp"
INFUSE_KEY_FILE="$key" refused "can't be trusted" "$donor_open_tcp"

# The first key is used, the second is accepted, an expired one is not; who is in stays.
cp -p "$key" "$scratch/before"
export INFUSE_KEY_FILE="$scratch/before"
keep old "$donor_a_tcp" 4
infuse key rotate "$key" --keep 1h
kill -HUP "$donor_a_pid"
until_true 10 grep -q "read again" "$scratch/a.log"
exits_with 0 infuse donors --donor "$donor_a_tcp" --key "$key"
exits_with 0 infuse donors --donor "$donor_a_tcp" --key "$scratch/before"
infuse key rotate "$key" --keep 0s
kill -HUP "$donor_a_pid"
read_twice() { [ "$(grep -c "read again" "$scratch/a.log")" -ge 2 ]; }
until_true 10 read_twice
exits_with 1 infuse donors --donor "$donor_a_tcp" --key "$scratch/before"
exits_with 0 infuse donors --donor "$donor_a_tcp" --key "$key"
kept old

# One line a second at most about strangers, without a secret.
[ "$(grep -c 'closed 127' "$scratch/a.log")" -ge 1 ] || fail "strangers are not told of"
