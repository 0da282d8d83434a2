# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# Sourced by scripts/test and scripts/demo: packages, builds, and stages that write their output to
# build/*.log and one line to the terminal. Sets root, the source folder, and goes there.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
mkdir -p build
export LC_ALL=C.UTF-8
failed_stages=()

say() { printf '%s\n' "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# stage NAME LOG COMMAND...: runs it with its output in build/LOG and tells the seconds it took. A
# failure shows what the log says of it, is remembered in failed_stages, and is the return value.
stage() {
	local name=$1 log=build/$2 begun=$SECONDS rc=0; shift 2
	printf '%-44s ' "$name"
	"$@" > "$log" 2>&1 < /dev/null || rc=$?
	if [ "$rc" -eq 0 ]; then
		printf 'ok      %4d s\n' $((SECONDS - begun))
		return 0
	fi
	printf 'FAILED  %4d s   see %s\n' $((SECONDS - begun)) "$log"
	failed_stages+=("$name")
	what_failed "$log" | sed 's/^/    /'
	return "$rc"
}

# A ctest log's failed tests with their output; of any other log its end.
what_failed() {
	if grep -q 'tests passed,.* tests failed out of' "$1"; then
		awk '/^ *([0-9]+\/[0-9]+ Test|Start) *#?[0-9]+:/ { show = /\*\*\*/ && !/Skipped/ }
			show && NF && n++ < 120' "$1"
	else
		tail -n 40 "$1"
	fi
}

# as_root COMMAND...: as it is, or through sudo.
as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo > /dev/null; then
		sudo -- "$@"
	else
		die "this needs root, and there is no sudo: run as root: $*"
	fi
}

is_installed() {
	dpkg-query -W -f '${db:Status-Status}\n' "$1" 2> /dev/null | grep -qx installed
}

can_be_installed() { apt-cache show --no-all-versions "$1" > /dev/null 2>&1; }

# The names of GROUP..., each once, alternatives still joined by "|".
list_packages() {
	awk -v want=" $* " '!/^#/ && NF && index(want, " " $1 " ") && !seen[$2]++ { print $2 }' \
		"$root/scripts/packages"
}

# The lines of GROUP... of which no name is installed.
missing_packages() {
	local line name
	for line in $(list_packages "$@"); do
		for name in ${line//|/ }; do
			is_installed "$name" && continue 2
		done
		printf '%s\n' "$line"
	done
}

# install_packages GROUP...: says what is missing, then installs it. Does nothing when all is there.
install_packages() {
	local missing line name chosen=()
	missing=$(missing_packages "$@")
	[ -n "$missing" ] || return 0
	command -v apt-get > /dev/null ||
		die "this is no Debian system; install what is like:" "${missing//$'\n'/ }"
	say "To be installed with apt-get (why: scripts/packages):"
	say "$missing" | tr '\n' ' ' | fold -s -w 76 | sed 's/^/    /'
	say ""
	[ "$(id -u)" -eq 0 ] || command -v sudo > /dev/null ||
		die "this needs root, and there is no sudo: run this script as root once"
	stage "apt-get update" apt-update.log as_root apt-get -q update || exit 1
	for line in $missing; do
		for name in ${line//|/ }; do
			can_be_installed "$name" && { chosen+=("$name"); continue 2; }
		done
		die "no package ${line//|/ or } in this machine's package sources"
	done
	stage "apt-get install" apt-install.log as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "${chosen[@]}" ||
		exit 1
}

# unpack_program NAME PACKAGE: for programs whose package would start a service: only unpacked, into
# build/NAME, and found in PATH from then on. Without it what needs it is skipped.
unpack_program() {
	local where=$root/build/$1
	command -v "$1" > /dev/null && return
	[ -x "$where/usr/bin/$1" ] || {
		mkdir -p "$where"
		(cd "$where" && apt-get -q download "$2" && dpkg-deb -x "$2"_*.deb .) > "build/$1.log" 2>&1 || true
	}
	if [ -x "$where/usr/bin/$1" ]; then export PATH="$PATH:$where/usr/bin"; fi
}

# build_preset PRESET [TARGET]: configures (again, if there is need) and builds build/PRESET, 2 jobs.
build_preset() {
	local launcher=()
	if command -v ccache > /dev/null; then launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache); fi
	cmake --preset "$1" "${launcher[@]}" && cmake --build "build/$1" -j 2 ${2:+--target "$2"}
}
