# SPDX-License-Identifier: MIT
# python3: lists, dictionaries, big buffers, threads, children by fork and by subprocess.
. "$(dirname "$0")/functions.sh"
. "$(dirname "$0")/run-functions.sh"
requires python3

start_donor a --size 1G --lazy
cat > "$scratch/job.py" <<'PY'
import hashlib, multiprocessing, os, random, subprocess, sys, threading

random.seed(7)
numbers = list(range(250000))
random.shuffle(numbers)
words = {n: "%d" % (n * n) for n in numbers[:40000]}
buffer = bytearray(24 << 20)
for i in range(0, len(buffer), 4096):
    buffer[i : i + 8] = (i * 2654435761 % 2**64).to_bytes(8, "little")

def digest():
    h = hashlib.sha256()
    h.update(buffer)
    h.update(repr(sum(n * w for w, n in enumerate(numbers)) % 2**61).encode())
    for n in sorted(words):
        h.update(words[n].encode())
    return h.hexdigest()

print("whole", digest())
for i in range(3):
    out = subprocess.run(["tr", "a-z", "A-Z"], input="round %d\n" % i, capture_output=True, text=True)
    print(out.stdout, end="")
# A child sees what was at the fork, whatever the parent writes meanwhile.
read_end, write_end = os.pipe()
pid = os.fork()
if not pid:
    os.write(write_end, digest().encode())
    os._exit(0)
for i in range(0, len(buffer), 4096):
    buffer[i] ^= 255
words.update((n, "-") for n in numbers[:1000])
print("child", os.read(read_end, 100).decode(), os.waitpid(pid, 0)[1])
print("parent", digest())
results = [None] * 4
def work(k):
    d = {i: str(i * k) for i in range(15000)}
    results[k] = hashlib.md5("".join(d.values()).encode()).hexdigest()
threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
print(results)
print("still", digest())
PY
equal 16M env PYTHONHASHSEED=0 python3 "$scratch/job.py"
[ "$(wc -l < "$scratch/plain.out")" -eq 8 ] || fail "python3 itself did not do the job: $(cat "$scratch/plain.log")"
went_out 10000
