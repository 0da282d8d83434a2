# SPDX-License-Identifier: MIT
# Without the right to userfaultfd the message says which of the three ways would help; the SIGBUS
# mode works without any.
. "$(dirname "$0")/functions.sh"
requires userfaultfd
requires setpriv
[ "$(id -u)" -eq 0 ] || skip "not root: can't become another user"
[ "$(cat /proc/sys/vm/unprivileged_userfaultfd)" = 0 ] || skip "vm.unprivileged_userfaultfd is on"
[ -n "$(find /dev/userfaultfd -perm /o+rw 2>/dev/null)" ] && skip "/dev/userfaultfd is everybody's"

start_donor a --lazy
chmod 755 "$scratch"
as_nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all)
"${as_nobody[@]}" test -x "$INFUSE_BUILD/bin/inject-check" || skip "the build folder is not for others"
exits_with 1 "${as_nobody[@]}" inject-check heaps handler "$donor_a_tcp"
for way in /dev/userfaultfd vm.unprivileged_userfaultfd=1 CAP_SYS_PTRACE; do
	case $err in *"$way"*) ;; *) fail "'$way' is not in: $err" ;; esac
done
exits_with 0 timeout 60 "${as_nobody[@]}" inject-check heaps sigbus "$donor_a_tcp"
