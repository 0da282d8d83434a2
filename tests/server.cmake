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
  infuse_unit_test(server-clones unit/server_clones.c "quick;asan;tsan" 120 server-client)
  infuse_unit_test(server-tokens unit/server_tokens.c "quick;asan;tsan" 30 server)
  infuse_unit_test(server-turns unit/server_turns.c "quick;asan" 60 server)
  infuse_unit_test(server-shares unit/server_shares.c "quick;asan;tsan" 120 server-client)
  infuse_unit_test(server-lives unit/server_lives.c "slow;asan;tsan" 180 server-client)

  add_executable(test-server-crowd unit/server_crowd.c)
  target_link_libraries(test-server-crowd PRIVATE server-client Threads::Threads)
  add_test(NAME server-holds-ten-thousand-connections COMMAND test-server-crowd)
  infuse_test_properties(server-holds-ten-thousand-connections slow 180)
endif()

# The same play twice: bounded, with any compiler; and with libFuzzer in the fuzz preset.
file(GLOB session_corpus ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/corpus/*)
add_executable(session-random fuzz/session_random.c fuzz/session_play.c)
target_link_libraries(session-random PRIVATE server)
add_test(NAME server-random-frames COMMAND session-random 100000 ${session_corpus})
infuse_test_properties(server-random-frames "quick;asan" 120)
if(INFUSE_FUZZ)
  add_executable(fuzz-session fuzz/session_fuzz.c fuzz/session_play.c)
  target_compile_options(fuzz-session PRIVATE -fsanitize=fuzzer)
  target_link_options(fuzz-session PRIVATE -fsanitize=fuzzer)
  target_compile_options(server PRIVATE -fsanitize=fuzzer-no-link)
  target_link_libraries(fuzz-session PRIVATE server)
  file(MAKE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/session-corpus) # what it finds goes here
  add_test(NAME server-fuzz COMMAND fuzz-session -max_total_time=20 -max_len=4096
    ${CMAKE_CURRENT_BINARY_DIR}/session-corpus ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/corpus)
  infuse_test_properties(server-fuzz slow 90)
endif()

infuse_script_test(server-protocol-page-is-exact quick 30)
infuse_script_test(server-refuses-addresses-that-strangers-reach "quick;asan" 90)
infuse_script_test(server-says-why-it-can-not-lock-memory quick 60)
infuse_script_test(server-replaces-dead-sockets-only "quick;asan" 60)
