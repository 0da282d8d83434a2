# SPDX-License-Identifier: MIT
# nbdkit-rswap: its device by itself, then the plugin under libnbd's tools, fio and the kernel's swap.
infuse_unit_test(rswap-device unit/rswap_device.c "quick;asan;tsan" 200 rswap_device Threads::Threads)
if(TARGET test-rswap-device)
  add_dependencies(test-rswap-device infuse-memory-server)
endif()
infuse_script_test(nbd-tools-read-and-write-a-volume quick 60)
infuse_script_test(nbd-unaligned-writes-keep-their-neighbours quick 120)
infuse_script_test(nbd-refuses-what-can-not-work quick 90)
infuse_script_test(nbd-dead-donor-is-an-error-in-time quick 90)
infuse_script_test(nbd-volume-passes-fio-with-verify slow 300)
