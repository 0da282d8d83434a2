#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Fetches what a virtual machine test stands on: a Debian kernel with its modules, its headers and
# the compiler that built it, each in a folder of its own below ~/.cache/infuse/vm. Another release's
# packages come through a private apt configuration, so the machine's own package sources stay as
# they are, and are only unpacked. A folder appears whole (made aside, then renamed) and two runs at
# once wait for each other; what a killed run left behind is removed by the next.
#
#   kernels.sh                the names of all kernels
#   kernels.sh NAME...        fetches what is missing; prints the folder of each: vmlinux, release,
#                             root/ (lib/modules, usr/src, the compiler and all that it needs)
#   kernels.sh --there NAME   the folder, if it is there; else fails, without a word
#   kernels.sh --again NAME   fetches it anew
set -Eeuo pipefail

cache=${XDG_CACHE_HOME:-$HOME/.cache}/infuse/vm
# What is in the folders; raised when it changes, so that older ones are fetched again.
layout=1

# name   where its kernel comes from    its compiler
kernels='
6.1      bookworm                       gcc-12
6.12     bookworm-backports             gcc-12
7.2      sid                            gcc-16
'
# What the compiler's own dependencies leave out: essential packages, and what kbuild calls.
tools='bash dash coreutils sed grep gawk findutils diffutils make libelf1t64|libelf1 libssl3t64|libssl3
	zlib1g sparse'

die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

trap 'printf "%s: line %s failed: %s\n" "${0##*/}" "$LINENO" "$BASH_COMMAND" >&2' ERR

field() { awk -v name="$1" -v n="$2" '$1 == name { print $n }' <<< "$kernels"; }

# The address of this machine's own Debian mirror, by the label of what it serves.
mirror() {
	apt-get indextargets --format '$(REPO_URI) $(LABEL)' 'Created-By: Packages' |
		awk -v label="$1" '$2 == label { print $1; exit }'
}

# configure SUITE FOLDER: an apt that knows this suite only, and of no installed package.
configure() {
	local suite=$1 dir=$2 signed uri
	signed="[arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
	uri=$(mirror Debian)
	[ -n "$uri" ] || die "apt knows no Debian mirror: is this Debian, and was apt-get update run?"
	mkdir -p "$dir"/{lists,archives}/partial "$dir/none"
	printf 'deb %s %s %s main\n' "$signed" "$uri" "${suite%-backports}" > "$dir/sources.list"
	if [ "$suite" != sid ]; then
		printf 'deb %s %s %s main\n' "$signed" "$uri" "${suite%-backports}-updates" \
			>> "$dir/sources.list"
		uri=$(mirror Debian-Security)
		[ -z "$uri" ] || printf 'deb %s %s %s-security main\n' "$signed" "$uri" \
			"${suite%-backports}" >> "$dir/sources.list"
	fi
	case $suite in
	*-backports) printf 'deb %s %s %s main\n' "$signed" "$(mirror Debian)" "$suite" \
		>> "$dir/sources.list" ;;
	esac
	cat > "$dir/apt.conf" <<-CONF
		Dir::Etc::sourcelist "$dir/sources.list";
		Dir::Etc::sourceparts "$dir/none";
		Dir::Etc::preferencesparts "$dir/none";
		Dir::State::lists "$dir/lists";
		Dir::State::status "/dev/null";
		Dir::Cache "$dir";
		Dir::Cache::archives "$dir/archives";
		Acquire::Languages "none";
		Acquire::Retries "3";
		APT::Architecture "amd64";
		APT::Architectures { "amd64"; };
		APT::Install-Recommends "0";
		APT::Sandbox::User "";
	CONF
	export APT_CONFIG=$dir/apt.conf
	timeout 600 apt-get -q update >&2
}

# newest PACKAGE SUITE: its version there. A suite's own kernel may come from its security archive.
newest() {
	apt-cache madison "$1" | awk -F ' *[|] *' -v suite="$2" '
		{ split($3, at, " "); sub("/.*", "", at[2]); gsub(" ", "", $2) }
		at[2] == suite || (suite !~ /-backports$/ && index(at[2], suite) == 1 &&
			at[2] !~ /-backports$/) { print $2; exit }'
}

# A kernel's own packages, from PACKAGE=VERSION... downwards: image, modules, headers, kbuild.
kernel_packages() {
	local todo=("$@") seen=' ' one
	while [ ${#todo[@]} -gt 0 ]; do
		one=${todo[0]}; todo=("${todo[@]:1}")
		case $seen in *" $one "*) continue ;; esac
		seen+="$one "
		printf '%s\n' "$one"
		for one in $(apt-cache show --no-all-versions "$one" | sed -n 's/^Depends: //p' | tr ',' '\n' |
			sed -E 's/ *\|.*//; s/^ *([^ ]+) \(= ([^)]+)\).*/\1=\2/; s/^ *([^ =]+) .*/\1/'); do
			case $one in
			linux-base | linux-base=* | linux-compiler-*) ;;
			linux-kbuild-* | linux-*-amd64=* | linux-*-common=*) todo+=("$one") ;;
			esac
		done
	done
}

# first_known NAME|NAME...: the one that this suite has.
first_known() {
	local name
	for name in ${1//|/ }; do
		if apt-cache show --no-all-versions "$name" > /dev/null 2>&1; then echo "$name"; return; fi
	done
	die "no package $1"
}

# unpack FILE.deb FOLDER, without what no test needs. Debian's usr merge is made beforehand.
unpack() {
	dpkg-deb --fsys-tarfile "$1" | tar -x -C "$2" --keep-directory-symlink --no-same-owner \
		--exclude './usr/share/doc*' --exclude './usr/share/man*' --exclude './usr/share/locale*' \
		--exclude './usr/share/info*' --exclude '*/kernel/drivers/gpu/*' --exclude './dev/*' \
		--exclude '*/kernel/sound/*' --exclude '*/kernel/drivers/media/*' \
		--exclude '*/kernel/drivers/net/wireless/*' --exclude '*/boot/System.map*' \
		--exclude '*/libLLVM*' --exclude '*/libz3*'
}

# number FILE OFFSET SIZE: a little-endian number of a file.
number() { od -An -v -j "$2" -N "$3" -t "u$3" "$1" | tr -d ' '; }

# part_of FILE OFFSET SIZE
part_of() { dd if="$1" bs=64K iflag=skip_bytes,count_bytes skip="$2" count="$3" status=none; }

# vmlinux_of VMLINUZ: the uncompressed kernel inside (see the kernel's Documentation/x86/boot).
vmlinux_of() {
	local at size magic
	at=$((($(number "$1" 497 1) + 1) * 512 + $(number "$1" 584 4)))
	size=$(number "$1" 588 4)
	magic=$(od -An -j "$at" -N 4 -t x1 "$1" | tr -d ' ')
	# The build appends the unpacked size.
	case $magic in
	fd377a58) part_of "$1" "$at" "$size" | xz -dc --single-stream ;;
	28b52ffd) part_of "$1" "$at" $((size - 4)) | zstd -dcq ;;
	*) die "$1 is packed in a way that is not known here ($magic)" ;;
	esac
}

fetch() {
	local name=$1 suite gcc apt dir root version tool kernel all=() known=() deb
	suite=$(field "$name" 2); gcc=$(field "$name" 3)
	apt=$cache/apt-${suite}
	dir=$(mktemp -d "$cache/.making.XXXXXX"); root=$dir/root
	printf '%s: fetching the %s kernel of %s and %s\n' "${0##*/}" "$name" "$suite" "$gcc" >&2
	configure "$suite" "$apt"
	version=$(newest linux-image-amd64 "$suite")
	[ -n "$version" ] || die "$suite has no linux-image-amd64"
	mapfile -t all < <(kernel_packages "linux-image-amd64=$version" "linux-headers-amd64=$version")
	for tool in $tools "$gcc"; do known+=("$(first_known "$tool")"); done
	# The compiler by apt's resolver, which brings the C library and all else; the kernel as it is
	# (its own dependencies would bring an initramfs generator).
	timeout 900 apt-get -q -y install --download-only --no-install-recommends "${known[@]}" >&2
	(cd "$apt/archives" && timeout 900 apt-get -q download "${all[@]}" >&2)
	mkdir -p "$root"/{usr/bin,usr/sbin,usr/lib,usr/lib64,tmp,dev,proc}
	ln -s usr/bin usr/sbin usr/lib usr/lib64 "$root"
	for deb in "$apt"/archives/*.deb; do unpack "$deb" "$root"; done
	[ -e "$root/bin/sh" ] || ln -s dash "$root/usr/bin/sh"
	ln -sf gawk "$root/usr/bin/awk"
	# Makefiles from 6.10 on ask it whether sparse is of use, and Debian's packages leave it out.
	for kernel in "$root"/usr/lib/linux-kbuild-*/scripts; do
		printf '#!/bin/sh\necho 1\n' > "$kernel/checker-valid.sh"
		chmod +x "$kernel/checker-valid.sh"
	done
	ls "$root/usr/lib/modules" > "$dir/release"
	[ "$(wc -l < "$dir/release")" = 1 ] || die "not one kernel: $(cat "$dir/release")"
	for kernel in "$root/boot"/vmlinuz-* "$root"/usr/lib/modules/*/vmlinuz; do
		[ ! -f "$kernel" ] || vmlinux_of "$kernel" > "$dir/vmlinux"
	done
	[ "$(od -An -N 4 -t x1 "$dir/vmlinux" | tr -d ' ')" = 7f454c46 ] || die "vmlinux is no ELF file"
	printf '%s\n' "$gcc" > "$dir/compiler"
	depmod -b "$root" "$(cat "$dir/release")"
	rm -rf "${root:?}"/{boot,var} "${root:?}"/usr/lib/modules/*/{vmlinuz,System.map} "${cache:?}/$name" "$apt"
	echo $layout > "$dir/layout"
	chmod 755 "$dir"
	mv -T "$dir" "$cache/$name"
}

is_there() { [ "$(cat "$cache/$1/layout" 2> /dev/null)" = $layout ]; }

again=''
case ${1-} in
"") awk 'NF { print $1 }' <<< "$kernels"; exit 0 ;;
--there) is_there "$2" && echo "$cache/$2"; exit ;;
--again) again=1; shift ;;
esac
for name; do
	[ -n "$(field "$name" 2)" ] || die "there is no kernel '$name' in the table"
	if [ -n "$again" ] || ! is_there "$name"; then
		mkdir -p "$cache"
		exec 8> "$cache/lock"
		flock -w 1800 8 || die "another run has held $cache/lock for half an hour"
		if [ -n "$again" ] || ! is_there "$name"; then
			rm -rf "$cache"/.making.* "$cache"/apt-*
			fetch "$name"
		fi
		exec 8>&-
	fi
	echo "$cache/$name"
done
