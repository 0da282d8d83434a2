# SPDX-License-Identifier: MIT
infuse_unit_test(parse unit/parse.c "quick;asan" 30 common)
infuse_unit_test(options unit/options.c "quick;asan" 30 common)
infuse_unit_test(common unit/common.c "quick;asan;tsan" 60 common)
