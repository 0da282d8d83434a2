/* SPDX-License-Identifier: MIT */
/* Lines of connections, a line a borrower, and who pays for what; see turns.h. */
#include "server/turns.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

struct srv_flow {
	struct srv_place *first, *last; /* in line */
	unsigned queued;
	unsigned members;
	int64_t left; /* of its share; negative: it took more, and pays with the next ones */
	bool much;    /* what it took in its last turn */
	bool serving; /* its turn is now: round() puts it back, or frees it */
	struct srv_flow **seat;
	struct srv_flow *next;
};

bool srv_turns_join(struct srv_place *p)
{
	p->flow = calloc(1, sizeof *p->flow);
	if (p->flow)
		p->flow->members = 1;
	return p->flow;
}

static void flow_put(struct srv_flow *f)
{
	if (f->members)
		return;
	assert(!f->first);
	if (f->seat)
		*f->seat = NULL;
	f->seat = NULL;
	if (!f->serving)
		free(f);
}

void srv_turns_seat(struct srv_place *p, struct srv_flow **seat)
{
	struct srv_flow *old = p->flow;

	assert(!p->queued && !old->seat);
	if (!*seat) {
		*seat = old;
		old->seat = seat;
		return;
	}
	p->flow = *seat;
	p->flow->members++;
	old->members--;
	flow_put(old);
}

static void list(struct srv_turns *t, struct srv_flow *f)
{
	f->next = NULL;
	if (t->last)
		t->last->next = f;
	else
		t->first = f;
	t->last = f;
	t->flows++;
	t->small += !f->much;
}

static struct srv_flow *unlist(struct srv_turns *t)
{
	struct srv_flow *f = t->first;

	t->first = f->next;
	if (!t->first)
		t->last = NULL;
	t->flows--;
	t->small -= !f->much;
	return f;
}

void srv_turns_queue(struct srv_turns *t, struct srv_place *p)
{
	struct srv_flow *f = p->flow;

	assert(!p->queued);
	p->queued = true;
	p->next = NULL;
	if (f->first)
		f->last->next = p;
	else
		f->first = p;
	f->last = p;
	t->queued++;
	if (!f->queued++ && !f->serving)
		list(t, f);
}

static struct srv_place *pop(struct srv_turns *t, struct srv_flow *f)
{
	struct srv_place *p = f->first;

	f->first = p->next;
	f->queued--;
	t->queued--;
	p->queued = false;
	return p;
}

/* Out of the middle: for those who leave while they wait, which is rare. */
static void unqueue(struct srv_turns *t, struct srv_place *p)
{
	struct srv_place **at = &p->flow->first, *before = NULL;

	while (*at != p) {
		before = *at;
		at = &before->next;
	}
	*at = p->next;
	if (p->flow->last == p)
		p->flow->last = before;
	p->flow->queued--;
	t->queued--;
	p->queued = false;
}

/* A flow without anybody in line leaves the list. */
static void unlist_empty(struct srv_turns *t, struct srv_flow *f)
{
	struct srv_flow **at = &t->first, *before = NULL;

	while (*at && *at != f) {
		before = *at;
		at = &before->next;
	}
	if (!*at)
		return;
	*at = f->next;
	if (t->last == f)
		t->last = before;
	t->flows--;
	t->small -= !f->much;
}

void srv_turns_leave(struct srv_turns *t, struct srv_place *p)
{
	struct srv_flow *f = p->flow;

	if (p->queued) {
		unqueue(t, p);
		if (!f->queued && !f->serving)
			unlist_empty(t, f);
	}
	p->flow = NULL;
	f->members--;
	flow_put(f);
}

/* A rest is not worth a turn: rather a little more now, and less the next time. */
static size_t share_of(const struct srv_flow *f)
{
	return f->left < SRV_SHARE / 4 ? SRV_SHARE / 4 : (size_t)f->left;
}

/* One flow's turn. Returns what it took. */
static int64_t turn(struct srv_turns *t, struct srv_flow *f,
		    size_t (*serve)(void *arg, struct srv_place *p, size_t share), void *arg)
{
	int64_t before = f->left += t->small ? SRV_SHARE : SRV_SHARE_MUCH, took;

	f->serving = true;
	for (unsigned n = f->queued; n && f->first && f->left > 0; n--)
		f->left -= (int64_t)serve(arg, pop(t, f), share_of(f));
	f->serving = false;
	took = before - f->left;
	if (took)
		f->much = took > SRV_SHARE / 2;
	/* Nobody saves up for later. */
	if (f->left > 0)
		f->left = 0;
	if (f->first)
		list(t, f);
	else
		flow_put(f);
	return took;
}

void srv_turns_round(struct srv_turns *t,
		     size_t (*serve)(void *arg, struct srv_place *p, size_t share), void *arg)
{
	int64_t took = 0;

	for (unsigned n = t->flows; n && t->first && took < SRV_SHARE_MUCH; n--)
		took += turn(t, unlist(t), serve, arg);
}
