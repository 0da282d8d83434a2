# SPDX-License-Identifier: MIT
# Requests of any offset and length over many connections, checked byte by byte against a model:
# writes of neighbouring parts of a page don't take each other's bytes along.
. "$(dirname "$0")/functions.sh"
. "$(dirname "$0")/nbd-functions.sh"
find_nbdsh || skip "python3-libnbd is not installed"

start_donor a --size 32M --slab 64K
start_donor b --size 32M --slab 64K
start_nbd v size=3000001 donor="$donor_a_tcp" donor="shm:$scratch/b.sock" ports=2
cat > "$scratch/fuzz.py" << 'EOF'
import os, random, sys

uri, rounds = os.environ["uri"], int(os.environ["rounds"])
random.seed(1)
conns = []
for i in range(6):
    h = nbd.NBD()
    h.connect_uri(uri)
    conns.append(h)
size = conns[0].get_size()
model = bytearray(size)

# Each round: requests on ranges that do not overlap, but often share a page; all under way at once.
for round in range(rounds):
    cuts = sorted(random.sample(range(size + 1), 40))
    if round % 2:
        at = random.randrange(size - 20000)
        cuts = sorted(random.sample(range(at, at + 20000), 40))
    flight = []
    for from_, to in zip(cuts[::2], cuts[1::2]):
        h = random.choice(conns)
        kind = random.choice(["write", "write", "write", "read", "zero"])
        if kind == "write":
            data = random.randbytes(to - from_)
            buf = nbd.Buffer.from_bytearray(bytearray(data))
            cookie = h.aio_pwrite(buf, from_)
            model[from_:to] = data
        elif kind == "zero":
            buf = None
            cookie = h.aio_zero(to - from_, from_, flags=random.choice([0, nbd.CMD_FLAG_NO_HOLE]))
            model[from_:to] = bytes(to - from_)
        else:
            buf = nbd.Buffer(to - from_)
            cookie = h.aio_pread(buf, from_)
        flight.append((h, cookie, kind, buf, from_, to))
    for h, cookie, kind, buf, from_, to in flight:
        while not h.aio_command_completed(cookie):
            h.poll(-1)
        if kind == "read" and bytes(buf.to_bytearray()) != bytes(model[from_:to]):
            sys.exit(f"round {round}: read of {from_}-{to} is wrong")
    if round % 16 == 0 and conns[round % 6].pread(size, 0) != bytes(model):
        sys.exit(f"round {round}: the device is not the model")
if conns[0].pread(size, 0) != bytes(model):
    sys.exit("the device is not the model")
print("same")
EOF
got=$(uri=$(nbd_uri v) rounds=${INFUSE_FUZZ_ROUNDS:-300} nbdsh -c - < "$scratch/fuzz.py" 2>&1) ||
	fail "$got"
[ "$got" = same ] || fail "$got"
