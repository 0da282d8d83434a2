# SPDX-License-Identifier: MIT
# A user who may not use userfaultfd is told which of the device, the sysctl and the capability
# would do; with one of them infuse check is content. --json is one document in both cases.
. "$(dirname "$0")/functions.sh"

rc=0
infuse check --json > "$scratch/json" || rc=$?
is_json "$scratch/json" || fail "no JSON: $(cat "$scratch/json")"
infuse check > "$scratch/all" || true
grep -Eq '^  MOVE +(yes|no)' "$scratch/all" || fail "MOVE is not told"
case $rc in
0) tail -n 1 "$scratch/all" | grep -qx 'infuse run can work here' || fail "no verdict" ;;
1) tail -n 1 "$scratch/all" | grep -q '^infuse run can not work here: ' || fail "no verdict" ;;
*) fail "infuse check ended with $rc" ;;
esac

[ "$(id -u)" -eq 0 ] || skip "needs root, to give rights up"
requires setpriv
as_nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all "$@"; }
as_nobody test -x "$INFUSE_BUILD/bin/infuse" || skip "user 65534 can't reach the build folder"
[ "$(cat /proc/sys/vm/unprivileged_userfaultfd)" = 0 ] || skip "the sysctl allows everyone"
as_nobody test ! -w /dev/userfaultfd || skip "/dev/userfaultfd is open to everyone"

exits_with 1 as_nobody "$INFUSE_BUILD/bin/infuse" check
last=$(tail -n 1 "$scratch/out")
for word in 'can not work here' vm.unprivileged_userfaultfd=1 CAP_SYS_PTRACE /dev/userfaultfd; do
	[[ $last == *"$word"* ]] || fail "'$word' is not in '$last'"
done
exits_with 1 as_nobody "$INFUSE_BUILD/bin/infuse" check --json
is_json "$scratch/out" || fail "no JSON: $(cat "$scratch/out")"
grep -q '"ok":false' "$scratch/out" || fail "$(cat "$scratch/out")"
