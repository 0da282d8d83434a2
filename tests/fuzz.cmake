# SPDX-License-Identifier: MIT
# Fuzz targets: fuzz/<name>_play.c plays a string of bytes. Each is built twice: with a bounded
# number of random strings, by any compiler (NAME-random-...), and with libFuzzer in the fuzz preset,
# where it goes on from its corpus (fuzz/corpus-NAME) for a bounded count.
#
# infuse_fuzz(NAME COUNT FUZZ_COUNT SOURCES... LIBRARIES...): so many frames (documents, lines) are
# played at random, and by libFuzzer.
include_guard()
include(${CMAKE_CURRENT_LIST_DIR}/sim.cmake)
pkg_check_modules(INIH REQUIRED IMPORTED_TARGET inih)
pkg_check_modules(CURL REQUIRED IMPORTED_TARGET libcurl)

add_custom_target(fuzz-targets)

function(infuse_fuzz name count fuzz_count)
  cmake_parse_arguments(FUZZ "" "" "SOURCES;LIBRARIES" ${ARGN})
  file(GLOB corpus CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/corpus-${name}/*)
  add_executable(random-${name} fuzz/random_main.c ${FUZZ_SOURCES})
  target_link_libraries(random-${name} PRIVATE ${FUZZ_LIBRARIES})
  add_test(NAME fuzz-${name}-at-random COMMAND random-${name} ${count} ${corpus})
  infuse_test_properties(fuzz-${name}-at-random "quick;asan" 120)
  if(INFUSE_FUZZ)
    add_executable(fuzz-${name} fuzz/fuzz_main.c ${FUZZ_SOURCES})
    target_compile_options(fuzz-${name} PRIVATE -fsanitize=fuzzer)
    target_link_options(fuzz-${name} PRIVATE -fsanitize=fuzzer)
    target_link_libraries(fuzz-${name} PRIVATE ${FUZZ_LIBRARIES})
    foreach(library ${FUZZ_LIBRARIES})
      get_target_property(type ${library} TYPE)
      get_target_property(imported ${library} IMPORTED)
      if(type STREQUAL STATIC_LIBRARY AND NOT imported)
        target_compile_options(${library} PRIVATE -fsanitize=fuzzer-no-link)
      endif()
    endforeach()
    add_dependencies(fuzz-targets fuzz-${name})
    # What it finds goes into the first folder.
    file(MAKE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/found-${name})
    add_test(NAME fuzz-${name} COMMAND fuzz-${name} -max_len=4096 -len_control=0 -timeout=10
      -artifact_prefix=${CMAKE_CURRENT_BINARY_DIR}/found-${name}/crash-
      ${CMAKE_CURRENT_BINARY_DIR}/found-${name} ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/corpus-${name})
    infuse_test_properties(fuzz-${name} "slow;fuzz" 300)
    set_tests_properties(fuzz-${name} PROPERTIES ENVIRONMENT "FUZZ_FRAMES=${fuzz_count}")
  endif()
endfunction()

infuse_fuzz(session 100000 500000 SOURCES fuzz/session_play.c LIBRARIES server)
infuse_fuzz(client 50000 400000
  SOURCES fuzz/client_play.c fuzz/client_kernel.c fuzz/client_donor.c sim/model.c
          ${CMAKE_SOURCE_DIR}/pagestore/transport/file_ring.c
  LIBRARIES sim-pagestore common)
infuse_fuzz(stranger 50000 100000 SOURCES fuzz/stranger_play.c LIBRARIES server secure common)
infuse_fuzz(etcd 20000 50000 SOURCES fuzz/etcd_play.c LIBRARIES donors registry common PkgConfig::JSONC
  PkgConfig::CURL)
infuse_fuzz(donors 50000 50000 SOURCES fuzz/donors_play.c LIBRARIES donors registry common)
infuse_fuzz(config 30000 50000 SOURCES fuzz/config_play.c ${CMAKE_SOURCE_DIR}/server/options_file.c
  LIBRARIES common PkgConfig::INIH)
