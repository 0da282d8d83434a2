#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Builds an out-of-tree module against a kernel that kernels.sh fetched, with that kernel's own
# compiler, all warnings on (W=1) and counted as errors. The result is kept by the hash of all that
# went in, so that an unchanged source costs nothing. Works with no write access to the source.
#
#   module.sh [--sparse] [--keep-warnings] KERNEL FOLDER [MAKE'S ARGUMENTS...]
#
# prints the paths of the .ko files. FOLDER has a Kbuild or a Makefile with obj-m, and may reach
# <infuse/...> by $(src)/../include: that folder is copied beside it. --sparse: C=2 as well, and what
# it says is an error too. --keep-warnings: print them and go on.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

sparse='' strict=1
while :; do
	case ${1-} in
	--sparse) sparse=1; shift ;;
	--keep-warnings) strict=; shift ;;
	*) break ;;
	esac
done
[ $# -ge 2 ] || die "usage: module.sh [--sparse] [--keep-warnings] KERNEL FOLDER [ARGUMENTS...]"
name=$1 source=$(cd "$2" && pwd); shift 2
kernel=$("$here/kernels.sh" "$name")
release=$(cat "$kernel/release")
include=$here/../../include

sources() {
	find "$source" "$include" \( -name '*.[chS]' -o -name Kbuild -o -name Makefile -o -name '*.mk' \) \
		! -name '*.mod.c' -type f -print0 | sort -z
}
key=$({ sources | xargs -0 sha256sum; cat "$kernel/release" "$kernel/compiler"
	printf '%s\n' "${BASH_SOURCE[0]}" "$sparse$strict" "$@"; sha256sum < "${BASH_SOURCE[0]}"; } |
	sha256sum | cut -c 1-24)
kept=${XDG_CACHE_HOME:-$HOME/.cache}/infuse/modules/$name-$key
if [ -d "$kept" ]; then
	touch "$kept"
	exec find "$kept" -name '*.ko'
fi

# inside COMMAND...: in the kernel's own root, where its headers and its compiler are.
inside() {
	local how=(unshare --mount)
	[ "$(id -u)" -eq 0 ] || how=(unshare --mount --map-root-user)
	"${how[@]}" bash -c '
		touch "$1/dev/null"
		mount --bind /dev/null "$1/dev/null"
		mount --rbind /proc "$1/proc"
		root=$1; shift
		exec chroot "$root" /usr/bin/env -i PATH=/usr/bin:/usr/sbin LC_ALL=C "$@"' - \
		"$kernel/root" "$@"
}

work=$(mktemp -d "$kernel/root/tmp/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/include"
cp -r "$source" "$work/module"
cp -r "$include/." "$work/include/"
find "$work/module" \( -name '*.o' -o -name '*.ko' -o -name '*.mod*' -o -name '.*.cmd' \) -delete
made="/tmp/${work##*/}"
# No BTF: that needs pahole and nothing here reads it.
rc=0
inside timeout 300 make -C "/usr/src/linux-headers-$release" M="$made/module" W=1 \
	CC="$(cat "$kernel/compiler")" CONFIG_DEBUG_INFO_BTF_MODULES= ${sparse:+C=2} "$@" modules \
	> "$work/log" 2>&1 || rc=$?
if grep -qE '[.][chS]:[0-9:]+ *(warning|error):|modpost:' "$work/log"; then
	sed "s|$made/module|$source|g" "$work/log" >&2
	[ -z "$strict" ] || die "$name: warnings are errors here"
fi
[ "$rc" -eq 0 ] || { tail -n 40 "$work/log" >&2; die "$name: make failed"; }

mkdir -p "${kept%/*}"
find "${kept%/*}" -mindepth 1 -maxdepth 1 -mtime +7 -exec rm -rf {} +
new=$(mktemp -d "$kept.XXXXXX")
find "$work/module" -name '*.ko' -exec cp {} "$new" \;
mv -T "$new" "$kept" 2> /dev/null || rm -rf "$new"
find "$kept" -name '*.ko'
