# SPDX-License-Identifier: MIT
# An unmodified program, which has an OpenSSL of its own, forks and starts others, over TLS and sealed: the
# same output as a plain run. Without the key it does not start.
. "$(dirname "$0")/functions.sh"
. "$(dirname "$0")/run-functions.sh"
requires python3

infuse key gen "$scratch/key"
start_donor a --size 256M --lazy --key "$scratch/key"
cat > "$scratch/job.py" <<'PY'
import hashlib, os, ssl, subprocess

pages = [hashlib.sha256(b"%d" % i).digest() * 128 for i in range(4000)]

def digest():
    h = hashlib.sha256()
    for p in pages:
        h.update(p)
    return h.hexdigest()

ssl.create_default_context()
print(digest())
print(subprocess.run(["tr", "a-z", "A-Z"], input="started\n", capture_output=True, text=True).stdout)
for i in range(3):
    pid = os.fork()
    if not pid:
        good = digest()
        pages[i] = b"the child's own" * 100
        os._exit(0 if good != digest() else 1)
    pages[i] = hashlib.sha256(b"again").digest() * 128
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(digest())
PY

# shellcheck disable=SC2329 # equal() of run-functions.sh calls it
run() {
	local local_size=$1; shift
	infuse run --local "$local_size" --donor "$donor_a_tcp" --key "$scratch/key" "${sealed[@]}" \
		--stats-file "$scratch/stats" -- "$@"
}
sealed=()
equal 4M python3 "$scratch/job.py"
went_out 1000
sealed=(--seal)
equal 4M python3 "$scratch/job.py"
went_out 1000

exits_with 125 infuse run --donor "$donor_a_tcp" -- true
[[ $err == *"only who has its key"* ]] || fail "$err"
exits_with 125 infuse run --donor "$donor_a_tcp" --key "$scratch/nothing" -- true
chmod 644 "$scratch/key"
exits_with 125 infuse run --donor "$donor_a_tcp" --key "$scratch/key" -- true
[[ $err == *"is open to others"* ]] || fail "$err"
