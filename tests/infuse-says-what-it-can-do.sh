# SPDX-License-Identifier: MIT
# infuse lists its verbs, suggests one for a typing error, and every verb has a help and refuses
# what it does not know with one line and status 2.
. "$(dirname "$0")/functions.sh"

exits_with 0 infuse --help
for verb in $(infuse --dump-verbs); do
	grep -q "^  $verb  *[a-z]" "$scratch/out" || fail "$verb is not in the help"
done
exits_with 0 infuse --version
grep -Eqx 'infuse [0-9.]+' "$scratch/out" || fail "a strange version"

exits_with 2 infuse
[ "$err" = "infuse: which verb? infuse --help lists them" ] || fail "$err"
exits_with 2 infuse dnors
[ "$err" = "infuse: unknown verb 'dnors'; did you mean 'donors'?" ] || fail "$err"
exits_with 2 infuse vol
[ "$err" = "infuse: unknown verb 'vol'; did you mean 'volumes'?" ] || fail "$err"
exits_with 2 infuse frobnicate
[ "$err" = "infuse: unknown verb 'frobnicate'; infuse --help lists them" ] || fail "$err"
exits_with 2 infuse --frob
[ "$err" = "infuse: unknown option '--frob'; see infuse --help" ] || fail "$err"

for verb in check donors volumes stat rebalance; do
	exits_with 0 infuse $verb --help
	grep -q "^Usage: infuse $verb" "$scratch/out" || fail "infuse $verb --help: no usage"
	exits_with 2 infuse $verb --frob
	[ "$err" = "infuse $verb: unknown option '--frob'; see infuse $verb --help" ] || fail "$err"
	exits_with 2 infuse $verb word
	[ "$err" = "infuse $verb: 'word' is not an option; see infuse $verb --help" ] || fail "$err"
done
exits_with 2 infuse donors --timeout soon
[ "$err" = "infuse donors: --timeout: 'soon' is not a time" ] || fail "$err"
exits_with 2 infuse stat --watch=1us
[ "$err" = "infuse stat: --watch: 1us is not between 0.1 s and 86400 s" ] || fail "$err"

[ -w /dev/full ] || exit 0
rc=0
infuse check > /dev/full 2> "$scratch/err" || rc=$?
[ $rc -eq 1 ] || fail "a full disk under standard output ended with $rc"
grep -qx 'infuse check: standard output: No space left on device' "$scratch/err" ||
	fail "$(cat "$scratch/err")"
