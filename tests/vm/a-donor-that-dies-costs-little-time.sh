# SPDX-License-Identifier: MIT
# On $1, a kernel, over $2, a transport: while a program swaps and fio verifies, donors are killed (SIGKILL) $3
# times and come back: no error, no wrong byte, every slab has its replicas again each time, and no touch of a
# page takes longer than two seconds.
. "$(dirname "$0")/functions.sh"
requires_kernels "$1"
requires fio
guest a-donor-that-dies-costs-little-time --kernel "$1" --memory 768M --seconds 1700 \
	--own "$(module "$1")" --modules "dummy rdma_rxe rdma_cm ib_uverbs rdma_ucm" \
	"${ours[@]}" --program "$INFUSE_BUILD/bin/swap-touch" --program fio --program ip --program rdma \
	-- "$2" "$3"
