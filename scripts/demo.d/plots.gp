# SPDX-License-Identifier: MIT
# The demo's pictures. Reads time.tsv (workload local remote none, in seconds), pages.tsv (workload
# in out in_none out_none), latency.tsv (us, and a share in percent for each workload) of the folder
# it runs in.
set terminal svg size 760,360 dynamic rounded font "system-ui, sans-serif,13" enhanced background rgb "white"
set datafile separator "\t"
set border 3 lc rgb "#8a94a0"
set tics nomirror textcolor rgb "#3c4650"
set grid ytics lc rgb "#e3e7eb" lt 1
set key outside top center horizontal reverse Left samplen 1.2 width 2 textcolor rgb "#3c4650"
set style fill solid 1.0 noborder
set style data histograms
set style histogram clustered gap 1.2
set boxwidth 0.92 relative
plain = "#9aa5b1"; ours = "#1f6feb"; bare = "#f0883e"

set output "time.svg"
set logscale y
set yrange [*:*]
set ylabel "seconds (logarithmic)" textcolor rgb "#3c4650"
set xrange [-0.6:3.6]
plot "time.tsv" using 2:xtic(1) title "all memory local" lc rgb plain, \
     "" using 3 title "a quarter local, prefetching" lc rgb ours, \
     "" using 4 title "a quarter local, no prefetching" lc rgb bare

set output "pages.svg"
set yrange [0.5:*]
set format y "%.0s%c"
set ylabel "pages moved (logarithmic)" textcolor rgb "#3c4650"
plot "pages.tsv" using ($2 > 0 ? $2 : 0.5):xtic(1) title "in, prefetching" lc rgb ours, \
     "" using ($3 > 0 ? $3 : 0.5) title "out, prefetching" lc rgb "#8db8f5", \
     "" using ($4 > 0 ? $4 : 0.5) title "in, no prefetching" lc rgb bare, \
     "" using ($5 > 0 ? $5 : 0.5) title "out, no prefetching" lc rgb "#f8c9a0"

set output "latency.svg"
unset logscale y
set format y "%g"
set logscale x 2
set xlabel "a fault took (microseconds)" textcolor rgb "#3c4650"
set ylabel "% of faults" textcolor rgb "#3c4650"
set yrange [0:*]
set xrange [0.5:20000]
set format x "%g"
set xtics (1, 2, 4, 8, 16, 32, 64, 128, "256" 256, "1 ms" 1024, "4 ms" 4096, "16 ms" 16384)
plot "latency.tsv" using 1:2 with steps lw 2 lc rgb ours title "seq", \
     "" using 1:3 with steps lw 2 lc rgb bare title "random", \
     "" using 1:4 with steps lw 2 lc rgb "#2da44e" title "transpose", \
     "" using 1:5 with steps lw 2 lc rgb "#8250df" title "stencil"
