# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# For tests about what can be seen from outside: a program that keeps known words at donors, and searching.
# Sourced after functions.sh.
# shellcheck disable=SC2034 # used by who sources it

words=$(printf 'KNOWN PLAINTEXT of page' | od -An -v -tx1 | tr -d ' \n')

# keep NAME DONOR MIB [seal]: starts the keeper and waits until its words are at the donor; sets keeper_pid.
keep() {
	local name=$1; shift
	mkfifo "$scratch/$name.go"
	keeper "$@" < "$scratch/$name.go" > "$scratch/$name.out" 2>&1 &
	keeper_pid=$!
	started+=("$keeper_pid")
	exec 7> "$scratch/$name.go"
	until_true 60 grep -q kept "$scratch/$name.out"
}

# kept NAME: ends it; all must be as it was.
kept() {
	echo go >&7
	exec 7>&-
	wait "$keeper_pid" || fail "the keeper: $(cat "$scratch/$1.out")"
	grep -q "all pages were there" "$scratch/$1.out" || fail "$(cat "$scratch/$1.out")"
}

# has PATH|PID HEX...: do the bytes stand there? Sets counts.
has() {
	local rc=0
	counts=$(has-bytes "$@") || rc=$?
	[ $rc -le 1 ] || fail "can't read $1 (status $rc)"
	return $rc
}
