# SPDX-License-Identifier: MIT
# The simulation compiles the page store's client and the server's library again, against its own
# clock, system calls and random numbers (see sim/sim.h). -mavx2 and hash_avx2.c are left out: the
# hashes are the same.
include_guard()
function(infuse_sim_library name part environment)
  get_target_property(sources ${part} SOURCES)
  get_target_property(libraries ${part} LINK_LIBRARIES)
  list(REMOVE_ITEM sources hash_avx2.c transport/file_ring.c)
  list(TRANSFORM sources PREPEND ${CMAKE_SOURCE_DIR}/${part}/)
  add_library(${name} STATIC ${sources} ${ARGN})
  target_compile_options(${name} PRIVATE -include ${CMAKE_CURRENT_SOURCE_DIR}/${environment})
  target_link_libraries(${name} PUBLIC ${libraries})
endfunction()
infuse_sim_library(sim-pagestore pagestore sim/client_env.h)
infuse_sim_library(sim-server server sim/server_env.h)

add_library(sim-world STATIC sim/world.c sim/task.c sim/net.c sim/kernel.c sim/disk.c sim/donor.c sim/model.c
  sim/memory.c sim/faults.c sim/borrower.c sim/request.c sim/scenario.c)
target_link_libraries(sim-world PUBLIC sim-pagestore sim-server)
add_executable(infuse-sim sim/main.c)
target_link_libraries(infuse-sim PRIVATE sim-world common)

add_test(NAME sim-reads-what-was-acknowledged COMMAND infuse-sim --quiet --seeds 300)
infuse_test_properties(sim-reads-what-was-acknowledged "quick;asan" 120)
add_test(NAME sim-plays-ten-thousand-seeds COMMAND infuse-sim --quiet --first 1000 --seeds 10000)
infuse_test_properties(sim-plays-ten-thousand-seeds slow 600)
infuse_script_test(sim-plays-a-seed-twice-alike "quick" 60)
if(NOT INFUSE_SANITIZE)
  infuse_script_test(sim-finds-planted-bugs slow 900)
endif()
