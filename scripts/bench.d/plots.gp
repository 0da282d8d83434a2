# SPDX-License-Identifier: MIT
# The pictures of scripts/bench, white behind so that they can be read on a dark page. Reads
# slowdown-tcp.tsv, slowdown-shm.tsv (share, then a column a workload), prefetch.tsv and peers.tsv (a
# row a workload, a column a bar) and latency.tsv (us, then a column a case) of the folder it runs
# in; their first lines are the columns' names. A file that is missing makes no picture.
set terminal svg size 860,430 dynamic rounded font "system-ui, sans-serif,14" noenhanced background rgb "white"
set datafile separator "\t"
set datafile missing "-"
set border 3 lc rgb "#6b7683"
set tics nomirror textcolor rgb "#28323c"
set grid ytics lc rgb "#dfe4e9" lt 1
set key outside right center vertical Left reverse samplen 2 textcolor rgb "#28323c"
# Colours that people who see few of them can tell apart, and points beside.
colour(i) = word("#0072B2 #D55E00 #009E73 #CC79A7 #E69F00 #56B4E9 #6A3D9A #000000 #8C564B #7A8B00 #1B9E77 #999999", (i - 1) % 12 + 1)
point(i) = int(word("7 5 9 13 11 15 6 4 8 12 10 14", (i - 1) % 12 + 1))
columns(file) = int(system("head -n 1 '" . file . "' 2> /dev/null | awk -F '\t' '{ print NF }'") . "0") / 10

set logscale y
do for [t in "tcp shm"] {
	file = "slowdown-" . t . ".tsv"
	n = columns(file)
	if (n > 1) {
		set output "slowdown-" . t . ".svg"
		set xlabel "local share of the memory (%)" textcolor rgb "#28323c"
		set ylabel "times slower than all local, " . t textcolor rgb "#28323c"
		set xrange [5:80]
		set xtics (10, 25, 50, 75)
		set yrange [*:*]
		set format y "%g"
		plot for [i = 2:n] file using 1:i with linespoints lw 2 pt point(i - 1) ps 0.8 \
			lc rgb colour(i - 1) title columnheader(i)
	}
}

unset xrange
set xtics autofreq
set style data histograms
set style histogram clustered gap 1.2
set style fill solid 1.0 noborder
set boxwidth 0.95 relative
unset xlabel
n = columns("prefetch.tsv")
if (n > 1) {
	set output "prefetch.svg"
	set xrange [*:*]
	set ylabel "microseconds a page (logarithmic)" textcolor rgb "#28323c"
	set xtics rotate by 0
	plot for [i = 2:n] "prefetch.tsv" using i:xtic(1) lc rgb colour(i - 1) title columnheader(i)
}
n = columns("peers.tsv")
if (n > 1) {
	set output "peers.svg"
	set xrange [*:*]
	set ylabel "microseconds a page (logarithmic)" textcolor rgb "#28323c"
	plot for [i = 2:n] "peers.tsv" using i:xtic(1) lc rgb colour(i - 1) title columnheader(i)
}
n = columns("latency.tsv")
if (n > 1) {
	set output "latency.svg"
	unset logscale y
	set logscale x 2
	set style data lines
	set xlabel "a fault took (microseconds; a point is all between two ticks)" textcolor rgb "#28323c"
	set ylabel "% of the faults" textcolor rgb "#28323c"
	set yrange [0:*]
	set xrange [0.5:8192]
	set grid xtics lc rgb "#dfe4e9" lt 1
	set xtics ("0.5" 0.5, "1" 1, "2" 2, "4" 4, "8" 8, "16" 16, "32" 32, "64" 64, "128" 128, "256" 256, "512" 512, "1 ms" 1024, "" 2048, "4 ms" 4096)
	plot for [i = 2:n] "latency.tsv" using ($1 * 1.414):i with linespoints lw 2 pt point(i - 1) ps 0.8 \
		lc rgb colour(i - 1) title columnheader(i)
}
