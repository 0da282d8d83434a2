# SPDX-License-Identifier: MIT
# Tests in virtual machines: tests/vm/README.md. They are not quick, run beside at most one other
# (a guest of one core each; `wide` ones use two), and have the label vm, which scripts/test runs as
# a stage of its own. TIMEOUTs are for a slow, busy machine.
function(infuse_vm_test name file timeout)
  add_test(NAME ${name} COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/vm/${file}.sh ${ARGN})
  infuse_test_properties(${name} "vm" ${timeout})
  set_tests_properties(${name} PROPERTIES
    ENVIRONMENT "INFUSE_BUILD=${CMAKE_BINARY_DIR};INFUSE_SOURCE=${CMAKE_SOURCE_DIR};INFUSE_SANITIZE=${INFUSE_SANITIZE}")
endfunction()

if(NOT INFUSE_SANITIZE)
  # Runs in guests; here it is only built.
  add_executable(swap-touch programs/swap-touch.c)
  target_link_libraries(swap-touch PRIVATE Threads::Threads)
  # The longest ones first: where two run side by side, none is left over at the end.
  foreach(transport rdma tcp)
    infuse_vm_test(vm-a-donor-that-dies-costs-little-time-${transport} a-donor-that-dies-costs-little-time 1800
      6.12 ${transport} 20)
  endforeach()
  foreach(kernel 6.1 7.2)
    infuse_vm_test(vm-pages-move-over-rdma-${kernel} pages-move-over-rdma 900 ${kernel})
  endforeach()
  infuse_vm_test(vm-a-guest-hands-over-its-status a-guest-hands-over-its-status 900)
  infuse_vm_test(vm-two-guests-share-a-wire two-guests-share-a-wire 600 6.12)
  set_tests_properties(vm-two-guests-share-a-wire PROPERTIES PROCESSORS 2)
  foreach(kernel 6.1 6.12 7.2)
    foreach(transport tcp rdma)
      infuse_vm_test(vm-swap-and-files-keep-every-byte-${kernel}-${transport} swap-and-files-keep-every-byte 900
        ${kernel} ${transport})
    endforeach()
  endforeach()
  infuse_vm_test(vm-a-guest-swaps-to-another-over-rdma a-guest-swaps-to-another-over-rdma 900 6.1)
  set_tests_properties(vm-a-guest-swaps-to-another-over-rdma PROPERTIES PROCESSORS 2)
  infuse_vm_test(vm-bytes-that-change-at-a-donor-are-mended-over-rdma bytes-that-change-at-a-donor-are-mended-over-rdma 600 7.2)
  infuse_vm_test(vm-a-device-fails-only-what-is-lost-6.12 a-device-fails-only-what-is-lost 900 6.12)
  set_tests_properties(vm-a-device-fails-only-what-is-lost-6.12 PROPERTIES PROCESSORS 2)
  infuse_vm_test(vm-a-small-guest-gets-through-its-swap-6.12 a-small-guest-gets-through-its-swap 600 6.12)
  # Without the module's precautions it hangs.
  infuse_vm_test(vm-a-small-guest-gets-through-its-swap-6.12-careless a-small-guest-gets-through-its-swap 600 6.12 careless)
endif()
