#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Packs what a guest needs into an initramfs: busybox, bash, the kernel's modules that were asked for
# with their dependencies, our own modules, programs with their shared libraries, files, the guest's
# functions and its script. Nothing else is in a guest. Only tests/vm/run calls it.
#
#   initramfs.sh KERNEL OUTPUT SCRIPT < list
#
# Lines of the list: "module NAME" (the kernel's; "NAME?" if it has it), "own FILE.ko", "program NAME or
# PATH", "late NAME or PATH" (goes with its libraries into OUTPUT.late, a tar), "file SOURCE TARGET",
# "args STRING" (quoted for bash).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }
PATH=$PATH:/usr/sbin:/sbin

kernel=$1 output=$2 script=$3
release=$(cat "$kernel/release")
modules=lib/modules/$release
top=$(mktemp -d "$output.XXXXXX")
trap 'rm -rf "$top"' EXIT

mkdir -p "$top"/{usr/bin,usr/sbin,usr/lib,usr/lib64,dev,proc,sys,tmp,run,etc,root,test,mnt}
ln -s usr/bin usr/sbin usr/lib usr/lib64 "$top"
mkdir -p "$top/$modules/kernel" "$top/$modules/extra"

add_libraries() {
	local lib
	{ ldd "$1" 2> /dev/null || true; } | grep -oE '/[^ )]+' | while read -r lib; do
		[ -e "$top$lib" ] || { mkdir -p "$top${lib%/*}"; cp -L "$lib" "$top$lib"; }
	done
}

# A path inside the project is put into /usr/bin; Debian's own keep theirs.
add_program() {
	local path target
	path=$(command -v "$1") || die "no program '$1' on this machine"
	case $path in
	/bin/* | /sbin/*) target=/usr$path ;;
	/usr/*) target=$path ;;
	*) target=/usr/bin/${path##*/} ;;
	esac
	mkdir -p "$top${target%/*}"
	cp -L --remove-destination "$path" "$top$target"
	# Small guests have no room for what a debugger reads.
	strip --strip-debug "$top$target" 2> /dev/null || true
	add_libraries "$path"
}

# busybox's names first: what is added later takes their place.
busybox=$(command -v busybox) || die "busybox is not installed (busybox-static)"
cp "$busybox" "$top/usr/bin/busybox"
"$busybox" --list | grep -vx busybox | while read -r name; do ln -s busybox "$top/usr/bin/$name"; done
# Where the kernel looks for it.
ln -s ../bin/busybox "$top/usr/sbin/modprobe"
add_program bash
# pthread_cancel and C++ load it by name.
for name in /usr/lib/x86_64-linux-gnu/libgcc_s.so.1 /lib/x86_64-linux-gnu/libgcc_s.so.1; do
	[ -e "$name" ] && { cp -L "$name" "$top/usr/lib/"; break; }
done

wanted=() late=()
while read -r kind what target; do
	case $kind in
	module) wanted+=("$what")
		# rxe asks for it by an algorithm's name, which no dependency tells.
		[ "$what" != rdma_rxe ] || wanted+=(crc32_generic?) ;;
	own) cp "$what" "$top/$modules/extra/"
		strip --strip-debug "$top/$modules/extra/${what##*/}" ;;
	program) add_program "$what"
		# busybox has a lesser one under the same name.
		name=${what##*/}
		[ ! -L "$top/usr/bin/$name" ] || [ ! -e "$top/usr/sbin/$name" ] || rm "$top/usr/bin/$name" ;;
	late) late+=("$what") ;;
	file) mkdir -p "$top${target%/*}"; cp -rL "$what" "$top$target"
		case $what in *.so | *.so.*) add_libraries "$what" ;; esac ;;
	args) printf '%s\n' "$what${target:+ $target}" > "$top/test/args" ;;
	*) die "the list says '$kind'" ;;
	esac
done

# Dependencies of our own modules, too.
for path in "$top/$modules/extra"/*.ko; do
	[ -e "$path" ] || continue
	deps=$(modinfo -F depends "$path")
	for name in ${deps//,/ }; do
		[ -e "$top/$modules/extra/$name.ko" ] || wanted+=("$name")
	done
done
for name in "${wanted[@]}"; do
	found=$(modprobe -d "$kernel/root" -S "$release" --show-depends --ignore-install "${name%\?}" 2>&1) ||
		[ "$name" != "${name%\?}" ] || die "kernel $release has no module '$name'"
	awk '/^insmod/ { print $2 }' <<< "$found"
done | sort -u | while read -r path; do
	[ -n "$path" ] || continue
	to=$top/$modules/kernel/${path##*/}
	case $path in
	*.xz) xz -dc "$path" > "${to%.xz}" ;;
	*.zst) zstd -dcq "$path" > "${to%.zst}" ;;
	*) cp "$path" "$to" ;;
	esac
done
cp "$kernel/root/$modules"/modules.{order,builtin,builtin.modinfo} "$top/$modules/"
depmod -b "$top" "$release" 2> /dev/null

# What libibverbs loads by name, if a program brought libibverbs.
if find "$top/usr/lib" "$top/lib/" -name 'libibverbs.so*' 2> /dev/null | grep -q .; then
	mkdir -p "$top/etc/libibverbs.d" "$top/usr/lib/x86_64-linux-gnu/libibverbs"
	cp /etc/libibverbs.d/rxe.driver "$top/etc/libibverbs.d/"
	for path in /usr/lib/x86_64-linux-gnu/libibverbs/librxe-rdmav*.so; do
		cp -L "$path" "$top/usr/lib/x86_64-linux-gnu/libibverbs/"
		add_libraries "$path"
	done
fi

echo 'root:x:0:0:root:/root:/bin/sh' > "$top/etc/passwd"
echo 'root:x:0:' > "$top/etc/group"
echo '127.0.0.1 localhost' > "$top/etc/hosts"
echo 'passwd: files' > "$top/etc/nsswitch.conf"
cp "$here/guest/init" "$top/init"
cp "$here/guest/"*.sh "$top/test/"
cp "$script" "$top/test/script"
chmod +x "$top/init"
(cd "$top" && find . | cpio -o -H newc --quiet) > "$output"
[ ${#late[@]} -gt 0 ] || exit 0
files() { (cd "$top" && find . ! -type d | sort); }
files > "$output.there"
for name in "${late[@]}"; do add_program "$name"; done
files | comm -13 "$output.there" - | tar -C "$top" -cf "$output.late" -T -
