# SPDX-License-Identifier: MIT
# The promises of docs/performance.md from all lines of results.jsonl: an array of {goal, command,
# us, floor, value, unit, limit, at_least, met}; value null where it was not measured.
def of($name): [.[] | select(.kind == "goal" and .name == $name and .failed == null)][0];
def over($a; $b): if $a == null or $b == null or $b == 0 then null else $a / $b end;
def row($goal; $r; $value; $limit; $at_least): {goal: $goal, command: ($r.command // null),
	us: $r.us_per_page, floor: $r.floor_us, value: $value, limit: $limit, at_least: $at_least,
	met: (if $value == null then null elif $at_least then $value >= $limit else $value <= $limit end)};
def ratio($goal; $name; $limit): of($name) as $r | row($goal; $r; $r.ratio; $limit; false);
def peer($p; $w): [.[] | select(.kind == "compare" and .transport == $p and .workload == $w and .factor_tcp != null)][0];
def least($p): [.[] | select(.kind == "compare" and .transport == $p and .factor_tcp != null)] | min_by(.factor_tcp);
def least_program: [.[] | select(.kind == "program" and .way == "swap-disk" and .factor_tcp != null)] | min_by(.factor_tcp);
[
	ratio("random read, tcp, over its floor"; "random-tcp"; 1.10),
	ratio("random read, shm, over its floor"; "random-shm"; 1.10),
	ratio("random read, tcp, handler mode, over its floor"; "random-handler"; 1.35),
	row("random, half of it writes, over reads"; of("random-write"); over(of("random-write").us_per_page; of("random-tcp").us_per_page); 1.35; false),
	ratio("sequential read, tcp, over its floor"; "seq-tcp"; 1.25),
	ratio("sequential read, shm, over its floor"; "seq-shm"; 1.4),
	row("sequential write over sequential read"; of("seq-write"); over(of("seq-write").us_per_page; of("seq-tcp").us_per_page); 2.2; false),
	row("transpose, tcp, prefetching gains"; of("transpose-tcp"); over(of("transpose-tcp-none").us_per_page; of("transpose-tcp").us_per_page); 10; true),
	row("transpose, shm, prefetching gains"; of("transpose-shm"); over(of("transpose-shm-none").us_per_page; of("transpose-shm").us_per_page); 5; true),
	ratio("stencil, tcp, slower than all local"; "stencil-tcp"; 4),
	ratio("stencil, shm, slower than all local"; "stencil-shm"; 2.5),
	row("zipf 0.99, hits over those of LRU"; of("zipf-tcp"); over(of("zipf-tcp").hit_ratio; of("zipf-tcp").lru_hit_ratio); 0.95; true),
	row("2 threads, random, shm, pages/s over 1 thread"; of("random-shm-threads"); over(of("random-shm-long").us_per_page; of("random-shm-threads").us_per_page); 1.7; true),
	row("random, prefetching on over off"; of("random-none"); over(of("random-tcp").us_per_page; of("random-none").us_per_page); 1.05; false),
	row("memory besides the local cache, % of the volume"; of("random-tcp"); of("random-tcp").overhead_percent; 0.5; false),
	(peer("nbdfuse"; "random") as $r | row("mmap over nbdfuse, random, slower than tcp"; $r; $r.factor_tcp; 5; true)),
	(peer("nbdfuse"; "seq") as $r | row("mmap over nbdfuse, sequential, slower than tcp"; $r; $r.factor_tcp; 2; true)),
	(least("swap-disk") as $r | row("swap to a disk file, slower than tcp: least of all workloads (\($r.workload // "-"))"; $r; $r.factor_tcp; 1; true)),
	(least("swap-nbd") as $r | row("swap to nbd, slower than tcp: least of all workloads (\($r.workload // "-"))"; $r; $r.factor_tcp; 1; true)),
	(peer("swap-rswap-shm"; "random") as $r | row("swap to our nbd, shm, over nbdkit memory: random"; $r; over($r.us_per_page; peer("swap-nbd"; "random").us_per_page); 1; false)),
	(peer("swap-rswap-shm"; "seq") as $r | row("swap to our nbd, shm, over nbdkit memory: sequential"; $r; over($r.us_per_page; peer("swap-nbd"; "seq").us_per_page); 1; false)),
	(peer("swap-rswap-tcp"; "random") as $r | row("swap to our nbd, tcp, over nbdkit memory: random"; $r; over($r.us_per_page; peer("swap-nbd"; "random").us_per_page); 1; false)),
	(least_program as $r | row("programs, swap to a disk file, slower than tcp: least (\($r.program // "-"))"; null; $r.factor_tcp; 1; true))
]
