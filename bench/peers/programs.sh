#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Unmodified programs with a quarter of their working set local: under `infuse run` over tcp and
# shm, and under kernel swap with the same limit, on a disk file and on zram. Prints a JSON object a
# line: program, way, seconds, factors of the peers to ours, and whether the output was the plain
# run's (a different one is an error). What can't run here says why in "skipped".
set -euo pipefail

usage() { echo "Usage: $0 [--quick] BIN-FOLDER"; }
quick=
if [ "${1-}" = --quick ]; then quick=1; shift; fi
[ $# -eq 1 ] || { usage >&2; exit 2; }
bin=$(cd "$1" && pwd)
export PATH="$bin:$PATH" LC_ALL=C
unset INFUSE_REGISTRY INFUSE_DONOR
most_seconds=90
server=
job=

# Swap files go where the temporary files are: that must be a disk.
folder=$(mktemp -d "${TMPDIR:-/var/tmp}/infuse-programs.XXXXXX")
finish() {
	local rc=$?
	trap - EXIT
	# The job undoes its swap area when it is told to end, and says when it has.
	[ -z "$job" ] || { kill "$job" 2> /dev/null && wait "$job" 2> /dev/null; } || true
	[ -z "$server" ] || { kill "$server" 2> /dev/null && wait "$server" 2> /dev/null; } || true
	rm -rf "$folder"
	exit "$rc"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

scale() { if [ -n "$quick" ]; then echo "$2"; else echo "$1"; fi; }

make_inputs() {
	cat > "$folder/job.sql" <<-SQL
	create table t(a integer, b text, c text);
	with recursive n(x) as (select 1 union all select x + 1 from n where x < $(scale 1200000 150000))
		insert into t select x, hex(x * 7919 % 10007), printf('%032d', x * 31 % 65537) from n;
	create index by_b on t(b, a);
	select count(*), sum(a), min(c), max(c) from t;
	select b, count(*), sum(a) from t group by b order by 3 desc limit 50;
	select count(*) from t x join t y on y.b = x.b where x.a < 2000 and y.a > 390000;
	update t set c = b || a where a % 7 = 0;
	delete from t where a % 11 = 0;
	select count(*), sum(length(c)) from t;
	SQL
	awk -v n="$(scale 200000 40000)" 'BEGIN { srand(1); pad = sprintf("%0560d", 0)
		for (i = 0; i < n; i++) printf "%08x%08x %d %s\n", rand() * 4294967296,
			rand() * 4294967296, i, pad }' > "$folder/in.txt"
	cat > "$folder/job.py" <<-PY
	import hashlib, random
	random.seed(7)
	n = $(scale 900000 150000)
	numbers = list(range(n))
	random.shuffle(numbers)
	words = {k: "%d" % (k * k) for k in numbers[: n // 4]}
	buffer = bytearray($(scale 96 16) << 20)
	for i in range(0, len(buffer), 4096):
	    buffer[i : i + 8] = (i * 2654435761 % 2**64).to_bytes(8, "little")
	h = hashlib.sha256(buffer)
	h.update(repr(sum(i * v for i, v in enumerate(numbers)) % 2**61).encode())
	for k in sorted(words):
	    h.update(words[k].encode())
	print(h.hexdigest(), sum(buffer[::4096]))
	PY
}

# command PROGRAM: sets argv.
command_of() {
	case $1 in
	sqlite3) argv=(sqlite3 :memory: ".read $folder/job.sql") ;;
	sort) argv=(sort -S "$(scale 256M 64M)" -T "$folder" "$folder/in.txt") ;;
	python3) argv=(env PYTHONHASHSEED=0 python3 "$folder/job.py") ;;
	esac
}

# timed NAME OPTIONS... -- COMMAND...: runs it under infuse-bench-swap in the background, so that a
# signal to us reaches it; output in NAME.out, report in NAME.json. Returns its status.
timed() {
	local name=$1 rc=0; shift
	rm -f "$folder/$name.json"
	timeout --signal=TERM "$most_seconds" infuse-bench-swap --report "$folder/$name.json" "$@" \
		> "$folder/$name.out" 2> "$folder/$name.err" < /dev/null &
	job=$!
	wait "$job" || rc=$?
	job=
	return "$rc"
}

# line PROGRAM WAY SECONDS PEAK LOCAL SKIPPED
line() {
	jq -cn --arg p "$1" --arg w "$2" --argjson s "${3:-null}" --argjson k "${4:-null}" \
		--argjson l "${5:-null}" --arg why "${6-}" --argjson plain "${plain_s:-null}" \
		--argjson tcp "${seconds_of[tcp]:-null}" --argjson shm "${seconds_of[shm]:-null}" '
		def over($x): if $s != null and $x != null and $x > 0 then $s / $x * 1000 | round / 1000 else null end;
		{kind: "program", program: $p, way: $w, seconds: $s, peak_kib: $k, local_kib: $l,
		slowdown: over($plain), factor_tcp: over($tcp), factor_shm: over($shm),
		equal: ($s != null), skipped: (if $why == "" then null else $why end)}'
}

# one PROGRAM WAY OPTIONS... -- COMMAND...: a line; the output must be the plain run's.
one() {
	local program=$1 way=$2 rc=0 s why=; shift 2
	for _ in 1 2 3; do
		rc=0
		timed "$way" "$@" || rc=$?
		# At times the kernel kills what thrashes although there is room in the swap area.
		[ "$rc" -eq 137 ] || break
	done
	case $rc in
	0) cmp "$folder/plain.out" "$folder/$way.out" >&2 || { echo "programs.sh: $program printed something else ($way)" >&2; exit 1; }
		s=$(jq .seconds "$folder/$way.json")
		seconds_of[$way]=$s
		line "$program" "$way" "$s" "$(jq .peak_kib "$folder/$way.json")" "$local_kib"
		return ;;
	124) why="not done in $most_seconds s" ;;
	137) why="killed by the kernel for want of memory, three times" ;;
	*) why=$(tail -n 1 "$folder/$way.err"); why=${why:-ended with status $rc} ;;
	esac
	line "$program" "$way" null null "$local_kib" "$why"
}

make_inputs
"$bin/infuse-memory-server" --name programs --listen "unix:$folder/donor.sock" --listen tcp:127.0.0.1:0 \
	--size 2G --lazy --no-registry --quiet --ready-file "$folder/ready" > "$folder/server.log" 2>&1 &
server=$!
for _ in {1..200}; do [ -s "$folder/ready" ] && break; sleep 0.05; done
[ -s "$folder/ready" ] || { echo "programs.sh: the memory server did not start: $(tail -n 1 "$folder/server.log")" >&2; exit 1; }
tcp=$(grep ^tcp: "$folder/ready" | head -n 1)

for program in sqlite3 sort python3; do
	declare -A seconds_of=()
	plain_s=null local_kib=null
	if ! command -v "$program" > /dev/null; then
		line "$program" plain null null null "$program is not installed"
		continue
	fi
	command_of "$program"
	timed plain --swap none -- "${argv[@]}" || { cat "$folder/plain.err" >&2; exit 1; }
	plain_s=$(jq .seconds "$folder/plain.json")
	peak=$(jq .peak_kib "$folder/plain.json")
	line "$program" plain "$plain_s" "$peak" null
	local_kib=$((peak / 4))
	one "$program" tcp --swap none -- infuse run --local "${local_kib}K" --donor "$tcp" -- "${argv[@]}"
	one "$program" shm --swap none -- infuse run --local "${local_kib}K" --donor "shm:$folder/donor.sock" -- "${argv[@]}"
	for swap in disk zram; do
		one "$program" "swap-$swap" --swap "$swap" --limit "${local_kib}K" --area "$((peak * 2 + 65536))K" -- "${argv[@]}"
	done
done
