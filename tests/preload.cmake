# SPDX-License-Identifier: MIT
# The preload library and `infuse run`. Sanitizers bring an allocator of their own.
if(INFUSE_SANITIZE)
  return()
endif()

add_executable(mappings programs/mappings.c programs/mappings_ranges.c programs/mappings_use.c
  programs/mappings_fork.c)
target_include_directories(mappings PRIVATE programs)
# The tests of malloc and of pages mean what they say.
target_compile_options(mappings PRIVATE -fno-builtin)
target_link_libraries(mappings PRIVATE Threads::Threads)

infuse_script_test(run-keeps-memory-as-the-manuals-say slow 200)
infuse_script_test(run-uses-donors-that-join slow 300)
infuse_script_test(run-refuses-what-can-not-work quick 60)
infuse_script_test(run-replays-a-recorded-program quick 60)
infuse_script_test(run-hands-status-and-signals-over quick 60)
infuse_script_test(run-costs-small-programs-nothing quick 60)
infuse_script_test(run-reaches-donors-by-keys slow 120)
infuse_script_test(run-says-when-donors-are-full quick 60)
infuse_script_test(run-spills-what-donors-have-no-room-for slow 240)
infuse_script_test(run-ends-when-a-donor-dies quick 90)
infuse_script_test(run-ends-its-private-server slow 120)
infuse_script_test(run-sqlite-in-memory slow 120)
infuse_script_test(run-python-with-subprocesses slow 300)
infuse_script_test(run-redis-saves-the-moment-of-the-fork slow 300)
infuse_script_test(run-xz-both-ways slow 400)
infuse_script_test(run-sort-below-its-buffer slow 400)
