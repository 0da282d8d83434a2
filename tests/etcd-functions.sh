# SPDX-License-Identifier: MIT
# Sourced after functions.sh by the tests that need a real etcd: members on ports of their own in the
# scratch folder, spoken to through bash's /dev/tcp. No etcd here: the test is skipped.

# The package's own service is not wanted: scripts/test only unpacks the program.
PATH="$PATH:${INFUSE_SOURCE:-.}/build/etcd/usr/bin"
command -v etcd > /dev/null ||
	skip "etcd is not installed (scripts/test unpacks it; or: apt-get download etcd-server, unpack it to build/etcd)"

free_ports() { # COUNT: that many, below the range from which the kernel takes ports by itself
	local n=$1 p
	while [ "$n" -gt 0 ]; do
		p=$((20000 + (RANDOM << 5 ^ RANDOM) % 12000))
		(: < "/dev/tcp/127.0.0.1/$p") 2> /dev/null && continue
		echo "$p"
		n=$((n - 1))
	done
}

# etcd_says PORT PATH JSON: what a member answers.
etcd_says() {
	local fd
	exec {fd}<> "/dev/tcp/127.0.0.1/$1" || return
	printf 'POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s' \
		"$2" "${#3}" "$3" >&"$fd"
	timeout 5 cat <&"$fd" | tr -d '\r' | sed '1,/^$/d'
	exec {fd}>&-
}

etcd_is_up() { etcd_says "$1" /v3/kv/range '{"key":"eA=="}' 2> /dev/null | grep -q revision; }

# start_member I: (again) with the data it has. ETCD_OPTIONS: more of them.
start_member() {
	local i=$1
	# shellcheck disable=SC2086
	GOMAXPROCS=1 etcd --name "m$i" --data-dir "$scratch/etcd$i" --initial-cluster "$etcd_cluster" \
		--listen-client-urls "http://127.0.0.1:${etcd_port[i]}${etcd_tls:+,https://127.0.0.1:$etcd_tls}" \
		--advertise-client-urls "http://127.0.0.1:${etcd_port[i]}" \
		--listen-peer-urls "http://127.0.0.1:${etcd_peer[i]}" \
		--initial-advertise-peer-urls "http://127.0.0.1:${etcd_peer[i]}" \
		--log-level error ${ETCD_OPTIONS:-} > "$scratch/etcd$i.log" 2>&1 &
	etcd_pid[i]=$!
	started+=($!)
}

# start_etcd N: sets etcd_port[], etcd_pid[] and etcd_url. With etcd_tls=PORT: https there as well.
start_etcd() {
	local n=$1 i ports end=$((SECONDS + 60))
	etcd_pid=() etcd_cluster='' etcd_url=''
	mapfile -t ports < <(free_ports $((2 * n)))
	etcd_port=("${ports[@]:0:n}") etcd_peer=("${ports[@]:n}")
	for ((i = 0; i < n; i++)); do
		etcd_cluster+="${etcd_cluster:+,}m$i=http://127.0.0.1:${etcd_peer[i]}"
		etcd_url+="${etcd_url:+,}127.0.0.1:${etcd_port[i]}"
	done
	etcd_url="etcd:http://$etcd_url"
	for ((i = 0; i < n; i++)); do start_member "$i"; done
	for ((i = 0; i < n; i++)); do
		until etcd_is_up "${etcd_port[i]}"; do
			[ "$SECONDS" -lt "$end" ] || fail "etcd does not come up: $(tail -n 3 "$scratch/etcd$i.log")"
			kill -0 "${etcd_pid[i]}" || fail "etcd ended: $(tail -n 3 "$scratch/etcd$i.log")"
			read -rt 0.1 <> <(:) || true
		done
	done
}

# The index of the member that leads.
etcd_leader() {
	local i status
	for i in "${!etcd_port[@]}"; do
		status=$(etcd_says "${etcd_port[i]}" /v3/maintenance/status '{}' 2> /dev/null) || continue
		[ "$(sed 's/.*"member_id":"\([0-9]*\)".*/\1/' <<< "$status")" = \
			"$(sed 's/.*"leader":"\([0-9]*\)".*/\1/' <<< "$status")" ] && { echo "$i"; return; }
	done
	return 1
}
