# SPDX-License-Identifier: MIT
add_executable(inject-stress programs/inject-stress.c)
target_link_libraries(inject-stress PRIVATE inject_static common Threads::Threads)
add_executable(inject-check programs/inject-check.c)
target_link_libraries(inject-check PRIVATE inject)
