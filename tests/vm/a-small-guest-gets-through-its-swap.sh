# SPDX-License-Identifier: MIT
# On $1, a kernel: a guest of 128 MiB, 82 of them beside what the kernel itself takes, runs a program that wants more than
# all of it, with the kernel's detector of hung tasks on, while one of its two donors dies and comes back. With
# "careless" as $2 the module does without what it does for the sake of little memory: then it must not get through.
. "$(dirname "$0")/functions.sh"
requires_kernels "$1"
console=$scratch/small.console
own=$(module "$1")
# A careful one takes half a minute to a minute and a half. A hung task ends a careless one sooner.
seconds=500 hung=60
[ -z "${2-}" ] || { seconds=240; hung=20; }

port() { local a=donor_${1}_tcp; echo "${!a##*:}"; }

start_donor a --size 192M
start_donor b --size 192M
touch "$console"
"$vm/run" --quiet --log "$console" --kernel "$1" --memory 128M --seconds "$seconds" --host-network \
	--own "$own" --late "$INFUSE_BUILD/bin/infuse" --program "$INFUSE_BUILD/bin/swap-touch" \
	--append "rig.HUNG_SECONDS=$hung rootfstype=ramfs" \
	"$vm/guest/a-small-guest-gets-through-its-swap.sh" "$(port a)" "$(port b)" 6 ${2+"$2"} > "$scratch/run.out" 2>&1 &
guest=$!
asked+=("$guest")

# It swaps by now, or it has ended already.
swaps() { grep -qaE 'pages_written [0-9]{4}' "$console" || ! kill -0 "$guest"; }
until_true 500 swaps
port=$(port b)
kill -KILL "$donor_b_pid"
wait "$donor_b_pid" 2> /dev/null || true
rm "$scratch/b.ready"
start_donor b --size 192M --listen "tcp:127.0.0.1:$port"

rc=0
wait "$guest" || rc=$?
grep -aE '^(==|MEASURED) ' "$console" || true
if [ -z "${2-}" ]; then
	[ "$rc" -eq 0 ] || { tail -n 100 "$scratch/run.out"; fail "the guest ended with $rc"; }
else
	grep -qa '^== .* attached' "$console" || { tail -n 100 "$scratch/run.out"; fail "it came not as far as to swap"; }
	[ "$rc" -ge 124 ] || { tail -n 100 "$console"; fail "careless, it ended with $rc: neither hung nor did it crawl"; }
	echo "careless: $(grep -aoE 'blocked for more than|Out of memory|System is deadlocked' "$console" | head -n 1 || true) ($rc)"
fi
