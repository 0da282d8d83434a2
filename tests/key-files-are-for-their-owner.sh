#!/bin/bash
# infuse key makes files that only their owner can read, tells their keys but no secret, and rotates and
# derives; a file that others can read is refused with a word that helps.
. "$(dirname "$0")/functions.sh"

key="$scratch/key"
(umask 000; infuse key gen "$key")
[ "$(stat -c %a "$key")" = 600 ] || fail "mode $(stat -c %a "$key")"
exits_with 1 infuse key gen "$key"
[[ $err == *"is there already"* ]] || fail "$err"

secret=$(awk '/^infuse-key-1/ { print $6 }' "$key")
[[ $secret =~ ^[0-9a-f]{64}$ ]] || fail "no secret in the file"
exits_with 0 infuse key show "$key"
! grep -q "${secret:8:16}" "$scratch/out" || fail "show shows the secret"
grep -q 'cluster.*in use' "$scratch/out" || fail "$(cat "$scratch/out")"
id=$(awk 'NR == 2 { print $1 }' "$scratch/out")

infuse key rotate "$key" --keep 1h
[ "$(stat -c %a "$key")" = 600 ] || fail "mode $(stat -c %a "$key")"
exits_with 0 infuse key show --json "$key"
is_json "$scratch/out" || fail "$(cat "$scratch/out")"
grep -q "\"id\":\"$id\",.*\"state\":\"accepted\"" "$scratch/out" || fail "$(cat "$scratch/out")"
grep -q "$secret" "$key" || fail "the old key is gone"
infuse key rotate "$key" --keep 0s
! grep -q "$secret" "$key" || fail "the old key is still there"
[ "$(grep -c ^infuse-key-1 "$key")" -eq 1 ] || fail "$(infuse key show "$key")"

infuse key derive --role metrics "$key" "$scratch/metrics"
secret=$(awk '/^infuse-key-1/ { print $6 }' "$key")
! grep -q "$secret" "$scratch/metrics" || fail "the role's file has the cluster's key"
exits_with 1 infuse key derive --role admin "$scratch/metrics" "$scratch/admin"
[ ! -e "$scratch/admin" ] || fail "an admin's key came of a metrics reader's"
exits_with 1 infuse key rotate "$scratch/metrics"

chmod 640 "$key"
for command in "key show" "key rotate" "key derive --role admin"; do
	to=()
	[[ $command != *derive* ]] || to=("$scratch/x")
	# shellcheck disable=SC2086 # several words
	exits_with 1 infuse $command "$key" "${to[@]}"
	[[ $err == *"is open to others (mode 0640): chmod 600"* ]] || fail "$command: $err"
done
exits_with 1 infuse serve --key "$key" --listen tcp:127.0.0.1:0 --size 4M --no-registry
[[ $err == *"is open to others"* ]] || fail "serve: $err"
exits_with 2 infuse key
exits_with 2 infuse key show
exits_with 2 infuse key open "$key"
