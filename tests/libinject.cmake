# SPDX-License-Identifier: MIT
add_executable(inject-stress programs/inject-stress.c)
target_link_libraries(inject-stress PRIVATE inject_static common Threads::Threads)
add_executable(inject-check programs/inject-check.c)
target_link_libraries(inject-check PRIVATE inject)

infuse_unit_test(prefetch unit/prefetch.c "quick;asan" 20 inject_core)
infuse_unit_test(heap-ranges unit/heap_ranges.c "quick;asan" 20 inject_core)
infuse_unit_test(residency unit/residency.c "quick;asan" 20 inject_core)
infuse_script_test(heap-keeps-every-byte-under-stress "slow;asan;tsan" 500)
infuse_script_test(heap-is-what-it-was-at-the-fork "slow;asan" 300)
infuse_script_test(heap-ends-with-its-donor "slow" 120)
infuse_script_test(heap-does-what-its-manual-says "quick;asan" 120)
infuse_script_test(heap-tells-what-permission-is-missing "quick" 60)
