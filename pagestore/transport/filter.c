/* SPDX-License-Identifier: MIT */
/* What the filters share; see filter.h. Made for tests: plain searches over few records. */
#include "pagestore/transport/filter.h"
#include "common/error.h"
#include "common/parse.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define POLL_CHUNK 32

static uint64_t *arg_field(struct filter *f, const char *word, const char *allowed)
{
	static const char *const names[] = {"us", "jitter", "every", "after", "depth", "seed"};
	uint64_t *const fields[] = {&f->us, &f->jitter, &f->every, &f->after, &f->depth, &f->seed};
	size_t n = strlen(word);

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		if (strcmp(names[i], word))
			continue;
		for (const char *at = allowed; at;
		     at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL)
			if (!strncmp(at, word, n) && (at[n] == '|' || !at[n]))
				return fields[i];
	}
	return NULL;
}

int filter_args(struct tp_conn *c, const char *allowed)
{
	struct filter *f = filter_of(c);
	char words[sizeof c->args], *next = words, *word;

	memcpy(words, c->args, sizeof words);
	while (*words && (word = strsep(&next, ","))) {
		char *value = strchr(word, '=');
		uint64_t *field;

		if (value)
			*value++ = 0;
		field = arg_field(f, word, allowed);
		if (!field || !value)
			return err_fail(-EINVAL, "filter '%s': '%s' is not one of %s with a number",
					c->t->name, word, allowed);
		if (parse_u64(value, 0, UINT32_MAX, field))
			return err_fail(-EINVAL, "filter '%s': '%s=%s' is not a number", c->t->name,
					word, value);
	}
	return 0;
}

uint64_t filter_random(struct filter *f)
{
	f->rng ^= f->rng << 13;
	f->rng ^= f->rng >> 7;
	f->rng ^= f->rng << 17;
	return f->rng;
}

bool filter_has_room(const struct filter *f)
{
	return f->count < FILTER_OPS;
}

struct filter_op *filter_record(struct filter *f, struct tp_op *op, uint64_t due_ns)
{
	struct filter_op *o = &f->ops[f->count++];

	assert(f->count <= FILTER_OPS);
	*o = (struct filter_op){.op = op, .due_ns = due_ns};
	return o;
}

void filter_answer(struct filter *f, struct tp_op *op, int status, uint64_t now_ns)
{
	struct filter_op *o = filter_record(f, op, now_ns);

	o->held = true;
	o->done = (struct tp_done){.tag = op->tag, .status = status};
	f->held++;
}

static struct filter_op *find(struct filter *f, uint64_t tag)
{
	for (unsigned i = 0; i < f->count; i++)
		if (!f->ops[i].held && f->ops[i].op->tag == tag)
			return &f->ops[i];
	return NULL;
}

int filter_collect(struct filter *f, uint64_t now_ns,
		   void (*each)(struct filter *f, struct filter_op *o, uint64_t now_ns))
{
	struct tp_conn *inner = f->base.inner;
	struct tp_done done[POLL_CHUNK];
	int n;

	do {
		n = inner->t->poll(inner, now_ns, done, POLL_CHUNK);
		for (int i = 0; i < n; i++) {
			struct filter_op *o = find(f, done[i].tag);

			assert(o);
			o->held = true;
			o->done = done[i];
			f->held++;
			if (each)
				each(f, o, now_ns);
		}
	} while (n == POLL_CHUNK);
	return n < 0 ? n : 0;
}

void filter_release(struct filter *f, unsigned i, struct tp_done *done)
{
	assert(i < f->count && f->ops[i].held);
	*done = f->ops[i].done;
	memmove(&f->ops[i], &f->ops[i + 1], (f->count - i - 1) * sizeof f->ops[0]);
	f->count--;
	f->held--;
}

unsigned filter_release_due(struct filter *f, uint64_t now_ns, struct tp_done *done, unsigned n)
{
	unsigned out = 0;

	for (unsigned i = 0; i < f->count && out < n;)
		if (f->ops[i].held && f->ops[i].due_ns <= now_ns)
			filter_release(f, i, &done[out++]);
		else
			i++;
	return out;
}

static void reset(struct filter *f)
{
	f->rng = (f->seed + 1) * 0x9e3779b97f4a7c15ull ^ (f->base.seed << 17 | 1);
	f->counted = 0;
	f->count = f->held = 0;
	f->dead = false;
}

int filter_open(struct tp_conn *c, struct tp_hello *h, uint64_t timeout_ns)
{
	reset(filter_of(c));
	return c->inner->t->open(c->inner, h, timeout_ns);
}

int filter_submit(struct tp_conn *c, struct tp_op *op, uint64_t now_ns)
{
	struct filter *f = filter_of(c);
	int r = filter_has_room(f) ? c->inner->t->submit(c->inner, op, now_ns) : -EAGAIN;

	if (!r)
		filter_record(f, op, now_ns);
	return r;
}

int filter_poll(struct tp_conn *c, uint64_t now_ns, struct tp_done *done, unsigned n)
{
	struct filter *f = filter_of(c);
	int r = filter_collect(f, now_ns, NULL);

	return r ? r : (int)filter_release_due(f, now_ns, done, n);
}

int filter_cancel(struct tp_conn *c, struct tp_op *op)
{
	struct filter *f = filter_of(c);
	unsigned i = 0;
	int r;

	while (i < f->count && f->ops[i].op != op)
		i++;
	if (i == f->count || !tp_reads(op->kind))
		return -EBUSY;
	if (!f->ops[i].held) {
		r = c->inner->t->cancel ? c->inner->t->cancel(c->inner, op) : -EBUSY;
		if (r)
			return r;
	} else {
		f->held--;
	}
	memmove(&f->ops[i], &f->ops[i + 1], (f->count - i - 1) * sizeof f->ops[0]);
	f->count--;
	return 0;
}

int filter_fd(struct tp_conn *c, short *events)
{
	return c->inner->t->fd(c->inner, events);
}

uint64_t filter_due(struct tp_conn *c)
{
	struct filter *f = filter_of(c);
	uint64_t due = c->inner->t->due ? c->inner->t->due(c->inner) : UINT64_MAX;

	for (unsigned i = 0; i < f->count; i++)
		if (f->ops[i].held && f->ops[i].due_ns < due)
			due = f->ops[i].due_ns;
	return due;
}

void filter_close(struct tp_conn *c)
{
	reset(filter_of(c));
	if (c->inner)
		c->inner->t->close(c->inner);
}

void filter_forget(struct tp_conn *c, bool inherited)
{
	reset(filter_of(c));
	if (c->inner)
		c->inner->t->forget(c->inner, inherited);
}
