# SPDX-License-Identifier: MIT
# Without donors infuse run starts a memory server of its own and says so; when the command and all
# that it left behind are gone, so are server, keeper, socket and folder. However it ends.
. "$(dirname "$0")/functions.sh"
. "$(dirname "$0")/run-functions.sh"

export TMPDIR=$scratch/tmp
mkdir "$TMPDIR"
export INFUSE_REGISTRY="$scratch/no-registry.db"
clean() { [ -z "$(ls -A "$TMPDIR")" ] && ! pgrep -f "infuse-memory-server.*$TMPDIR" > /dev/null; }
busy() { pgrep -f "infuse-memory-server.*$TMPDIR" > /dev/null; }
big='import sys; x = bytearray(30 << 20); x[::4096] = b"x" * len(x[::4096]); print(sum(x)); sys.stdout.flush()'

requires python3
out=$(infuse run --local 8M --donor-size 128M --stats-file "$scratch/stats" -- python3 -c "$big" 2> "$scratch/err")
[ "$out" = "$((120 * 7680))" ] || fail "wrong sum $out: $(cat "$scratch/err")"
grep -q 'private memory server lends up to 128 MiB' "$scratch/err" || fail "not a word about it: $(cat "$scratch/err")"
until_true 10 clean
went_out 1000

# Killed: nothing can be done at the end, and still.
infuse run --local 8M --donor-size 128M -- python3 -c "$big; import time; time.sleep(100)" > "$scratch/out" 2> "$scratch/err" &
pid=$!
started+=("$pid")
until_true 20 grep -q . "$scratch/out"
busy || fail "no server"
kill -KILL $pid
until_true 10 clean

# A daemon stays behind: its memory does, too.
infuse run --local 8M --donor-size 128M -- sh -c "setsid python3 -c 'import time; time.sleep(1.5); $big' > $scratch/late 2>&1 &" 2> "$scratch/err"
busy || fail "the server did not wait for the daemon"
until_true 20 grep -q . "$scratch/late"
[ "$(cat "$scratch/late")" = "$((120 * 7680))" ] || fail "the daemon: $(cat "$scratch/late")"
until_true 10 clean

# The server can't be had: a word, no command.
status=0
infuse run --donor-size 100T -- echo started > "$scratch/out" 2> "$scratch/err" || status=$?
[ ! -s "$scratch/out" ] || [ "$status" -eq 0 ] || fail "started without memory"
until_true 10 clean
