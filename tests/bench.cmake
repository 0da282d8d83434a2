# SPDX-License-Identifier: MIT
infuse_script_test(bench-refuses-bad-arguments "quick" 60)
infuse_script_test(bench-workloads-keep-their-contents "quick" 120)
infuse_script_test(bench-results-are-json-with-all-fields "slow" 120)
infuse_script_test(bench-tells-a-dead-donor "quick" 60)
infuse_script_test(bench-ends-its-servers "slow" 60)
infuse_script_test(demo-sqlite-answers-are-equal "slow" 300)
