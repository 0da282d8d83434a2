# SPDX-License-Identifier: MIT
# Every allocation refused in turn: in the simulation, in the client over real sockets (compiled with system
# calls of ours), in a real server (preloaded).
include(${CMAKE_CURRENT_SOURCE_DIR}/sim.cmake)
infuse_sim_library(failing-pagestore pagestore programs/failing_env.h
  ${CMAKE_SOURCE_DIR}/common/memory.c ${CMAKE_SOURCE_DIR}/pagestore/transport/file_ring.c)
add_executable(client-without-memory programs/client-without-memory.c)
target_link_libraries(client-without-memory PRIVATE failing-pagestore common)
infuse_script_test(a-client-without-memory-says-so "slow;asan" 300)
if(NOT INFUSE_SANITIZE) # they bring an allocator of their own
  add_library(fail-alloc SHARED programs/fail-alloc.c)
  target_link_libraries(fail-alloc PRIVATE ${CMAKE_DL_LIBS})
  infuse_script_test(a-server-without-memory-says-so slow 400)
endif()
add_test(NAME sim-goes-on-without-memory COMMAND infuse-sim --quiet --memory --first 3 --seeds 4)
infuse_test_properties(sim-goes-on-without-memory "slow;asan" 300)
