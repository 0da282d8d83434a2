# SPDX-License-Identifier: MIT
# A program under infuse run is listed with the donors' memory that it holds while it runs, its
# pages are counted, and nothing of it is left when it has ended.
. "$(dirname "$0")/functions.sh"
requires userfaultfd
requires python3

start_donor a --size 128M
donor=(--donor "$donor_a_tcp")
exits_with 0 infuse volumes "${donor[@]}" --json
grep -q '"volumes":\[\]' "$scratch/out" || fail "$(cat "$scratch/out")"

mkfifo "$scratch/go"
infuse run --local 8M "${donor[@]}" -- python3 -c '
import sys
data = bytearray(b"infuse" * 8_000_000)
print("ready", flush=True)
open(sys.argv[1]).read()
print(data.count(b"infuse"), flush=True)' "$scratch/go" > "$scratch/program" 2> "$scratch/run.log" &
program=$!
started+=("$program")
until_true 60 grep -q ready "$scratch/program"

exits_with 0 infuse volumes "${donor[@]}" --json
is_json "$scratch/out" || fail "no JSON: $(cat "$scratch/out")"
python3 - "$scratch/out" << 'END' || fail "$(cat "$scratch/out")"
import json, sys
volumes = json.load(open(sys.argv[1]))["volumes"]
assert len(volumes) == 1, volumes
v = volumes[0]
assert v["donor"] == "a" and v["state"] == "up" and v["pid"] > 1, v
assert v["bytes"] >= 32 << 20 and v["bytes"] == v["slabs"] * (4 << 20), v
assert v["written_bytes"] >= 24 << 20, v
END
exits_with 0 infuse volumes "${donor[@]}"
grep -Eq '^a  +[^ ]+ +[0-9]+ +[0-9]+ +[0-9.]+ MiB .* up$' "$scratch/out" || fail "$(cat "$scratch/out")"
exits_with 0 infuse stat "${donor[@]}"
grep -Eq '^a .* up$' "$scratch/out" || fail "$(cat "$scratch/out")"

echo go > "$scratch/go"
rc=0
wait $program || rc=$?
[ $rc -eq 0 ] || fail "the program ended with $rc: $(cat "$scratch/run.log")"
[ "$(tail -n 1 "$scratch/program")" = 8000000 ] || fail "it counted $(tail -n 1 "$scratch/program")"
gone() { infuse volumes "${donor[@]}" --json | grep -q '"volumes":\[\]'; }
until_true 20 gone
