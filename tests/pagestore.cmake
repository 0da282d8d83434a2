# SPDX-License-Identifier: MIT
infuse_unit_test(core-placement unit/core_placement.c "quick;asan;tsan" 30 pagestore)
infuse_unit_test(core-batches unit/core_batches.c "quick;asan;tsan" 120 pagestore)
infuse_unit_test(pagestore-stream unit/pagestore_stream.c "quick;asan;tsan" 60 pagestore)
infuse_unit_test(pagestore-address unit/pagestore_address.c "quick;asan;tsan" 60 pagestore)
