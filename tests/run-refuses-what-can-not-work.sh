# SPDX-License-Identifier: MIT
# What can't be run with a heap is refused with one clear line, before it starts, and with the
# status that shells and env(1) use.
. "$(dirname "$0")/functions.sh"
. "$(dirname "$0")/run-functions.sh"
requires cc

# refused STATUS WORDS COMMAND...
refused() {
	local want=$1 words=$2 got=0; shift 2
	"$@" > "$scratch/out" 2> "$scratch/err" || got=$?
	[ "$got" -eq "$want" ] || fail "$*: status $got instead of $want: $(cat "$scratch/err")"
	[ "$(wc -l < "$scratch/err")" -eq 1 ] || fail "$*: not one line: $(cat "$scratch/err")"
	grep -q -- "$words" "$scratch/err" || fail "$*: '$(cat "$scratch/err")' does not say '$words'"
	[ ! -s "$scratch/out" ] || fail "$* printed on standard output"
}

start_donor a --size 64M --lazy
export INFUSE_DONOR="unix:$scratch/a.sock"
echo 'int main(void) { return 0; }' > "$scratch/zero.c"
cc -o "$scratch/dynamic" "$scratch/zero.c"
infuse run -- "$scratch/dynamic" || fail "the dynamic program did not run"

if cc -static -o "$scratch/static" "$scratch/zero.c" 2> "$scratch/cc.log"; then
	refused 126 'statically linked' infuse run -- "$scratch/static"
	printf '#!%s\n' "$scratch/static" > "$scratch/script"
	chmod +x "$scratch/script"
	refused 126 'statically linked' infuse run -- "$scratch/script"
fi
cp "$scratch/dynamic" "$scratch/setuid"
if [ "$(id -u)" = 0 ]; then
	chown nobody "$scratch/setuid"
	chmod u+s "$scratch/setuid"
	refused 126 'setuid' infuse run -- "$scratch/setuid"
fi
refused 127 "no command 'no-such-command'" infuse run -- no-such-command
refused 127 'No such file' infuse run -- ./no-such-command
refused 126 'folder' infuse run -- "$scratch"
refused 126 'Permission' infuse run -- "$scratch/zero.c"
{ printf '\177ELF\001\001\001\0'; head -c 200 /dev/zero; } > "$scratch/other"
chmod +x "$scratch/other"
refused 126 '32-bit' infuse run -- "$scratch/other"
refused 2 'which command' infuse run
refused 2 'no-such-option' infuse run --no-such-option -- true
refused 2 'SIZE\|size' infuse run --local 12X -- true
refused 2 'none|sequential' infuse run --prefetch magic -- true
refused 125 "$scratch/nobody.sock" infuse run --donor "unix:$scratch/nobody.sock" -- true
refused 125 'address' infuse run --donor nonsense -- true
refused 125 "name the donor's tcp: or unix: address" infuse run --donor rdma:127.0.0.1:4771 -- true
refused 125 "over RDMA" infuse run --donor tcp:127.0.0.1:4770,rdma:127.0.0.1:4771 -- true

# Behind its back: a process must not go on without its heap.
status=0
LD_PRELOAD="$INFUSE_BUILD/lib/libinject-preload.so" INFUSE_DONOR="unix:$scratch/nobody.sock" INFUSE_PLAIN=0 \
	ls > "$scratch/out" 2> "$scratch/err" || status=$?
[ "$status" -eq 125 ] || fail "without a donor: status $status"
grep -q "the heap can't be opened" "$scratch/err" || fail "without a donor: $(cat "$scratch/err")"
