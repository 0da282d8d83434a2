# SPDX-License-Identifier: MIT
# What copies, fragments, seals and hashes cost, from all lines of results.jsonl: an array of {goal,
# command, base, us, value, p50, cpu, unit, limit, at_least, met, rounds}. base and us are the medians of
# both sides in us a page; value is the median of the rounds' differences or ratios; p50 the same of the
# median faults where single ones are timed, cpu of the CPU time. limit null: nothing is promised.
def median: sort | if length == 0 then null elif length % 2 == 1 then .[length / 2 | floor] else (.[length / 2 - 1] + .[length / 2]) / 2 end;
. as $all |
def of($name): [$all[] | select(.kind == "cost" and .name == $name and .failed == null)];
def pairs($a; $b; $field; f): [of($a)[] | . as $x | of($b)[] | select(.round == $x.round) |
	[$x[$field], .[$field]] | select(all(.[]; . != null and . > 0)) | f] | median;
def row($goal; $base; $with; $unit; $limit; $at_least; f): {goal: $goal, command: (of($with)[0].command // null),
	base: ([of($base)[].us_per_page] | median), us: ([of($with)[].us_per_page] | median),
	value: pairs($base; $with; "us_per_page"; f), p50: (if $at_least then null else pairs($base; $with; "p50_us"; f) end),
	cpu: pairs($base; $with; "cpu_us_per_page"; f), unit: $unit,
	rounds: (of($with) | length), limit: $limit, at_least: $at_least} |
	. + {met: (if .value == null or .limit == null then null elif $at_least then .value >= .limit else .value <= .limit end)};
def adds($goal; $base; $with; $limit): row($goal; $base; $with; "us"; $limit; false; .[1] - .[0]);
def times($goal; $base; $with; $limit): row($goal; $base; $with; "ratio"; $limit; false; .[1] / .[0]);
def writes($goal; $base; $with): row($goal; $base; $with; "ratio"; 0.45; true; .[0] / .[1]);
[
	(["shm", "tcp"][] as $t |
		writes("2 copies, \($t), new pages written, throughput"; "fresh-\($t)"; "fresh-\($t)-x2"),
		writes("2 copies, \($t), pages read and written"; "write-\($t)"; "write-\($t)-x2"),
		adds("sealing, \($t), adds to a random fault, us"; "random-\($t)"; "random-\($t)-sealed"; 1.5),
		adds("hashing, \($t), adds to a random fault, us"; "random-\($t)-unhashed"; "random-\($t)"; 0.4),
		times("4+2, \($t), random fault over the plain one"; "random-\($t)"; "random-\($t)-4+2"; if $t == "shm" then 1.6 else null end))
]
