# SPDX-License-Identifier: MIT
# The contract of transports over RDMA (rxe), a donor that dies, and what borrowers may not do, on each
# kernel; once with a memory region a slab, once with memory windows.
. "$(dirname "$0")/functions.sh"
requires_kernels "$1"
requires rdma
for t in pagestore-contract pagestore-faults server-rdma; do
	[ -x "$INFUSE_BUILD/bin/test-$t" ] || skip "test-$t was not built (Criterion)"
done
guest pages-move-over-rdma --kernel "$1" --modules "rdma_rxe rdma_cm rdma_ucm ib_uverbs veth" "${ours[@]}" \
	--program rdma --program ip --program setpriv --program "$INFUSE_BUILD/bin/test-pagestore-contract" \
	--program "$INFUSE_BUILD/bin/test-pagestore-faults" --program "$INFUSE_BUILD/bin/test-server-rdma" \
	--file "$INFUSE_BUILD/bin/infuse-memory-server:$INFUSE_BUILD/bin/infuse-memory-server" --seconds 300
