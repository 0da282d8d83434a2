# SPDX-License-Identifier: MIT
infuse_unit_test(parse unit/parse.c "quick;asan" 30 common)
infuse_unit_test(options unit/options.c "quick;asan" 30 common)
infuse_unit_test(common unit/common.c "quick;asan;tsan" 60 common)
if(NOT INFUSE_SANITIZE)
  infuse_script_test(guarantees-name-tests-that-are-there quick 60)
endif()
