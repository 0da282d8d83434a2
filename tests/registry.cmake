# SPDX-License-Identifier: MIT
infuse_unit_test(registry unit/registry.c "quick;asan;tsan" 120 registry common Threads::Threads)
