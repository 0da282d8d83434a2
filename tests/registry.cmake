# SPDX-License-Identifier: MIT
infuse_unit_test(registry unit/registry.c "quick;asan;tsan" 120 registry common Threads::Threads)
infuse_script_test(registry-keeps-its-promises-on-etcd "slow;asan" 180)
infuse_script_test(registry-keeps-its-promises-while-leaders-die slow 400)
infuse_script_test(registry-speaks-tls-and-logs-in slow 120)
infuse_script_test(data-flows-while-etcd-is-away slow 300)
