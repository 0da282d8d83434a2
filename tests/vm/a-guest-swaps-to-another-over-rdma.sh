# SPDX-License-Identifier: MIT
# Two guests of kernel $1, RDMA over their wire: a program of twice its limit in one swaps to donors in the other and
# finds every page as it was, fio finds every byte, and both sides are rid of everything in the end.
. "$(dirname "$0")/functions.sh"
requires_kernels "$1"
for p in fio rdma; do requires "$p"; done
own=$(module "$1") || fail "the module does not build for $1"
guest a-guest-swaps-to-another-over-rdma --pair --kernel "$1" --memory 640M,384M --seconds 500 --own "$own" \
	--modules "rdma_rxe rdma_cm ib_uverbs rdma_ucm" "${ours[@]}" --program "$INFUSE_BUILD/bin/swap-touch" \
	--program fio --program ip --program rdma --file "$top/bench/fio:/test/fio"
