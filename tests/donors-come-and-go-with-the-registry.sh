# SPDX-License-Identifier: MIT
# Donors are listed once they have announced themselves, and gone when they have ended; a killed
# one is shown as unreachable meanwhile, and the others are shown all the same.
. "$(dirname "$0")/functions.sh"
export INFUSE_REGISTRY="$scratch/registry.db"

exits_with 1 infuse donors
[[ $err == "infuse donors: no donors are known here: 'infuse serve' starts one "* ]] || fail "$err"
[ ! -e "$INFUSE_REGISTRY" ] || fail "looking made a registry"

start_announced_donor alpha "$INFUSE_REGISTRY" --domain rack1
start_announced_donor beta "sqlite:$INFUSE_REGISTRY"
listed() { infuse donors > "$scratch/out" 2>&1; grep -c '  up$' "$scratch/out" | grep -qx "$1"; }
until_true 10 listed 2
grep -Eq "^alpha  unix:$scratch/alpha.sock +rack1 +64 MiB  64 MiB +0 +0 +0  up$" "$scratch/out" ||
	fail "$(cat "$scratch/out")"

exits_with 0 infuse donors --json
is_json "$scratch/out" || fail "no JSON: $(cat "$scratch/out")"
for word in '"name":"beta"' '"state":"up"' '"size_bytes":67108864' "\"$donor_beta_tcp\""; do
	grep -qF "$word" "$scratch/out" || fail "$word is not in $(cat "$scratch/out")"
done

# Named ones override the registry.
exits_with 0 infuse donors --donor "$donor_beta_tcp" --donor "$donor_beta_tcp"
[ "$(grep -c '  up$' "$scratch/out")" -eq 1 ] || fail "$(cat "$scratch/out")"
INFUSE_DONOR="$donor_alpha_tcp" exits_with 0 infuse volumes
exits_with 0 infuse stat --donor "shm:$scratch/alpha.sock"

kill -KILL "$donor_alpha_pid"
# The kernel takes a killed server's ring apart at leisure; its socket takes connections until then.
refuses() { ! infuse donors 2> "$scratch/err" > /dev/null && grep -q refused "$scratch/err"; }
until_true 10 refuses
exits_with 1 infuse donors
grep -Eq '^alpha .* unreachable$' "$scratch/out" || fail "$(cat "$scratch/out")"
grep -Eq '^beta .* up$' "$scratch/out" || fail "$(cat "$scratch/out")"
[[ $err == "infuse donors: unix:$scratch/alpha.sock: Connection refused" ]] || fail "$err"
exits_with 1 infuse donors --json
is_json "$scratch/out" || fail "no JSON: $(cat "$scratch/out")"
grep -q '"state":"unreachable","reason":"unix:' "$scratch/out" || fail "$(cat "$scratch/out")"

kill -TERM "$donor_beta_pid"
gone() { ! { infuse donors 2>&1 || true; } | grep -q "^$1"; }
until_true 15 gone beta
