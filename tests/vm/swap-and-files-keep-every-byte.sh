# SPDX-License-Identifier: MIT
# On $1, a kernel, over $2, a transport: a program of twice its memory limit swaps to our device and finds every
# page as it was; fio writes, discards and reads blocks of 4 KiB to 1 MiB and finds every byte; when device
# and module are gone, the kernel holds no more than before.
. "$(dirname "$0")/functions.sh"
requires_kernels "$1"
requires fio
guest swap-and-files-keep-every-byte --kernel "$1" --memory 768M --seconds 500 \
	--own "$(module "$1")" --modules "dummy rdma_rxe rdma_cm ib_uverbs rdma_ucm" \
	"${ours[@]}" --program "$INFUSE_BUILD/bin/swap-touch" --program fio --program ip --program rdma \
	--file "$top/bench/fio:/test/fio" -- "$2"
