# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# Sourced: makes one page of results.jsonl, its pictures inside, and the pictures as files. Figures
# that are not there leave their part out, so that a part alone can be reported.
bench_d=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# Each of the plots' tables: a line of names, then rows; "-" for what was not measured.
report_data() {
	local t
	for t in tcp shm; do
		jq -rs --arg t "$t" '[.[] | select(.kind == "sweep" and .us_per_page != null)] as $all |
			[$all[] | select(.name == $t) | .workload] | unique as $names |
			def share: .local_bytes * 100 / .size_bytes | round;
			def cell($s; $w): ([$all[] | select(.name == $t and .workload == $w and share == $s)][0].us_per_page) as $x |
				([$all[] | select(.name == "plain" and .workload == $w)][0].us_per_page) as $p |
				if $x == null or $p == null then "-" else $x / $p end;
			if $names == [] then empty else (["local"] + $names),
			([$all[] | select(.name == $t) | share] | unique[] | . as $s | [$s] + [$names[] | cell($s; .)]) end | @tsv' \
			results.jsonl > "slowdown-$t.tsv"
	done
	jq -rs '[.[] | select(.kind == "prefetch" and .us_per_page != null)] as $all |
		def once: reduce .[] as $x ([]; if index([$x]) then . else . + [$x] end);
		([$all[].name] | once) as $p | ([$all[].workload] | once) as $w |
		if $p == [] then empty else (["workload"] + $p), ($w[] | . as $x | [$x] +
			[$p[] | . as $y | [$all[] | select(.name == $y and .workload == $x)][0].us_per_page // "-"]) end | @tsv' \
		results.jsonl > prefetch.tsv
	jq -rs '[.[] | select(.kind == "compare" and .mode == null and .transport != "local" or .kind == "compare" and .mode != null)
			| select(.us_per_page != null and (.transport | IN("tcp", "shm", "swap-zram", "swap-disk", "swap-nbd", "swap-rswap-tcp", "swap-rswap-shm")))] as $all |
		def once: reduce .[] as $x ([]; if index([$x]) then . else . + [$x] end);
		([$all[].transport] | once) as $p | ([$all[].workload] | once) as $w |
		if $p == [] then empty else (["workload"] + $p), ($w[] | . as $x | [$x] +
			[$p[] | . as $y | [$all[] | select(.transport == $y and .workload == $x)][0].us_per_page // "-"]) end | @tsv' \
		results.jsonl > peers.tsv
	# Powers of two of nanoseconds; a case whose histogram is empty has no line.
	jq -rs 'def case($n): [.[] | select(.kind == "goal" and .name == $n and .failed == null)][0].latency_ns // [];
		. as $all | [["random-tcp", "random, tcp"], ["random-handler", "random, tcp, handler"], ["random-shm", "random, shm"],
			["seq-tcp", "seq, tcp"], ["seq-shm", "seq, shm"], ["zipf-tcp", "zipf, tcp"]]
		| map({name: .[1], h: (.[0] as $n | $all | case($n))}) | map(select((.h | add // 0) > 0)) as $c |
		if $c == [] then empty else (["us"] + [$c[].name]),
		(range(9; 24) as $i | [pow(2; $i) / 1000] + [$c[] | 100 * .h[$i] / (.h | add)]) end | @tsv' results.jsonl > latency.tsv
	for t in slowdown-tcp slowdown-shm prefetch peers latency; do
		[ -s "$t.tsv" ] || rm -f "$t.tsv"
		rm -f "$t.svg"
	done
	gnuplot "$bench_d/plots.gp"
}

# picture NAME WHAT-IT-SHOWS: inside the page; its names are made its own.
picture() {
	[ -s "$1.svg" ] || return 0
	echo "<figure role=img aria-label=\"$2\">"
	sed -n '/<svg/,$p' "$1.svg" | sed "s/gnuplot_plot_/$1_plot_/g; s/id=\"gnuplot_canvas\"/id=\"$1_canvas\"/; s/gpDot/$1_gpDot/g; s/gpPt/$1_gpPt/g; s/<title>Gnuplot<\/title>/<title>$2<\/title>/; s/<desc>[^<]*<\/desc>//"
	echo "</figure>"
}

report_style() {
	cat <<-'EOF'
	:root { color-scheme: light dark; --bg: #f4f6f8; --fg: #1f2933; --soft: #52606d; --card: #fff; --line: #dde3e9; --good: #1a7f37; --bad: #b42318; }
	@media (prefers-color-scheme: dark) { :root { --bg: #12181f; --fg: #e4e9ee; --soft: #a3b0bd; --card: #1b232c; --line: #35414d; --good: #56d364; --bad: #ff8f85; } }
	body { margin: 0; background: var(--bg); color: var(--fg); font: 15px/1.5 system-ui, sans-serif; }
	main { max-width: 980px; margin: 0 auto; padding: 32px 20px 60px; }
	h1 { font-size: 28px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 0 0 6px; }
	p { margin: 4px 0 12px; color: var(--soft); }
	section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 20px 24px; margin: 18px 0 0; }
	table { border-collapse: collapse; width: 100%; font-size: 13.5px; font-variant-numeric: tabular-nums; }
	th { text-align: right; color: var(--soft); border-bottom: 2px solid var(--line); padding: 5px 8px; vertical-align: bottom; }
	td { text-align: right; padding: 4px 8px; border-bottom: 1px solid var(--line); }
	th:first-child, td:first-child { text-align: left; }
	.met { color: var(--good); font-weight: 600; } .not { color: var(--bad); font-weight: 600; }
	.wide { overflow-x: auto; }
	figure { margin: 8px 0 16px; background: #fff; border-radius: 8px; } svg { width: 100%; height: auto; display: block; }
	dl { display: grid; grid-template-columns: 130px 1fr; margin: 0; gap: 3px 12px; } dt { color: var(--soft); } dd { margin: 0; }
	code { font-size: 12.5px; }
	EOF
}

# The jq functions that all tables share.
tables='def num: if . == null then "&ndash;" elif type == "string" then @html elif . >= 1000 then (. | round | tostring)
		elif . >= 100 then (. * 10 | round / 10 | tostring) elif . >= 0.1 then (. * 100 | round / 100 | tostring)
		else (. * 10000 | round / 10000 | tostring) end;
	def tr: "<tr>" + (map("<td>" + (if type == "object" then .html else num end) + "</td>") | add) + "</tr>";
	def head: "<tr>" + (map("<th>" + . + "</th>") | add) + "</tr>";
	def once: reduce .[] as $x ([]; if index([$x]) then . else . + [$x] end);'

table() { echo "<div class=wide><table>"; jq -rs "$tables $1" results.jsonl; echo "</table></div>"; }
have() { jq -es --arg k "$1" 'any(.[]; .kind == $k)' results.jsonl > /dev/null; }

goals_table() {
	echo "<div class=wide><table>"
	jq -s -f "$bench_d/goals.jq" results.jsonl | jq -r "$tables"'
		(["goal", "&micro;s a page", "floor", "measured", "promised", ""] | head),
		(.[] | [.goal, .us, .floor, .value, {html: ((if .at_least then "&ge; " else "&le; " end) + (.limit | tostring))},
			{html: (if .met == null then "not measured" elif .met then "<span class=met>met</span>" else "<span class=not>missed</span>" end)}] | tr)'
	echo "</table></div>"
}

costs_table() {
	echo "<div class=wide><table>"
	jq -s -f "$bench_d/costs.jq" results.jsonl | jq -r "$tables"'
		(["", "without, &micro;s a page", "with", "cost", "of the p50s", "of CPU time", "promised", ""] | head),
		(.[] | [.goal, .base, .us, .value, .p50, .cpu, {html: (if .limit == null then "" else (if .at_least then "&ge; " else "&le; " end) + (.limit | tostring) end)},
			{html: (if .met == null then "" elif .met then "<span class=met>met</span>" else "<span class=not>missed</span>" end)}] | tr)'
	echo "</table></div>"
}

goal_runs_table() {
	table '(["measurement", "&micro;s a page", "least", "most", "p50", "p99", "floor", "x floor", "faults", "in", "out", "hits"] | head),
		(.[] | select(.kind == "goal") | if .failed then [.name, .failed] else [.name, .us_per_page, .us_per_page_min, .us_per_page_max,
		.p50_us, .p99_us, .floor_us, .ratio, .faults, .pages_in, .pages_out, .prefetch_hits] end | tr)'
}

peers_table() {
	table '[.[] | select(.kind == "compare" and .failed == null)] as $all |
		(["workload", "on", "&micro;s a page", "p50", "p99", "x our tcp", "x our shm"] | head),
		([$all[].workload] | once)[] as $w | [$all[] | select(.workload == $w)] |
		(.[] | select(.mode != null) | [$w, "heap, " + .transport, .us_per_page, .p50_us, .p99_us, null, null] | tr),
		(.[] | select(.mode == null) | if .skipped then [$w, .transport, {html: ("<small>" + (.skipped | @html) + "</small>")}, null, null, null, null] else
			[$w, (if .transport == "local" then "all local" else .transport end), .us_per_page, .p50_us, .p99_us, .factor_tcp, .factor_shm] end | tr)'
}

programs_table() {
	table '(["program", "way", "seconds", "x plain", "x our tcp", "x our shm", "local MiB", ""] | head),
		(.[] | select(.kind == "program") | [.program, (if .way == "tcp" or .way == "shm" then "infuse run, " + .way else .way end),
		.seconds, .slowdown, .factor_tcp, .factor_shm, (if .local_kib then .local_kib / 1024 else null end),
		(.skipped // (if .equal then "equal" else "" end))] | tr)'
}

report_facts() {
	local release
	release=$(. /etc/os-release && echo "$PRETTY_NAME")
	echo "<section><h2>Where it ran</h2><dl><dt>System</dt><dd>$release, Linux $(uname -r)</dd>"
	echo "<dt>Processor</dt><dd>$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) CPUs</dd>"
	echo "<dt>Memory</dt><dd>$(awk '/^MemTotal/ { printf "%.1f GiB", $2 / 1048576 }' /proc/meminfo)</dd>"
	echo "<dt>Infuse</dt><dd>$("$bin/infuse" --version | awk '{ print $NF }')$(git -C "$root" log -1 --format=', commit %h' 2> /dev/null)</dd>"
	echo "<dt>When</dt><dd>$(date '+%-d %B %Y, %H:%M'), $1 s</dd></dl></section>"
}

report_body() {
	local small=
	if jq -es 'any(.[]; .kind == "run" and .quick)' results.jsonl > /dev/null; then
		small=" This was a <b>quick</b> run: small sizes and single runs, to see that all works, not for its figures."
	fi
	echo "<h1>Infuse: measured</h1><p>Memory servers on this machine, over loopback or shared memory. Each figure stands
	beside its floor or a peer measured in the same run; every byte of every workload was checked.$small</p>"
	if have goal; then
		echo "<section><h2>What is promised</h2><p>One workload each, a quarter of it local; what is measured is a ratio.</p>"
		goals_table
		echo "</section><section><h2>How long a fault takes</h2><p>The share of faults by their time. Those of <b>seq</b>
		bring a window of pages.</p>"
		picture latency "Histogram of fault times in microseconds, by workload and transport"
		goal_runs_table
		echo "</section>"
	fi
	if have cost; then
		echo "<section><h2>What copies, fragments, seals and hashes cost</h2><p>Measured in turns; the cost is the median of the
		rounds' differences (microseconds) or ratios. Without hashing: a build that looks at one word of a page.</p>"
		costs_table
		echo "</section>"
	fi
	if have sweep; then
		echo "<section><h2>By local share</h2><p>How many times slower than with all memory local. seq, random, scans and
		turn do nothing with a page but touch it: they show the bare price.</p>"
		picture slowdown-tcp "Slowdown against all-local memory by local share, over TCP"
		picture slowdown-shm "Slowdown against all-local memory by local share, over shared memory"
		echo "</section>"
	fi
	if have prefetch; then
		echo "<section><h2>By prefetcher</h2><p>Over TCP, a quarter local.</p>"
		picture prefetch "Microseconds a page by workload and prefetcher"
		echo "</section>"
	fi
	if have compare; then
		echo "<section><h2>Beside what there is without Infuse</h2><p>The kernel's swap has the same local memory, by a memory
		cgroup. redis, memcached and libnbd are asked for a page at a time and have no faults and evictions.</p>"
		picture peers "Microseconds a page by workload: our heap and the kernel's swap"
		peers_table
		echo "</section>"
	fi
	if have program; then
		echo "<section><h2>Unmodified programs</h2><p>A quarter of the plain run's peak local; outputs compared byte for byte.</p>"
		programs_table
		echo "</section>"
	fi
}

# report FOLDER SECONDS
report() {
	cd "$1" || return
	report_data
	{
		echo '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Infuse: measured</title>'
		echo '<meta name="viewport" content="width=device-width"><style>'
		report_style
		echo '</style></head><body><main>'
		report_body
		report_facts "$2"
		echo '</main></body></html>'
	} > report.html.new
	mv report.html.new report.html
	rm -f ./*.tsv
	cd "$root" || return
}
