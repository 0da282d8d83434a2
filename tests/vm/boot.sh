#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Boots one guest (QEMU, TCG: no KVM, so that it runs anywhere) and ends with its status. A guest
# that panics, hangs or is killed ends with 125, one that takes too long with 124; then the end of
# its console is printed. Only tests/vm/run calls it.
#
#   boot.sh KERNEL INITRAMFS LOG SECONDS MEMORY CPUS COUNTED "APPEND" [QEMU'S ARGUMENTS...]
#
# The processor says nothing of fast string copies: QEMU does `rep movsb` byte by byte, and a kernel that
# was told to prefer it would spend most of a page's way in it. COUNTED not empty: each instruction takes
# 2 ns of the guest's time, whatever it took here, and processors take turns.
set -uo pipefail

kernel=$1 initramfs=$2 log=$3 seconds=$4 memory=$5 cpus=$6 counted=$7 append=$8; shift 8

clock=(-accel 'tcg,thread=multi,tb-size=256')
[ -z "$counted" ] || clock=(-accel 'tcg,thread=single,tb-size=256' -icount 'shift=1,sleep=off')

timeout --foreground -k 5 "$seconds" qemu-system-x86_64 -M q35 "${clock[@]}" -cpu max,-erms,-fsrm \
	-m "$memory" -smp "$cpus" -nodefaults -no-user-config -display none -no-reboot \
	-serial stdio -device isa-debug-exit,iobase=0x501,iosize=4 \
	-kernel "$kernel/vmlinux" -initrd "$initramfs" \
	-append "console=ttyS0 quiet panic=-1 oops=panic $append" "$@" \
	< /dev/null 2>&1 | sed -u 's,\r,,g' > "$log"
rc=${PIPESTATUS[0]}

# The port makes QEMU end with (value << 1) | 1.
if [ "$rc" -eq 124 ] || [ "$rc" -eq 137 ]; then
	printf 'the guest was ended after %s s; its console:\n' "$seconds"
	rc=124
elif [ "$rc" -ge 33 ] && [ $((rc & 1)) -eq 1 ]; then
	exit $(((rc >> 1) - 16))
else
	printf 'the guest ended without a status (qemu: %s); its console:\n' "$rc"
	rc=125
fi
grep -nE -m 3 'Kernel panic|BUG:|WARNING:|blocked for more than|Oops' "$log"
tail -n "${RIG_TAIL:-60}" "$log"
exit "$rc"
