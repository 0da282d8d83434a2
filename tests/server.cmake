# SPDX-License-Identifier: MIT
if(CRITERION_FOUND AND TARGET infuse-memory-server)
  add_library(server-client STATIC unit/server_client.c)
  target_link_libraries(server-client PUBLIC infuse_headers PkgConfig::CRITERION)
  target_compile_definitions(server-client PRIVATE
    TEST_SERVER="$<TARGET_FILE:infuse-memory-server>")
  infuse_unit_test(server-lends unit/server_lends.c "quick;asan;tsan" 120 server-client)
  infuse_unit_test(server-refuses unit/server_refuses.c "quick;asan;tsan" 120 server-client)
  infuse_unit_test(server-clones unit/server_clones.c "quick;asan;tsan" 120 server-client)
  infuse_unit_test(server-lives unit/server_lives.c "slow;asan;tsan" 180 server-client)
endif()
