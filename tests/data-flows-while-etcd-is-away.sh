# SPDX-License-Identifier: MIT
# Donors and a borrower of a cluster whose registry is etcd. Its leader is killed, then all of it is away for
# some seconds (INFUSE_ETCD_AWAY=60: a minute): pages are written, read and checked all the time without one
# error; what needs the registry says so in bounded time; and when it is back the donors are in it again.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
# shellcheck source=tests/etcd-functions.sh
. "$(dirname "$0")/etcd-functions.sh"
requires jq
away=${INFUSE_ETCD_AWAY:-8}

start_etcd 3
start_announced_donor a "$etcd_url/c"
start_announced_donor b "$etcd_url/c"
start_announced_donor c "$etcd_url/c"
listed() { [ "$(infuse donors --timeout 10s --registry "$etcd_url/c" --json | jq '[.donors[] | select(.state == "up")] | length')" -eq 3 ]; }
until_true 30 listed

mapfile -t donors < <(infuse donors --timeout 10s --registry "$etcd_url/c" --json |
	jq -r '.donors[].addresses[] | select(startswith("tcp:"))')
[ ${#donors[@]} -eq 3 ] || fail "no addresses in the registry: ${donors[*]}"
volume-load 16 2 "${donors[@]}" > "$scratch/load" 2> "$scratch/load.log" &
started+=($!)
load=$!
seconds() { [ "$(grep -c ' ' "$scratch/load")" -ge "$1" ]; }
until_true 60 seconds 2

# The leader dies: the others go on.
leads() { leader=$(etcd_leader); }
until_true 30 leads
kill -KILL "${etcd_pid[leader]}"
wait "${etcd_pid[leader]}" 2> /dev/null || true
until_true 30 listed
start_member "$leader"
until_true 30 etcd_is_up "${etcd_port[leader]}"

# All of it is gone.
for p in "${etcd_pid[@]}"; do kill -KILL "$p"; wait "$p" 2> /dev/null || true; done
begun=$SECONDS
from=$(wc -l < "$scratch/load")
exits_with 1 infuse donors --registry "$etcd_url/c"
case $err in *"no member answered within"*) ;; *) fail "it said: $err" ;; esac
[ $((SECONDS - begun)) -le 30 ] || fail "that took $((SECONDS - begun)) s"
exits_with 125 infuse run --local 16M --registry "$etcd_url/c" -- true
case $err in *"no member answered within"*) ;; *) fail "run said: $err" ;; esac
while [ $((SECONDS - begun)) -lt "$away" ]; do read -rt 0.5 <> <(:) || true; done
kill -0 "$load" || fail "the borrower ended: $(cat "$scratch/load.log")"
sed "1,${from}d" "$scratch/load" > "$scratch/during"
[ -s "$scratch/during" ] || fail "nothing was told while etcd was away"
awk '$2 == 0 { exit 1 }' "$scratch/during" || fail "it stood still: $(cat "$scratch/during")"

for i in 0 1 2; do start_member "$i"; done
for i in 0 1 2; do until_true 60 etcd_is_up "${etcd_port[i]}"; done
until_true 60 listed
kill "$load"
rc=0
wait "$load" || rc=$?
[ "$rc" -eq 0 ] || fail "the borrower: $(tail -n 1 "$scratch/load") $(cat "$scratch/load.log")"
grep -q "not in the registry for now" "$scratch/a.log" || fail "a donor did not notice"
awk '{ s += $2; if ($3 > m) m = $3 } END { print s " batches, the longest took " m " ms" }' "$scratch/load"
