# SPDX-License-Identifier: MIT
# On kernel $1, donors with keys, RDMA let in by tokens: bytes that change in a donor's memory are caught by their
# hash, read from the other replica and right again at the donor a moment later. Who has no key, or another, is
# refused. (What strangers try on the RDMA connections themselves is in pages-move-over-rdma.)
. "$(dirname "$0")/functions.sh"
requires_kernels "$1"
for p in rdma cmp dd grep; do requires $p; done
own=$(module "$1") || fail "the module does not build for $1"
guest bytes-that-change-at-a-donor-are-mended-over-rdma --kernel "$1" --own "$own" --memory 768M --seconds 400 \
	--modules "dummy rdma_rxe rdma_cm ib_uverbs rdma_ucm" "${ours[@]}" --program ip --program rdma \
	--program cmp --program dd --program grep
