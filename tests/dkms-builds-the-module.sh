# SPDX-License-Identifier: MIT
# What is installed for DKMS is complete: dkms adds it and builds the module against Debian's headers
# that the virtual machines' tests have fetched, and its version is ours.
. "$(dirname "$0")/functions.sh"
PATH=$PATH:/usr/sbin:/sbin
requires dkms
requires modinfo
[ "$(id -u)" -eq 0 ] || skip "dkms wants root"
kernel=$("$INFUSE_SOURCE/tests/vm/kernels.sh" --there 6.1) || skip "the kernel 6.1 is not fetched: tests/vm/kernels.sh 6.1"
release=$(cat "$kernel/release")
command -v "$(cat "$kernel/compiler")" > /dev/null || skip "$(cat "$kernel/compiler") is not installed"

unshare --mount mount -t overlay none -o "lowerdir=/usr/lib:$kernel/root/usr/lib" /usr/lib 2> /dev/null ||
	skip "no overlay can be mounted here"
cmake --install "$INFUSE_BUILD" --prefix "$scratch/inst" > /dev/null || fail "not installed"
source=$(echo "$scratch"/inst/src/infuse-rswap-*)
version=${source##*-}
mkdir "$scratch/dkms"
# The headers' Makefiles name /usr/src and /usr/lib/linux-kbuild-*.
headers=/usr/src/linux-headers-$release
timeout 280 unshare --mount bash -euc '
	mount --bind "$1/root/usr/src" /usr/src
	mount -t overlay none -o "lowerdir=/usr/lib:$1/root/usr/lib" /usr/lib
	shift
	"$@"' - "$kernel" dkms build -m infuse-rswap -v "$version" -k "$release" --kernelsourcedir "$headers" \
	--dkmstree "$scratch/dkms" --sourcetree "$scratch/inst/src" > "$scratch/dkms.log" 2>&1 || {
	cat "$scratch"/dkms/infuse-rswap/*/build/make.log >> "$scratch/dkms.log" 2> /dev/null || true
	fail "dkms did not build it"
}
module=$(find "$scratch/dkms" -name 'rswap.ko*')
[ -n "$module" ] || fail "no module: $(find "$scratch/dkms" -type f | head)"
[ "$(modinfo -F version "$module")" = "$version" ] || fail "its version is $(modinfo -F version "$module"), not $version"
modinfo -F vermagic "$module" | grep -qF "$release" || fail "it is for $(modinfo -F vermagic "$module")"
