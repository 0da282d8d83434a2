# SPDX-License-Identifier: MIT
# On $1, a kernel, over $2, a transport, between two guests: one with 128 MiB runs a program that wants more than all
# of it, with the kernel's detector of hung tasks on, while one of the two donors dies and comes back.
# (172 MiB are the machine's: the kernel's own code and tables are not in what it counts.)
. "$(dirname "$0")/functions.sh"
requires_kernels "$1"
guest a-small-guest-gets-through-its-swap --pair --kernel "$1" --memory 768M,172M --seconds 500 \
	--own "$(module "$1")" --modules "rdma_rxe rdma_cm ib_uverbs rdma_ucm" \
	--program "$INFUSE_BUILD/bin/infuse" --first-program "$INFUSE_BUILD/bin/infuse-memory-server" --program "$INFUSE_BUILD/bin/swap-touch" --program ip --program rdma \
	--append "rig.HUNG_SECONDS=30 rootfstype=ramfs" -- "$2" ${3+"$3"}
