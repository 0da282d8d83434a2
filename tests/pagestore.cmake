# SPDX-License-Identifier: MIT
infuse_unit_test(hash unit/hash.c "quick;asan" 20 pagestore PkgConfig::XXHASH)
infuse_unit_test(core-placement unit/core_placement.c "quick;asan;tsan" 30 pagestore)
infuse_unit_test(core-batches unit/core_batches.c "quick;asan;tsan" 120 pagestore)
infuse_unit_test(seal unit/seal.c "quick;asan" 60 pagestore)
infuse_unit_test(core-replicas unit/core_replicas.c "quick;asan;tsan" 120 pagestore)
infuse_unit_test(pagestore-stream unit/pagestore_stream.c "quick;asan;tsan" 60 pagestore)
infuse_unit_test(pagestore-address unit/pagestore_address.c "quick;asan;tsan" 60 pagestore)

# Against memory servers of the same build.
infuse_unit_test(pagestore-contract unit/pagestore_contract.c "quick;asan;tsan" 300 pagestore)
infuse_unit_test(pagestore-faults unit/pagestore_faults.c "slow;asan;tsan" 300 pagestore)
infuse_unit_test(pagestore-replicas unit/pagestore_replicas.c "slow;asan;tsan" 600 pagestore)
foreach(name pagestore-contract pagestore-faults pagestore-replicas)
  if(TARGET test-${name})
    add_dependencies(test-${name} infuse-memory-server)
    target_link_libraries(test-${name} PRIVATE Threads::Threads)
  endif()
endforeach()
