# SPDX-License-Identifier: MIT
# The registry's own tests over three members of etcd, whose leader is killed again and again: each
# operation is done or refused as it would be by one that never fails, only later.
# INFUSE_ETCD_KILLS=20 is a longer form.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
# shellcheck source=tests/etcd-functions.sh
. "$(dirname "$0")/etcd-functions.sh"
[ -x "$INFUSE_BUILD/bin/test-registry" ] || skip "the unit tests are not built"

start_etcd 3
export INFUSE_TEST_REGISTRY="$etcd_url/tests"
kills=0 want=${INFUSE_ETCD_KILLS:-3} rounds=0
leads() { leader=$(etcd_leader); }

while [ "$kills" -lt "$want" ]; do
	test-registry -j1 --filter 'registry/*' > "$scratch/tests.log" 2>&1 &
	tests=$!
	started+=("$tests")
	while kill -0 "$tests" 2> /dev/null; do
		read -rt 1 <> <(:) || true
		until_true 30 leads
		kill -KILL "${etcd_pid[leader]}"
		wait "${etcd_pid[leader]}" 2> /dev/null || true
		kills=$((kills + 1))
		read -rt 2.5 <> <(:) || true
		start_member "$leader"
		until_true 30 etcd_is_up "${etcd_port[leader]}"
		# each new leader gives all leases their full time again
		read -rt 6 <> <(:) || true
	done
	wait "$tests" || fail "the tests, with a leader killed now and then"
	grep -q 'Failing: 0' "$scratch/tests.log" || fail "the tests, with a leader killed now and then"
	rounds=$((rounds + 1))
done
echo "$rounds rounds of the tests, $kills leaders killed"
