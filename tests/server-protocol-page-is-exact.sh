#!/bin/bash
# The tables of docs/protocol.md say the same as include/infuse/wire.h.
. "$(dirname "$0")/functions.sh"

header="$INFUSE_SOURCE/include/infuse/wire.h"
page="$INFUSE_SOURCE/docs/protocol.md"

# listed LIST: "number name text" of an X list of the header
listed() {
	sed -n "/^#define $1(X)/,/[^\\\\]$/p" "$header" |
		sed -nE 's/^[[:space:]]*X\(([A-Z]+), ([0-9]+), "([^"]*)"\).*/\2 \1 \3/p'
}
# shellcheck disable=SC2016 # the backquotes are the page's
# told TITLE: "number name text" of the page's table
told() {
	sed -n "/^## $1\$/,/^## /p" "$page" |
		sed -nE 's/^\| ([0-9]+) \| `([A-Z]+)` \| (.*) \|$/\1 \2 \3/p'
}

for pair in WIRE_OPS:Operations WIRE_ERRORS:Errors; do
	listed "${pair%:*}" > "$scratch/listed"
	told "${pair#*:}" > "$scratch/told"
	[ "$(wc -l < "$scratch/listed")" -ge 12 ] || fail "can't read ${pair%:*} in wire.h"
	diff "$scratch/listed" "$scratch/told" || fail "the page's ${pair#*:} differ from the header"
done

# shellcheck disable=SC2016
sed -n '/^## Limits$/,/^## /p' "$page" |
	sed -nE 's/^\| `(WIRE_[A-Z_]+)` \| ([0-9]+) \|.*/\1 \2/p' > "$scratch/limits"
[ "$(wc -l < "$scratch/limits")" -ge 7 ] || fail "the page has no limits"
while read -r name value; do
	grep -qE "^#define $name +${value}u( |\$)" "$header" || fail "$name is not $value in wire.h"
done < "$scratch/limits"

version=$(sed -nE 's/^#define WIRE_(MAJOR|MINOR) ([0-9]+).*/\2/p' "$header" | paste -sd.)
grep -qF "\`WIRE_MAJOR\`.\`WIRE_MINOR\` is $version" "$page" || fail "the page's version is not $version"
