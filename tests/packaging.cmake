# SPDX-License-Identifier: MIT
infuse_script_test(boot-brings-devices-up-in-order quick 90)
infuse_script_test(dkms-builds-the-module slow 300)
