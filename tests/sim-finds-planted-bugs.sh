#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The simulation finds bugs: each of the ones below is planted in a copy of a source file, and a
# simulation built with that copy fails within so many seeds (not: ends late). A bug that can't be planted any more
# (the code has changed) fails the test too: plant another.
. "$(dirname "$0")/functions.sh"

# WHAT | FILE, or FILE@FIRST: the first seed, where it takes more to meet the bug | SED EXPRESSION
planted() {
	cat <<-'END'
	pages that came back are not compared with their hash|pagestore/batch.c|s/return ps_hash(buf) == map_hash(c->map, page);/return ps_hash(buf) != 0;/
	a batch is done with its first answer|pagestore/core.c|/^void core_settle(struct core .c, unsigned slot)$/,/^}/s/if (s->batch->pending)$/if (0)/
	a page of zeros is not filled in|pagestore/batch.c|s/memset(buf, 0, PS_PAGE_SIZE);/(void)buf;/
	a write's pages keep their old hash|pagestore/batch.c|s/^\t\tmap_set_hash(c->map, v->page + i, hash);/\t\tif (!map_hash(c->map, v->page + i)) &/
	overdue batches are not ended|pagestore/core.c|s/c->slot\[i\].batch->deadline_ns <= now_ns) {/!now_ns) {/
	a run of pages goes on over the border of a slab|pagestore/batch.c|s/if (r \&\& !begins \&\& /if (r \&\& (!begins || r) \&\& /
	a batch pays for time before it began|pagestore/port.c|/^int ps_submit/,/^}/s/forgive(p, now_ns);/;/
	a released slab's pages keep their hashes|pagestore/reserve.c|/^int ps_release/,/^}/s/map_clear(/if (0) map_clear(/
	a slab is released at the wrong donor's place|pagestore/reserve.c|s/memcpy(next, v->lists.first, sizeof next);/memset(next, 0, sizeof next);/
	a snapshot's slabs are its parent's|pagestore/snapshot.c|s/? from->handle\[p\] : 0;/? s->handle[p] : 0;/
	a notice's end is missed|pagestore/transport/receive.c|s/s->rx_at == stream_answer_bytes(/s->rx_at >= 64 + 0 * stream_answer_bytes(/
	a clone shares what its owner goes on writing|server/buffer.c|s/if (!unshare_last(b)) {/if (0 \&\& !unshare_last(b)) {/
	pages of a write go on at the start of each run|server/session.c|s/memcpy(r->mem + s->run_at, p + used, k);/memcpy(r->mem, p + used, k);/
	a borrower's end leaves its slabs behind|server/lend.c|/^void srv_lend_goodbye/,/^}/s/n < 64 \&\& b->slabs/n < 1 \&\& b->slabs/;/^void srv_lend_goodbye/,/^}/s/} while (n);/} while (0);/
	an answer's pages are let go before they are sent|server/out.c|s/o->iov\[o->first\].iov_base = (char \*)o->iov\[o->first\].iov_base + n;/;/
	a write is acknowledged by the first member that has it|pagestore/replica.c|/^static void write_answer/,/^}/s/if (!r->out)/if (1)/
	wrong bytes are not asked for elsewhere|pagestore/replica.c|/^static void read_failed/,/^}/s/if (c->redundant [|][|]/if ((status != -EBADMSG \&\& c->redundant) ||/
	parities are not computed|pagestore/replica.c|/^static void write_start/,/^}/s/code_encode(c, slot, run);/;/
	fragments that came late are believed|pagestore/core.c|s/run_recheck(c, slot, i);/;/
	a page that late fragments spoilt is read as before|pagestore/code.c@29000|s/if (all \&\& r->out)/if (0)/
	a port is due at a time that is past|pagestore/suspect.c|s/(!s->hedged [|][|] fails)/(s->hedged || !s->hedged || fails)/
	END
}

seeds=${INFUSE_PLANTED_SEEDS:-20000}
build=$INFUSE_BUILD
[ -f "$build/build.ninja" ] && command -v ninja > /dev/null || skip "only ninja's builds can be built again in part"
link=$(ninja -C "$build" -t commands infuse-sim | tail -1)
case $link in *infuse-sim*) ;; *) fail "no command that links infuse-sim: $link" ;; esac

# build_with FILE COPY: work/sim, with the copy in place of the source file.
build_with() {
	local part=${1%%/*} object=$scratch/mutant.o compile
	compile=$(ninja -C "$build" -t commands infuse-sim | grep -F "sim-$part.dir/" | grep -F -- "-c $INFUSE_SOURCE/$1")
	[ -n "$compile" ] || fail "no command that compiles $1"
	compile=${compile/-c "$INFUSE_SOURCE/$1"/-c "$2"}
	compile=$(sed -E "s| -MF [^ ]+||; s| -MT [^ ]+||; s| -MD||; s| -Werror||; s| -o [^ ]+| -o $object|" <<< "$compile")
	(cd "$build" && sh -c "$compile") 2> "$scratch/cc.log" || { cat "$scratch/cc.log"; fail "$1 does not compile with the bug"; }
	# An object before the library that has the same one: the library's is not taken.
	(cd "$build" && sh -c "$(sed -E "s| -o [^ ]+| -o $scratch/sim $object|; s|^: && ||; s| && :$||" <<< "$link")") ||
		fail "the simulation with $1 can't be linked"
}

found=0 missed=0
while IFS= read -r line; do
	what=${line%%|*} file=${line#*|} expression=${line#*|*|}
	file=${file%%|*} first=1
	case $file in *@*) first=${file#*@} file=${file%@*} ;; esac
	[ -f "$INFUSE_SOURCE/$file" ] || fail "$file is gone: $what"
	sed "$expression" "$INFUSE_SOURCE/$file" > "$scratch/mutant.c"
	if cmp -s "$INFUSE_SOURCE/$file" "$scratch/mutant.c"; then
		echo "can't be planted: $what ($file)"
		missed=$((missed + 1))
		continue
	fi
	build_with "$file" "$scratch/mutant.c"
	# (In a subshell, which says itself how the simulation died.)
	(timeout 120 "$scratch/sim" --quiet --first "$first" --seeds "$seeds" || exit $?) > "$scratch/out" 2> "$scratch/err" && rc=0 || rc=$?
	if [ $rc -eq 0 ] || [ $rc -eq 124 ]; then
		echo "NOT FOUND in $([ $rc -eq 0 ] && echo "$seeds seeds from $first on" || echo "120 s"): $what ($file)"
		missed=$((missed + 1))
	else
		found=$((found + 1))
		echo "found: $what: $(grep -m 1 -oE 'seed [0-9]+ .*' "$scratch/err")"
	fi
done < <(planted)
[ "$missed" -eq 0 ] || fail "$missed planted bugs are not found"
echo "$found planted bugs are found"
