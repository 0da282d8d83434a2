# SPDX-License-Identifier: MIT
# keep=yes: an nbdkit is paused, or killed, in the middle of writes, and another one goes on with its volume: it
# finds everything that was acknowledged. When the first one wakes up none of its writes lands, and its client gets
# errors. A volume of which a slab's newest copy may be out of reach is taken over with force=yes only.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
# shellcheck source=tests/nbd-functions.sh
. "$(dirname "$0")/nbd-functions.sh"
find_nbdsh || skip "python3-libnbd is not installed"

registry="$scratch/registry.db"
announced() { [ "$(infuse donors --timeout 5s --registry "$registry" --json | grep -o '"name"' | wc -l)" -ge "$1" ]; }
for name in a b c; do start_announced_donor $name "$registry" --slab 256K --lazy --grace 60s; done
until_true 20 announced 3

# write URI FILE: pages with numbers that rise, until a write fails; then the last number of each page that was
# acknowledged, and the last that was tried, go into FILE. dump URI FILE: the number of each page.
# some URI FIRST: writes number FIRST + page into the even pages. refused URI: every write and read fails.
cat > "$scratch/pages.py" << 'END'
import json, nbd, random, struct, sys
what, uri = sys.argv[1:3]
PAGES, PAGE = 2048, 4096
h = nbd.NBD()
h.connect_uri(uri)
page = lambda p, n: struct.pack("<QQ", p, n) * (PAGE // 16)

def number(p):
    b = h.pread(PAGE, p * PAGE)
    if b == bytes(PAGE):
        return 0
    at, n = struct.unpack("<QQ", b[:16])
    if at != p or b != page(p, n):
        sys.exit("page %d is no page that was ever written" % p)
    return n

if what == "write":
    acked, tried = [0] * PAGES, [0] * PAGES
    n = 0
    open(sys.argv[3] + ".begun", "w").close()
    try:
        while True:
            n += 1
            p = random.randrange(PAGES)
            tried[p] = n
            h.pwrite(page(p, n), p * PAGE)
            acked[p] = n
    except nbd.Error as e:
        json.dump([acked, tried, n, str(e)], open(sys.argv[3], "w"))
elif what == "dump":
    json.dump([number(p) for p in range(PAGES)], open(sys.argv[3], "w"))
elif what == "some":
    for p in range(0, PAGES, 2):
        h.pwrite(page(p, int(sys.argv[3]) + p), p * PAGE)
elif what == "refused":
    for p in range(32):
        for op in (lambda: h.pwrite(page(p, 1 << 40), p * PAGE), lambda: h.pread(PAGE, p * PAGE)):
            try:
                op()
            except nbd.Error:
                continue
            sys.exit("page %d was served by a writer that was replaced" % p)
END
pages() { "$nbd_python" "$scratch/pages.py" "$1" "$(nbd_uri "$2")" "${@:3}"; }

# what_was_acknowledged DUMP WRITER'S: nothing of it is missing, and nothing else is there.
cat > "$scratch/compare.py" << 'END'
import json, sys
now = json.load(open(sys.argv[1]))
acked, tried, n, why = json.load(open(sys.argv[2]))
if n < 100:
    sys.exit("only %d writes: the test is too small" % n)
for p, at in enumerate(now):
    if not acked[p] <= at <= tried[p]:
        sys.exit("page %d: %d was acknowledged, %d was tried, %d is there" % (p, acked[p], tried[p], at))
print("%d writes acknowledged, then: %s" % (n - 1, why))
END

# The machine may be busy: nobody is suspected soon.
start_nbd_kept() { start_nbd "$1" 8M volume="$2" registry="$registry" keep=yes deadline=20s suspect=15s "${@:3}"; }

# taken_over SIGNAL REPLICAS NAME
taken_over() {
	local signal=$1 volume=$3 first="$3_1" second="$3_2" writer old
	start_nbd_kept "$first" "$volume" replicas="$2"
	old=$(cat "$scratch/$first.pid")
	pages write "$first" "$scratch/$volume.writer" &
	writer=$!
	started+=("$writer")
	until_true 20 test -e "$scratch/$volume.writer.begun"
	sleep 1
	kill "-$signal" "$old"
	start_nbd_kept "$second" "$volume" replicas="$2"
	pages dump "$second" "$scratch/$volume.found"
	pages some "$second" 1000000
	pages dump "$second" "$scratch/$volume.before"
	[ "$signal" = KILL ] || kill -CONT "$old"
	wait "$writer" || fail "the writer ended badly"
	"$nbd_python" "$scratch/compare.py" "$scratch/$volume.found" "$scratch/$volume.writer" ||
		fail "$volume is not what was acknowledged"
	[ "$signal" = KILL ] || pages refused "$first"
	pages dump "$second" "$scratch/$volume.after"
	cmp "$scratch/$volume.before" "$scratch/$volume.after" || fail "$volume: the old writer changed bytes"
	[ "$signal" = KILL ] || kill "$old"
	last=$second
}
taken_over STOP 2 paused
taken_over KILL 2 killed
taken_over STOP 1 single

# A writer that left in order is followed by the next one, too.
old=$(cat "$scratch/$last.pid")
kill "$old"
is_gone() { ! kill -0 "$old" 2> /dev/null; }
until_true 20 is_gone
start_nbd_kept third single
pages dump third "$scratch/third.found"
cmp "$scratch/third.found" "$scratch/single.after" || fail "bytes were lost by an orderly end"

# One of two donors died together with the writer: perhaps it knew more than the other one.
kill -KILL "$(cat "$scratch/killed_2.pid")"
kill -KILL "$donor_a_pid"
start=$SECONDS
exits_with 1 timeout 60 nbdkit -f -U "$scratch/no.nbd" "$plugin" 8M volume=killed registry="$registry" keep=yes replicas=2
case $err in *"force the takeover"*) ;; *) fail "it says: $err" ;; esac
start_nbd_kept forced killed replicas=2 force=yes
pages dump forced "$scratch/forced.found"
cmp "$scratch/forced.found" "$scratch/killed.after" || fail "the copies that were left are not those"
echo "forced in $((SECONDS - start)) s"

# Forgetting one: it is nobody's any more, and the donors have their memory back.
infuse volumes --kept --registry "$registry" > "$scratch/kept"
grep -q '^single .*open' "$scratch/kept" || fail "$(cat "$scratch/kept")"
for volume in single paused killed; do infuse volumes --forget $volume --registry "$registry"; done
[ "$(infuse volumes --kept --json --registry "$registry" | tr -d ' \n')" = '{"kept":[]}' ] ||
	fail "$(infuse volumes --kept --registry "$registry")"
free_slabs() { infuse donors --timeout 5s --donor "$1" --json | grep -o '"free_bytes":[0-9]*'; }
given_back() { [ "$(free_slabs "$donor_b_tcp")$(free_slabs "$donor_c_tcp")" = '"free_bytes":67108864"free_bytes":67108864' ]; }
until_true 30 given_back
pages refused third
exits_with 1 infuse volumes --forget single --registry "$registry"
