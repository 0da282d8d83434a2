# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# A wrong argument to infuse bench is one clear line that names it, and exit status 1.
. "$(dirname "$0")/functions.sh"

# refused WORDS-EXPECTED ARGUMENTS...
refused() {
	local words=$1 rc=0; shift
	infuse-bench "$@" > "$scratch/out" 2> "$scratch/err" || rc=$?
	[ "$rc" -eq 1 ] || fail "infuse-bench $*: exit status $rc"
	[ ! -s "$scratch/out" ] || fail "infuse-bench $*: printed to standard output"
	[ "$(wc -l < "$scratch/err")" -eq 1 ] || fail "infuse-bench $*: $(cat "$scratch/err")"
	grep -qF -- "$words" "$scratch/err" || fail "infuse-bench $*: says '$(cat "$scratch/err")', not '$words'"
}

refused "no workload given"
refused "'frob' is no workload"           frob
refused "'frob' is no workload"           seq frob
refused "compare"                         seq compare
refused "'1X' is not a size"              --size 1X seq
refused "'200%' is not a share"           --local 200% seq
refused "'200%' is not a share"           --local 25%,200% seq
refused "'' is not"                       --local 25%, seq
refused "101 is not between"              --write-percent 101 seq
refused "is not between"                  --node 8K chase
refused "less than 256K"                  --local 4K seq
refused "'rdma' is not one of"            --transport rdma seq
refused "0 is not between 1 and"          --donors 0 seq
refused "0 is not between 1 and"          --replicas 0 seq
refused "4 is not between 1 and"          --replicas 4 seq
refused "'3+1' is not a code"             --code 3+1 seq
refused "'4' is not a code"               --code 4 seq
refused "--replicas or --code, not both"  --replicas 2 --code 4+2 seq
refused "want 2 donors, 1 are there"      --replicas 2 --donors 1 seq
refused "4+2 want 6 donors, 5 are there"  --code 4+2 --donors 5 seq
refused "want 2 donors, 1 are there"      --replicas 2 --donor shm:/nowhere seq
refused "--code is for donors"            --code 4+2 --transport local seq
refused "--replicas is for donors"        --replicas 2 --transport local seq
refused "0 is not between 1 and"          --runs 0 seq
refused "option '--runs' needs a value"   seq --runs
refused "unknown option '--nope'"         --nope seq
refused "bigger --size"                   --size 64K transpose
refused "prefetch"                        --size 16M --local 4M --no-floor --prefetch nonsense seq
