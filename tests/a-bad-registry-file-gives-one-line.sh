# SPDX-License-Identifier: MIT
# Whatever is wrong with the registry's file, the verbs say so in one line and change nothing.
. "$(dirname "$0")/functions.sh"

head -c 8192 /dev/urandom > "$scratch/garbage.db"
sum=$(cksum < "$scratch/garbage.db")
exits_with 1 infuse donors --registry "$scratch/garbage.db"
[ "$err" = "infuse donors: registry $scratch/garbage.db: the file is not a registry" ] || fail "$err"
[ "$(cksum < "$scratch/garbage.db")" = "$sum" ] || fail "the file was changed"

exits_with 1 infuse volumes --registry "$scratch"
[ "$err" = "infuse volumes: registry $scratch: this is a folder, not a file" ] || fail "$err"
exits_with 1 infuse stat --registry consul:host
[[ $err == "infuse stat: registry 'consul:host': no backend 'consul'; use sqlite:PATH, a path, or "* ]] ||
	fail "$err"
exits_with 1 infuse donors --registry /dev/null
[[ $err == *"this is a device or pipe, not a file" ]] || fail "$err"

# A document that is none is one donor that can't be reached, not the end of the list.
start_announced_donor good "$scratch/registry.db"
up() { infuse donors --registry "$scratch/registry.db"; }
until_true 10 up
requires sqlite3
sqlite3 "$scratch/registry.db" \
	"INSERT INTO entry VALUES ('donor/bad', CAST('{\"addresses\":5}' AS BLOB), 1, 0)"
exits_with 1 infuse donors --registry "$scratch/registry.db"
[ "$err" = "infuse donors: donor/bad: the registry's document is not a donor's" ] || fail "$err"
grep -Eq '^good .* up$' "$scratch/out" || fail "$(cat "$scratch/out")"
