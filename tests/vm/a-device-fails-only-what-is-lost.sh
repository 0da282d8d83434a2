# SPDX-License-Identifier: MIT
# On kernel $1: wrong use gets a clear error; wrong bytes are caught, read elsewhere and mended; what no donor
# has any more is an error in time, and nothing else is; discards give donors their memory back.
. "$(dirname "$0")/functions.sh"
requires_kernels "$1"
for p in blkdiscard cmp dd; do PATH=$PATH:/usr/sbin:/sbin requires $p; done
guest a-device-fails-only-what-is-lost --kernel "$1" --cpus 2 --own "$(module "$1")" "${ours[@]}" \
	--program /sbin/blkdiscard --program cmp --program dd
