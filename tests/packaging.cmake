# SPDX-License-Identifier: MIT
infuse_script_test(boot-brings-devices-up-in-order quick 90)
