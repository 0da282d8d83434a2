# SPDX-License-Identifier: MIT
# The systemd generator starts the devices that rswap.conf wants at boot, before swap.target only
# where the network does not wait for that: systemd finds no circle in either case, and does find the
# one that the generator avoids.
. "$(dirname "$0")/functions.sh"
requires systemd-analyze

generator=$INFUSE_BUILD/packaging/rswap-generator
unit=$INFUSE_BUILD/packaging/rswap@.service
export INFUSE_RSWAP_CONF=$scratch/rswap.conf INFUSE
INFUSE=$(command -v infuse)

# generate: units in $scratch/out, with what $scratch/etc says of the network.
generate() {
	rm -rf "$scratch/out"
	mkdir -p "$scratch/out" "$scratch/etc/network-online.target.wants"
	INFUSE_UNIT_FOLDERS=$scratch/etc "$generator" "$scratch/out" "$scratch/out" "$scratch/out"
	mkdir -p "$scratch/units"
	# As installed, but for programs that verify would look for.
	sed -E 's#^Exec(Start|Stop)=.*#Exec\1=/bin/true#' "$unit" > "$scratch/units/rswap@.service"
}
# verify: what systemd says of the whole boot.
verify() {
	timeout 60 env SYSTEMD_UNIT_PATH="$scratch/out:$scratch/etc:$scratch/units:/usr/lib/systemd/system:/lib/systemd/system" \
		systemd-analyze --man=no verify multi-user.target swap.target "$@" > "$scratch/verify" 2>&1 || true
}
wanted() { [ -L "$scratch/out/$1.wants/rswap@$2.service" ]; }

generate
[ -z "$(ls "$scratch/out")" ] || fail "units without a configuration: $(ls -R "$scratch/out")"

printf '[rswap0]\nsize = 1G\n[rswap1]\nsize = ram/2\nauto = no\n[rswap2]\nsize = 1G\n' > "$INFUSE_RSWAP_CONF"
ln -s /lib/systemd/system/systemd-networkd-wait-online.service "$scratch/etc/network-online.target.wants/"
generate
for device in rswap0 rswap2; do
	wanted multi-user.target $device && wanted swap.target $device || fail "$device does not come early"
	grep -qx 'Before=swap.target' "$scratch/out/rswap@$device.service.d/early.conf" || fail "no order for $device"
done
! wanted multi-user.target rswap1 || fail "rswap1 comes though it should not"
verify rswap@rswap0.service
! grep -i 'cycle' "$scratch/verify" || fail "a circle where there is none"
! grep 'rswap@' "$scratch/verify" || fail "systemd does not like the unit"

# A network manager as most are: with default dependencies, so behind swap.target.
printf '[Unit]\nBefore=network-online.target\n[Service]\nType=oneshot\nExecStart=/bin/true\n[Install]\nWantedBy=network-online.target\n' \
	> "$scratch/units/NetworkManager-wait-online.service"
rm -rf "${scratch:?}/etc"
mkdir -p "$scratch/etc/network-online.target.wants"
ln -s "$scratch/units/NetworkManager-wait-online.service" "$scratch/etc/network-online.target.wants/"
generate
wanted multi-user.target rswap0 || fail "rswap0 does not come"
! wanted swap.target rswap0 || fail "rswap0 comes before a network that waits for swap"
verify rswap@rswap0.service
! grep -i 'cycle' "$scratch/verify" || fail "a circle where there is none"
# The other way round it is one, and this test would see it.
mkdir -p "$scratch/out/swap.target.wants" "$scratch/out/rswap@rswap0.service.d"
ln -s "$scratch/units/rswap@.service" "$scratch/out/swap.target.wants/rswap@rswap0.service"
printf '[Unit]\nBefore=swap.target\n' > "$scratch/out/rswap@rswap0.service.d/early.conf"
verify rswap@rswap0.service
grep -qi 'cycle' "$scratch/verify" || fail "the circle is not found: $(cat "$scratch/verify")"

printf '[rswap0]\nsize = huge\n' > "$INFUSE_RSWAP_CONF"
! INFUSE_UNIT_FOLDERS=$scratch/etc "$generator" "$scratch/out" 2> "$scratch/err" || fail "a bad file is not told"
grep -q "'huge' is not a size" "$scratch/err" || fail "$(cat "$scratch/err")"
