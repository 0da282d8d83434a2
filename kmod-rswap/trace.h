/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Tracepoints: a request comes, a request is done, a replica was of no use and another is asked. */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM rswap

#if !defined(RSWAP_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define RSWAP_TRACE_H

#include <linux/tracepoint.h>
#include "device.h"

#define rswap_show_kind(kind)                                                                      \
	__print_symbolic(kind, {RSWAP_READ, "read"}, {RSWAP_WRITE, "write"}, {RSWAP_TRIM, "trim"}, \
			 {RSWAP_ZEROES, "zeroes"})

TRACE_EVENT(rswap_submit,
	TP_PROTO(const struct rswap_io *io),
	TP_ARGS(io),
	TP_STRUCT__entry(
		__field(u32, device)
		__field(u8, kind)
		__field(u8, queue)
		__field(u64, page)
		__field(u32, pages)
	),
	TP_fast_assign(
		__entry->device = io->dev->number;
		__entry->kind = io->kind;
		__entry->queue = io->queue;
		__entry->page = io->page;
		__entry->pages = io->pages;
	),
	TP_printk("rswap%u %s page=%llu pages=%u queue=%u", __entry->device,
		  rswap_show_kind(__entry->kind), __entry->page, __entry->pages, __entry->queue)
);

TRACE_EVENT(rswap_complete,
	TP_PROTO(const struct rswap_io *io, u64 ns),
	TP_ARGS(io, ns),
	TP_STRUCT__entry(
		__field(u32, device)
		__field(u8, kind)
		__field(u64, page)
		__field(u32, pages)
		__field(int, status)
		__field(u64, ns)
	),
	TP_fast_assign(
		__entry->device = io->dev->number;
		__entry->kind = io->kind;
		__entry->page = io->page;
		__entry->pages = io->pages;
		__entry->status = io->status;
		__entry->ns = ns;
	),
	TP_printk("rswap%u %s page=%llu pages=%u status=%d ns=%llu", __entry->device,
		  rswap_show_kind(__entry->kind), __entry->page, __entry->pages, __entry->status,
		  __entry->ns)
);

TRACE_EVENT(rswap_failover,
	TP_PROTO(const struct rswap_io *io, const struct rswap_msg *m),
	TP_ARGS(io, m),
	TP_STRUCT__entry(
		__field(u32, device)
		__field(u8, kind)
		__field(u64, page)
		__field(u32, pages)
		__field(u32, donor)
		__field(int, status)
		__field(u32, refused)
	),
	TP_fast_assign(
		__entry->device = io->dev->number;
		__entry->kind = io->kind;
		__entry->page = io->page;
		__entry->pages = io->pages;
		__entry->donor = m->donor->index;
		__entry->status = m->status;
		__entry->refused = m->wire;
	),
	TP_printk("rswap%u %s page=%llu pages=%u donor=%u status=%d refused=%u", __entry->device,
		  rswap_show_kind(__entry->kind), __entry->page, __entry->pages, __entry->donor,
		  __entry->status, __entry->refused)
);

#endif

#undef TRACE_INCLUDE_PATH
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_PATH .
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
