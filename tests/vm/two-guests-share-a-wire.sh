# SPDX-License-Identifier: MIT
# Two guests meet over their wire and read and write each other's memory by RDMA (rxe), on each kernel: the
# ground that the tests of our own RDMA stand on.
. "$(dirname "$0")/functions.sh"
requires_kernels "$1"
for p in rping rdma; do requires "$p"; done
guest two-guests-share-a-wire --pair --kernel "$1" --modules "rdma_rxe rdma_cm rdma_ucm ib_uverbs" \
	--program rdma --program ip --program rping
