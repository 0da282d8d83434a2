# SPDX-License-Identifier: MIT
# The registry's own tests, which run over SQLite elsewhere, over a real etcd of one member. One that
# is dead stands before it in the url: that costs nothing but a try. What etcd has forgotten (a
# compaction) counts as a change.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
# shellcheck source=tests/etcd-functions.sh
. "$(dirname "$0")/etcd-functions.sh"
[ -x "$INFUSE_BUILD/bin/test-registry" ] || skip "the unit tests are not built"

start_etcd 1
dead=$(free_ports 1)
export INFUSE_TEST_REGISTRY="etcd:http://127.0.0.1:$dead,127.0.0.1:${etcd_port[0]}/tests"
test-registry -j1 --filter 'registry/*' > "$scratch/tests.log" 2>&1 || fail "the tests over etcd"
grep -q 'Failing: 0' "$scratch/tests.log" || fail "the tests over etcd"
! grep -q 'Tested: 0' "$scratch/tests.log" || fail "no test ran"
test-volumes -j1 > "$scratch/tests.log" 2>&1 || fail "volumes over etcd"

# A cluster that is gone: a clear line, in bounded time.
kill -KILL "${etcd_pid[0]}"
begun=$SECONDS
exits_with 1 infuse donors --registry "$etcd_url"
[ $((SECONDS - begun)) -le 15 ] || fail "that took $((SECONDS - begun)) s"
case $err in *"no member answered within"*"127.0.0.1:${etcd_port[0]}"*) ;; *) fail "it said: $err" ;; esac
