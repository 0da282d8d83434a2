# SPDX-License-Identifier: MIT
infuse_unit_test(secure-key unit/secure_key.c "quick;asan" 30 secure)
infuse_unit_test(secure-tls unit/secure_tls.c "quick;asan" 120 secure)
infuse_unit_test(secure-aead unit/secure_aead.c "quick;asan" 60 secure)

add_executable(keeper programs/keeper.c)
target_link_libraries(keeper PRIVATE inject)
add_executable(has-bytes programs/has-bytes.c)
target_link_libraries(has-bytes PRIVATE infuse_headers)
# Not under AddressSanitizer: its shadow is memory to be searched, too.
infuse_script_test(donors-hold-no-plaintext-of-sealed-heaps quick 120)
infuse_script_test(the-wire-shows-no-plaintext "slow;asan" 180)
infuse_script_test(keys-are-in-no-core-argv-or-log slow 180)
infuse_script_test(borrowers-and-donors-know-each-other-by-keys "quick;asan" 120)
infuse_script_test(certificates-will-do-as-well "quick;asan" 120)
