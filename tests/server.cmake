# SPDX-License-Identifier: MIT
if(CRITERION_FOUND AND TARGET infuse-memory-server)
  add_library(server-client STATIC unit/server_client.c)
  target_link_libraries(server-client PUBLIC infuse_headers PkgConfig::CRITERION)
  target_compile_definitions(server-client PRIVATE
    TEST_SERVER="$<TARGET_FILE:infuse-memory-server>")
  infuse_unit_test(server-lends unit/server_lends.c "quick;asan;tsan" 120 server-client)
  infuse_unit_test(server-refuses unit/server_refuses.c "quick;asan;tsan" 120 server-client)
  infuse_unit_test(server-epochs unit/server_epochs.c "quick;asan;tsan" 120 server-client Threads::Threads)
  infuse_unit_test(server-parts unit/server_parts.c "quick;asan;tsan" 120 server-client)
  infuse_unit_test(server-gives-back unit/server_gives_back.c "quick;asan;tsan" 120 server-client server)
  infuse_unit_test(server-clones unit/server_clones.c "quick;asan;tsan" 120 server-client)
  infuse_unit_test(server-tokens unit/server_tokens.c "quick;asan;tsan" 30 server)
  infuse_unit_test(server-auth unit/server_auth.c "quick;asan;tsan" 120 server-client secure)
  infuse_unit_test(server-turns unit/server_turns.c "quick;asan" 60 server)
  infuse_unit_test(server-shares unit/server_shares.c "quick;asan;tsan" 120 server-client)
  infuse_unit_test(server-lives unit/server_lives.c "slow;asan;tsan" 180 server-client)

  add_executable(test-server-crowd unit/server_crowd.c)
  target_link_libraries(test-server-crowd PRIVATE server-client Threads::Threads)
  add_test(NAME server-holds-ten-thousand-connections COMMAND test-server-crowd)
  infuse_test_properties(server-holds-ten-thousand-connections slow 180)

  add_executable(test-server-strangers unit/server_strangers.c)
  target_link_libraries(test-server-strangers PRIVATE server-client pagestore secure Threads::Threads)
  add_test(NAME strangers-get-nothing COMMAND test-server-strangers)
  infuse_test_properties(strangers-get-nothing "slow;asan" 300)
endif()

infuse_script_test(server-protocol-page-is-exact quick 30)
infuse_script_test(server-refuses-addresses-that-strangers-reach "quick;asan" 90)
infuse_script_test(server-says-why-it-can-not-lock-memory quick 60)
infuse_script_test(server-replaces-dead-sockets-only "quick;asan" 60)

# Borrowers and neighbours for the scripts.
add_executable(volume-load programs/volume-load.c)
target_link_libraries(volume-load PRIVATE pagestore Threads::Threads)
add_executable(memory-eater programs/memory-eater.c)
infuse_script_test(a-donor-gives-memory-back-to-its-own-programs "slow" 300)
