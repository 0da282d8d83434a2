# SPDX-License-Identifier: MIT
# redis-server's BGSAVE writes what was there when it forked, although everything is overwritten
# while it saves; and the server itself loses nothing.
. "$(dirname "$0")/functions.sh"
. "$(dirname "$0")/run-functions.sh"
requires redis-cli
# redis-tools brings the server under another name, and no service that starts by itself.
if ! command -v redis-server > /dev/null; then
	requires redis-check-rdb
	mkdir "$scratch/bin"
	ln -s "$(command -v redis-check-rdb)" "$scratch/bin/redis-server"
	PATH=$scratch/bin:$PATH
fi

start_donor a --size 1G --lazy

# start_redis NAME [COMMAND...]: a server on a UNIX socket in a folder of its own.
start_redis() {
	local name=$1; shift
	mkdir -p "$scratch/$name"
	"$@" redis-server --port 0 --unixsocket "$scratch/$name/redis.sock" --dir "$scratch/$name" \
		--save '' --enable-debug-command yes --logfile "$scratch/$name/redis.txt" \
		--daemonize no > "$scratch/$name.log" 2>&1 &
	started+=($!)
	until_true 20 ready "$name"
}
# Not before it has loaded its dump.
ready() { [ "$(cli "$1" ping)" = PONG ]; }
cli() { redis-cli -s "$scratch/$1/redis.sock" "${@:2}"; }
# fill NAME SEED: 60,000 keys, 60 MB.
fill() {
	awk -v seed="$2" 'BEGIN { srand(seed); for (i = 0; i < 60000; i++) { v = ""
		for (k = 0; k < 12; k++) v = v sprintf("%08x%08x", rand() * 4294967296, i * k + seed)
		printf "SET key:%d %s%s%s%s%s\r\n", i, v, v, v, v, v } }' |
		cli "$1" --pipe > "$scratch/pipe.txt"
	grep -q 'errors: 0' "$scratch/pipe.txt" || fail "redis took not all of it: $(cat "$scratch/pipe.txt")"
}
saving() { [ "$(cli ours info persistence | tr -d '\r' | sed -n 's/^rdb_bgsave_in_progress://p')" = 1 ]; }
saved() { ! saving; }

start_redis ours infuse run --local 16M --donor "shm:$scratch/a.sock" --stats-file "$scratch/stats" --
fill ours 1
before=$(cli ours debug digest)
cli ours bgsave > "$scratch/bgsave.txt"
saving || fail "the save was over before anything was overwritten"
fill ours 2
until_true 60 saved
[ "$(cli ours info persistence | tr -d '\r' | sed -n 's/^rdb_last_bgsave_status://p')" = ok ] ||
	fail "the save failed: $(tail -n 5 "$scratch/ours/redis.txt")"
after=$(cli ours debug digest)
[ "$after" != "$before" ] || fail "nothing was overwritten"

# A plain server says what the dump holds.
mkdir "$scratch/theirs"
cp "$scratch/ours/dump.rdb" "$scratch/theirs/dump.rdb"
start_redis theirs
[ "$(cli theirs debug digest)" = "$before" ] || fail "the dump is not the state at the fork"
fill theirs 2
[ "$(cli theirs debug digest)" = "$after" ] || fail "the server is not in the state it should be in"
cli ours shutdown nosave || true
until_true 10 test -s "$scratch/stats"
sleep 0.5
went_out 10000
