# SPDX-License-Identifier: MIT
# Each command's man page names all of its options and no other, and is well-formed.
. "$(dirname "$0")/functions.sh"
requires mandoc

# page NAME: the file of its man page, of whatever section.
page() { find "$INFUSE_SOURCE" -path "$INFUSE_SOURCE/build" -prune -o -name "$1.[1-8]" -print; }

# Options as a reader of the page sees them, whichever macros it is written in.
named() {
	mandoc -T ascii -O width=1000 "$1" | sed 's/.\x08//g' |
		grep -oE -- '(^|[^a-z0-9-])--[a-z][a-z0-9-]*' | grep -oE -- '--.*' | sort -u
}

# compare PAGE COMMAND...: its options against those of the page.
compare() {
	local file name=$1; shift
	file=$(page "$name")
	[ -n "$file" ] || fail "$*: there is no man page $name"
	"$@" --dump-options | sed 's/^/--/' | sort -u > "$scratch/has"
	[ -s "$scratch/has" ] || fail "$* --dump-options printed nothing"
	named "$file" > "$scratch/names"
	comm -23 "$scratch/has" "$scratch/names" | sed "s|^|$name: does not tell of |" >> "$scratch/wrong"
	comm -13 "$scratch/has" "$scratch/names" | sed "s|^|$name: tells of $* |" >> "$scratch/wrong"
	checked+=("$name")
}

: > "$scratch/wrong"
checked=()
for verb in $(infuse --dump-verbs); do
	case $verb in
	serve | bench) ;; # programs of their own, below
	*) compare "infuse-$verb" infuse "$verb" ;;
	esac
done
for program in infuse-memory-server infuse-bench; do
	if command -v $program > /dev/null; then compare $program $program; fi
done
for word in $(infuse --dump-verbs); do
	grep -q "^\.B $word\$" "$(page infuse)" || echo "infuse: does not tell of $word" >> "$scratch/wrong"
done
# The nbdkit plugin has parameters instead of options.
pod="$INFUSE_SOURCE/nbdkit-rswap/nbdkit-rswap-plugin.pod"
plugin="$INFUSE_BUILD/lib/nbdkit-rswap-plugin.so"
if [ -e "$plugin" ] && [ -z "${INFUSE_SANITIZE:-}" ] && command -v nbdkit > /dev/null; then
	nbdkit "$plugin" --help | sed -n 's/^\([a-z-]*\)=[A-Zy].*/\1/p' | sort -u > "$scratch/has"
	[ -s "$scratch/has" ] || fail "nbdkit $plugin --help names no parameters"
	sed -n 's/^=item \[*B<\([a-z-]*\)=>.*/\1/p' "$pod" | sort -u > "$scratch/names"
	diff "$scratch/has" "$scratch/names" > "$scratch/diff" ||
		fail "nbdkit-rswap-plugin.pod (>) is not what nbdkit --help says (<): $(cat "$scratch/diff")"
	checked+=(nbdkit-rswap-plugin)
fi
if command -v podchecker > /dev/null; then
	podchecker "$pod" > "$scratch/lint" 2>&1 || fail "$(cat "$scratch/lint")"
fi
# rswap.conf's settings are those that its parser names.
printf '[rswap0]\nx = y\n' > "$scratch/rswap.conf"
exits_with 1 infuse up --config "$scratch/rswap.conf" rswap0
grep -oE '\([a-z, ]*\)' <<< "$err" | tr -d '(,)' | tr ' ' '\n' | sort -u > "$scratch/has"
sed -n '/^\.SH SETTINGS/,/^\.SH EXAMPLE/{/^\.TP/{n;s/^\.B //p}}' "$(page rswap.conf)" | sort -u > "$scratch/names"
diff "$scratch/has" "$scratch/names" > "$scratch/diff" || fail "rswap.conf.5: $(cat "$scratch/diff")"
[ ! -s "$scratch/wrong" ] || fail "$(cat "$scratch/wrong")"

while IFS= read -r file; do
	mandoc -T lint -W warning "$file" > "$scratch/lint" 2>&1 || fail "$(cat "$scratch/lint")"
	if command -v man > /dev/null && command -v groff > /dev/null; then
		man --warnings -l "$file" 2> "$scratch/lint" > /dev/null || true
		[ ! -s "$scratch/lint" ] || fail "$file: $(cat "$scratch/lint")"
	fi
done < <(page infuse; page 'infuse-*'; page 'libinject*'; page rswap.conf)
echo "compared: ${checked[*]}"
