# shellcheck shell=bash disable=SC2034,SC2154 # the demo sets and reads them
# SPDX-License-Identifier: MIT
# Sourced: makes one file of the demo's figures, with its pictures inside. Reads results.jsonl (what
# `infuse bench --json` said, with the mode's name added), facts and the sqlite part's files.

# of WORKLOAD MODE FIELD: a figure of results.jsonl, or "-"
figure() {
	jq -rs --arg w "$1" --arg m "$2" --arg f "$3" \
		'[.[] | select(.workload == $w and .demo == $m)][0][$f] // "-"' results.jsonl
}

report_data() {
	jq -rs 'def of($w; $m): [.[] | select(.workload == $w and .demo == $m)][0];
		. as $all | ["seq", "random", "transpose", "stencil"][] as $w | $all |
		[$w, of($w; "local").seconds, of($w; "remote").seconds, of($w; "none").seconds] | @tsv' \
		results.jsonl > time.tsv
	jq -rs 'def of($w; $m): [.[] | select(.workload == $w and .demo == $m)][0];
		. as $all | ["seq", "random", "transpose", "stencil"][] as $w | $all |
		[$w, of($w; "remote").pages_in, of($w; "remote").pages_out,
		 of($w; "none").pages_in, of($w; "none").pages_out] | @tsv' results.jsonl > pages.tsv
	jq -rs 'def share($w): [.[] | select(.workload == $w and .demo == "remote")][0].latency_ns
			| (add // 0) as $sum | map(if $sum > 0 then 100 * . / $sum else 0 end);
		[share("seq"), share("random"), share("transpose"), share("stencil")] as $s |
		range(9; 25) as $i | [pow(2; $i) / 1000, $s[][$i]] | @tsv' results.jsonl > latency.tsv
	gnuplot "$here/plots.gp"
}

# An SVG file's picture, without the lines that only a file of its own needs.
picture() {
	sed -n '/<svg/,$p' "$1.svg" | sed "s/gnuplot_plot_/$1_plot_/g; s/id=\"gnuplot_canvas\"/id=\"$1_canvas\"/; s/gpDot/$1_gpDot/g; s/gpPt/$1_gpPt/g"
}

escape() { sed 's/&/\&amp;/g; s/</\&lt;/g; s/>/\&gt;/g'; }

table_rows() {
	local w m name
	for w in seq random transpose stencil; do
		for m in local remote none; do
			case $m in
			local) name="all local" ;;
			remote) name="remote" ;;
			none) name="remote, no prefetching" ;;
			esac
			jq -rs --arg w "$w" --arg m "$m" --arg n "$name" '
				def num: if . == null then "&ndash;" elif . >= 100 then (. | round | tostring)
					elif . >= 10 then (. * 10 | round / 10 | tostring)
					else (. * 1000 | round / 1000 | tostring) end;
				[.[] | select(.workload == $w and .demo == $m)][0] |
				"<tr class=\"" + $m + "\"><td>" + (if $m == "local" then "<b>" + $w + "</b>" else "" end) +
				"</td><td class=t>" + $n + "</td>" +
				([.seconds, .us_per_page, .p50_us, .p99_us] | map("<td>" + num + "</td>") | add) +
				([.faults, .pages_in, .pages_out, .prefetch_hits] |
					map("<td>" + (if $m == "local" then "&ndash;" else tostring end) + "</td>") | add) +
				"</tr>"' results.jsonl
		done
	done
}

report_style() {
	cat <<-'EOF'
	body { margin: 0; background: #f4f6f8; color: #1f2933; font: 15px/1.5 system-ui, sans-serif; }
	main { max-width: 860px; margin: 0 auto; padding: 36px 24px 60px; }
	h1 { font-size: 30px; margin: 0 0 4px; letter-spacing: -.02em; }
	h2 { font-size: 19px; margin: 0 0 6px; }
	.lead { color: #52606d; margin: 0 0 26px; font-size: 16px; }
	section { background: #fff; border: 1px solid #e1e6eb; border-radius: 10px; padding: 22px 26px; margin: 0 0 20px; }
	section p { margin: 6px 0 14px; color: #3e4c59; }
	.cards { display: grid; grid-template-columns: repeat(4, 1fr); gap: 12px; margin: 14px 0; }
	.card { background: #f7f9fb; border: 1px solid #e6ebf0; border-radius: 8px; padding: 12px 14px; }
	.card b { display: block; font-size: 22px; letter-spacing: -.01em; }
	.card span { color: #616e7c; font-size: 13px; }
	.good { border-left: 4px solid #2da44e; }
	.good b { color: #1a7f37; }
	table { border-collapse: collapse; width: 100%; font-size: 13.5px; font-variant-numeric: tabular-nums; }
	th { text-align: right; color: #616e7c; font-weight: 600; border-bottom: 2px solid #dde3e9; padding: 5px 8px; }
	th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
	td { text-align: right; padding: 4px 8px; border-bottom: 1px solid #eef1f4; white-space: nowrap; }
	tr.none td { border-bottom-color: #cdd5dd; }
	svg { width: 100%; height: auto; display: block; }
	pre { background: #0f1720; color: #dbe4ee; border-radius: 8px; padding: 13px 16px; overflow-x: auto; font-size: 13px; line-height: 1.45; margin: 8px 0; }
	details pre { background: #f7f9fb; color: #323f4b; border: 1px solid #e6ebf0; max-height: 340px; overflow: auto; }
	summary { cursor: pointer; color: #1f6feb; }
	dl { display: grid; grid-template-columns: 150px 1fr; margin: 0; gap: 3px 12px; }
	dt { color: #616e7c; } dd { margin: 0; }
	EOF
}

card() { echo "<div class=\"card ${3:-}\"><b>$1</b><span>$2</span></div>"; }

seconds() { awk -v ms="$1" 'BEGIN { printf "%.1f s", ms / 1000 }'; }

mib() { awk -v kib="$1" 'BEGIN { printf "%.0f MiB", kib / 1024 }'; }

report_sqlite() {
	cat <<-EOF
	<section><h2>A program that knows nothing of it</h2>
	<p>Debian's own <code>sqlite3</code>, unmodified, loaded this machine's package index
	($packages packages, $relations relations) into memory and answered a set of queries: once
	plainly, once under <code>infuse run</code> with a quarter of the memory it had wanted. The
	rest lived in two memory servers.</p><div class=cards>
	$(card "equal" "the answers, byte for byte ($(wc -c < sqlite/plain.txt) bytes)" good)
	$(card "$(mib "$working_set_kib")" "working set, plain run")
	$(card "$(mib "$local_kib")" "local memory under <code>infuse run</code>")
	$(card "$(seconds "$remote_ms")" "with a quarter local (plain: $(seconds "$plain_ms"))")
	</div>
	<details><summary>Counters of the run</summary><pre>$(escape < sqlite/stats.txt)</pre></details>
	<details><summary>The answers</summary><pre>$(escape < sqlite/remote.txt | head -n 400)</pre></details>
	</section>
	EOF
}

report_bench() {
	cat <<-EOF
	<section><h2>Four workloads, a quarter of their memory local</h2>
	<p>Each works on $bench_size: on plain memory, on a heap with a quarter of it local, and on the same
	heap without prefetching. Every byte of every result was checked.</p>
	$(picture time)
	<table><tr><th></th><th></th><th>seconds</th><th>&micro;s/page</th><th>p50</th><th>p99</th>
	<th>faults</th><th>pages in</th><th>out</th><th>hits</th></tr>
	$(table_rows)
	</table>
	<p><b>seq</b> reads one word of each page in order, <b>random</b> touches single pages in random order
	so that each misses, <b>transpose</b> is the naive B[j][i] = A[i][j], <b>stencil</b> is the explicit
	heat equation in a cube. p50 and p99 are of one fault (random: one touch), in microseconds.</p></section>
	<section><h2>How long a fault takes</h2><p>The share of faults that took so long, with prefetching. A
	fault of <b>random</b> is one page's round trip; one of <b>seq</b> brings the next window in.</p>
	$(picture latency)</section>
	<section><h2>What moved</h2><p>Pages fetched from and written back to the servers in the timed part.</p>
	$(picture pages)</section>
	EOF
}

report_facts() {
	local key value
	echo "<section><h2>Where it ran</h2><dl>"
	while IFS=$'\t' read -r key value; do
		echo "<dt>$(escape <<< "$key")</dt><dd>$(escape <<< "$value")</dd>"
	done < facts.tsv
	echo "</dl></section>"
}

report_next() {
	cat <<-EOF
	<section><h2>Go on</h2><p>Lend memory on one machine, use it on another (a server listens on loopback
	only unless told otherwise):</p>
	<pre># lend memory
	infuse serve --listen tcp:127.0.0.1:7001 --size 4G
	# use it, with any program
	infuse run --local 25% --donor tcp:127.0.0.1:7001 --stats -- ./program
	# who lends, and what this machine can do
	infuse donors
	infuse bench compare</pre>
	<p>The commands are in <code>$bin</code>; each has <code>--help</code> and a man page. A program of your own
	can ask for such memory itself: <code>libinject(3)</code>.</p></section>
	EOF
}

# report_html: in the demo's folder, with its variables set; writes report.html.
report_html() {
	report_data
	{
		echo '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Infuse: the demo</title>'
		echo '<meta name="viewport" content="width=device-width"><style>'
		report_style
		echo '</style></head><body><main><h1>Infuse</h1>'
		echo "<p class=lead>Programs with more memory than their node has: the demo of $(date '+%-d %B %Y, %H:%M').</p>"
		report_sqlite
		report_bench
		report_facts
		report_next
		echo '</main></body></html>'
	} > report.html.new
	mv report.html.new report.html
}
