# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# A volume of nbdkit-rswap under fio, which writes and verifies it over and over, and donors of it that are
# killed and come back empty on their ports. Sourced after nbd-functions.sh and death-functions.sh.

# start_volume NAMES SIZE PARAMETERS...: donors, the plugin, and fio in the background; sets nbd_volume and fio.
start_volume() {
	local names name donors=() size=$2
	read -ra names <<< "$1"
	shift 2
	for name in "${names[@]}"; do
		serve "$name"
		disown "${pid[$name]}" # its death is no news
		donors+=("donor=tcp:127.0.0.1:${port[$name]}")
	done
	nbd_volume=v${#names[@]}
	start_nbd "$nbd_volume" "$size" "${donors[@]}" "$@"
	rm -rf "$scratch/fio"
	mkdir "$scratch/fio"
	(
		cd "$scratch/fio" || exit # fio leaves a state of its verification where it is
		exec timeout -s KILL 6000 fio --name=r --ioengine=nbd --uri="$(nbd_uri "$nbd_volume")" --verify=crc32c \
			--verify_fatal=1 --rw=randwrite --bsrange=4k-64k --size="$size" --iodepth=8 --randseed=1 \
			--loops=10000000 --runtime=5900 --write_bw_log=f --write_lat_log=f --log_avg_msec=50 \
			--log_max_value=1 --log_unix_epoch=1 --output-format=json --output=out
	) > "$scratch/fio.log" 2>&1 &
	fio=$!
	started+=("$fio")
}

# end_volume: fio ends where it is; it must have had no error.
end_volume() {
	local name
	kill -0 "$fio" 2> /dev/null || fail "fio ended: $(tail -n 4 "$scratch/fio.log" "$scratch/fio/out")"
	pkill_fio
	wait "$fio" || true # interrupted, it has a status of its own
	[ "$(sed '1,/^{/{/^{/!d}' "$scratch/fio/out" | jq '[.jobs[].error] | add')" = 0 ] ||
		fail "fio: $(head -n 20 "$scratch/fio/out")"
	kill "$(cat "$scratch/$nbd_volume.pid")"
	for name in "${!pid[@]}"; do kill_donor "$name"; done
	port=() pid=()
}

# SIGINT to fio below timeout: a job in the background ignores it unless it asks for it, as fio does.
pkill_fio() { kill -INT "$(cat "/proc/$fio/task/$fio/children")"; }

# revive NAME: after kill_donor, once whoever lost it knows.
revive() {
	serve "$1"
	disown "${pid[$1]}"
}

# The plugin tells its health whenever it changes.
losses() { grep -c 'have lost a copy' "$scratch/$nbd_volume.nbdkit.log" || true; }
is_hurt() { [ "$(losses)" -gt "$lost_before" ]; }
is_whole() { tail -n 1 "$scratch/$nbd_volume.nbdkit.log" | grep -q 'the volume is whole again'; }

# wait_for CONDITION: while fio lives.
wait_for() {
	local end=$((SECONDS + 60))
	until "$1"; do
		kill -0 "$fio" 2> /dev/null || fail "fio ended: $(tail -n 4 "$scratch/fio.log" "$scratch/fio/out")"
		[ $SECONDS -lt $end ] || fail "not $1"
		read -rt 0.02 <> <(:) || true
	done
}
