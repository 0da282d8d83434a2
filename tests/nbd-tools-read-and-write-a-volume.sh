# SPDX-License-Identifier: MIT
# libnbd's own tools see a volume of two donors as what it is, and copy in and out what they should.
. "$(dirname "$0")/functions.sh"
. "$(dirname "$0")/nbd-functions.sh"
requires nbdinfo
requires nbdcopy
requires jq

start_donor a --size 64M --slab 256K
start_donor b --size 64M --slab 256K
# Not a whole number of pages.
size=$((96 * 1048576 + 512))
start_nbd v size=$size volume=tools donor="$donor_a_tcp" donor="shm:$scratch/b.sock"
uri=$(nbd_uri v)

nbdinfo --json "$uri" > "$scratch/info"
is() {
	local got
	got=$(jq -r ".exports[0].\"$1\"" "$scratch/info")
	[ "$got" = "$2" ] || fail "nbdinfo: $1 is $got, not $2"
}
is export-size $size
is block_size_minimum 1
is block_size_preferred 4096
is block_size_maximum $((32 << 20))
is is_rotational false
is is_read_only false
is can_multi_conn true
is can_flush true
is can_fua true
is can_trim true
is can_zero true
is can_fast_zero true
is can_df true
is can_cache false
nbdinfo --can cache "$uri" && fail "there is no cache to read ahead to"
volumes=$(infuse volumes --donor "$donor_a_tcp" --donor "$donor_b_tcp" --json)
[ "$(jq -r '[.. | .name? | select(. == "tools")] | length' <<< "$volumes")" -ge 1 ] ||
	fail "the donors don't show the volume by its name: $volumes"

# map: "OFFSET LENGTH TYPE" lines as nbdinfo tells them.
map() { nbdinfo --map "$uri" | awk '{ print $1, $2, $3 }'; }
[ "$(map)" = "0 $size 3" ] || fail "a new volume is no hole: $(map)"

# Data, a hole, data to the very end.
dd if=/dev/urandom of="$scratch/in" bs=1M count=20 status=none
truncate -s 40M "$scratch/in"
head -c $((size - 40 * 1048576)) /dev/urandom >> "$scratch/in"
nbdcopy "$scratch/in" "$uri"
nbdcopy "$uri" "$scratch/out"
cmp "$scratch/in" "$scratch/out" || fail "nbdcopy brought back something else"
[ "$(map)" = "0 $((20 << 20)) 0
$((20 << 20)) $((20 << 20)) 3
$((40 << 20)) $((size - (40 << 20))) 0" ] || fail "not the map of what was copied: $(map)"
nbdcopy --synchronous "$uri" - | cmp - "$scratch/in" || fail "nbdcopy by one request at a time"

find_nbdsh || { echo "python3-libnbd is not installed: nbdsh is left out"; exit 0; }
cat > "$scratch/steps.py" << 'EOF'
h.pwrite(b"A" * 10000, 5)
assert h.pread(10000, 5) == b"A" * 10000
h.pwrite(b"B" * 3, 4095, nbd.CMD_FLAG_FUA)
assert h.pread(5, 4094) == b"ABBBA"
h.zero(6000, 4000, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FAST_ZERO)
assert h.pread(10010, 0)[5:] == b"A" * 3995 + bytes(6000) + b"A" * 5 + h.pread(5, 10005)
h.trim(8192, 0)
assert h.pread(8192, 0) == bytes(8192)
h.flush()
end = h.get_size()
h.pwrite(b"Z" * 700, end - 700)
assert h.pread(700, end - 700) == b"Z" * 700
big = bytes(range(256)) * (32 * 4096)
h.pwrite(big, 1)
assert h.pread(len(big), 1) == big
for bad in (lambda: h.pread(2, end - 1), lambda: h.pwrite(b"xx", end - 1)):
    h.set_strict_mode(0)
    try:
        bad()
    except nbd.Error:
        pass
    else:
        raise SystemExit("beyond the end is not refused")
print("done")
EOF
[ "$(nbdsh -u "$uri" -c - < "$scratch/steps.py")" = "done" ] || fail "nbdsh did not get through"
