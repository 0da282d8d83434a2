# SPDX-License-Identifier: MIT
. /test/functions.sh
join_guests
step joined
add_rxe eth0
meet ready
if [ "$ROLE" = 1 ]; then
	rping -s -v -a 10.9.0.1 -C 10 -S 4096 > /tmp/rping &
	server=$!
	sleep 1
	meet serving
	wait "$server"
	meet over
else
	meet serving
	timeout -s KILL 60 rping -c -v -a 10.9.0.1 -C 10 -S 4096 > /tmp/rping
	[ "$(grep -c '^ping data: ' /tmp/rping)" = 10 ] || fail "not ten answers: $(cat /tmp/rping)"
	meet over
fi
step over
