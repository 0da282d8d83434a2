# SPDX-License-Identifier: MIT
infuse_unit_test(secure-key unit/secure_key.c "quick;asan" 30 secure)
infuse_unit_test(secure-tls unit/secure_tls.c "quick;asan" 120 secure)
infuse_unit_test(secure-aead unit/secure_aead.c "quick;asan" 60 secure)
