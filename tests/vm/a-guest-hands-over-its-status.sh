# SPDX-License-Identifier: MIT
# What a guest's script ends with is what `run` ends with; a panic, a warning, a task that hangs and a
# guest that takes too long are failures, never 0. All other tests here rest on that.
. "$(dirname "$0")/functions.sh"
requires_kernels 6.12

cat > "$scratch/script.sh" <<'END'
. /test/functions.sh
case $1 in
status) exit "$2" ;;
fails) false ;;
panic) echo c > /proc/sysrq-trigger ;;
forever) while :; do sleep 1; done ;;
esac
END
ends_with() {
	local want=$1 rc=0; shift
	"$vm/run" --log "$scratch/console.log" --memory 256M --seconds "$seconds" "$scratch/script.sh" "$@" > "$scratch/out" 2>&1 || rc=$?
	[ "$rc" -eq "$want" ] || { cat "$scratch/out"; fail "'$*' ended with $rc, not $want"; }
}
seconds=240
ends_with 0 status 0
ends_with 7 status 7
ends_with 1 fails
grep -q 'FAIL: line' "$scratch/console.log" || fail "the console doesn't tell what failed"
ends_with 125 panic
seconds=20
ends_with 124 forever
