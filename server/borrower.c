/* SPDX-License-Identifier: MIT */
/*
 * The table of borrowers: who is there, since when somebody is gone, and the counters. A borrower
 * leaves the table when it has neither sessions nor slabs, or when its grace is over.
 */
#include "server/lend_table.h"
#include "common/error.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define COUNT(counter, n) atomic_fetch_add_explicit(&(counter), (n), memory_order_relaxed)
#define READ(counter)     atomic_load_explicit(&(counter), memory_order_relaxed)

static void copy_name(uint8_t to[WIRE_NAME_BYTES], const char *from)
{
	size_t n = strnlen(from, WIRE_NAME_BYTES - 1);

	memset(to, 0, WIRE_NAME_BYTES);
	memcpy(to, from, n);
}

static int random_bytes(void *p, size_t n)
{
	return getrandom(p, n, 0) == (ssize_t)n ? 0
						: err_fail(-EIO, "the kernel has no random bytes");
}

int srv_lender_open(const struct srv_lender_options *o, struct srv_lender **ret)
{
	struct srv_lender *l = calloc(1, sizeof *l);
	int r;

	if (!l)
		return err_fail(-ENOMEM, "no memory");
	pthread_mutex_init(&l->slots_lock, NULL);
	pthread_mutex_init(&l->table, NULL);
	copy_name(l->name, o->name);
	copy_name(l->domain, o->domain);
	l->slab_pages = (uint32_t)(o->arena.slab_bytes / WIRE_PAGE_SIZE);
	l->started_ns = o->now_ns;
	l->threads = o->threads;
	l->changed = o->changed;
	l->changed_arg = o->changed_arg;
	l->counters = aligned_alloc(64, o->threads * sizeof *l->counters);
	l->slots = calloc(o->arena.slabs, sizeof *l->slots);
	l->bucket = calloc(SRV_BUCKETS, sizeof *l->bucket);
	l->tokens = srv_tokens_create();
	r = l->counters && l->slots && l->bucket && l->tokens ? 0 : err_fail(-ENOMEM, "no memory");
	if (!r)
		r = random_bytes(l->boot, sizeof l->boot);
	if (!r)
		r = random_bytes(&l->bucket_key, sizeof l->bucket_key);
	if (!r)
		r = srv_arena_open(&o->arena, &l->arena);
	if (r) {
		srv_lender_close(l);
		return r;
	}
	memset(l->counters, 0, o->threads * sizeof *l->counters);
	l->quota = UINT32_MAX;
	for (uint32_t i = o->arena.slabs; i-- > 0;) {
		l->slots[i].next = l->free_slots;
		l->free_slots = &l->slots[i];
	}
	*ret = l;
	return 0;
}

void srv_lender_close(struct srv_lender *l)
{
	if (!l)
		return;
	if (l->arena)
		srv_lend_reap(l, UINT64_MAX, true);
	srv_arena_close(l->arena);
	srv_tokens_free(l->tokens);
	free(l->quotas);
	free(l->bucket);
	free(l->slots);
	free(l->counters);
	pthread_mutex_destroy(&l->table);
	pthread_mutex_destroy(&l->slots_lock);
	free(l);
}

struct srv_counters *srv_lender_counters(struct srv_lender *l, unsigned i)
{
	return &l->counters[i];
}

void srv_lender_set_gate(struct srv_lender *l, struct srv_gate *gate)
{
	l->gate = gate;
}

struct srv_gate *srv_lender_gate(struct srv_lender *l)
{
	return l->gate;
}

struct srv_tokens *srv_lender_tokens(struct srv_lender *l)
{
	return l->tokens;
}

const uint8_t *srv_lend_id(const struct srv_borrower *b)
{
	return b->id;
}

struct srv_arena *srv_lender_arena(struct srv_lender *l)
{
	return l->arena;
}

void srv_lender_set_grace(struct srv_lender *l, uint64_t grace_ns)
{
	atomic_store(&l->grace_ns, grace_ns);
}

void srv_lender_drain(struct srv_lender *l)
{
	atomic_store(&l->draining, true);
}

void srv_lender_sessions(struct srv_lender *l, int change)
{
	COUNT(l->sessions, (unsigned)change);
}

/* What a borrower may hope for. */
static uint32_t room_told(struct srv_lender *l)
{
	return READ(l->draining) || READ(l->emptying) ? 0 : srv_arena_room(l->arena);
}

void srv_lender_welcome(struct srv_lender *l, struct wire_welcome *ret)
{
	memset(ret, 0, sizeof *ret);
	ret->magic = htole64(WIRE_MAGIC);
	ret->major = htole16(WIRE_MAJOR);
	ret->minor = htole16(WIRE_MINOR);
	ret->slab_pages = htole32(l->slab_pages);
	memcpy(ret->boot, l->boot, sizeof ret->boot);
	ret->slabs_total = htole64(srv_arena_total(l->arena));
	ret->slabs_free = htole64(room_told(l));
	ret->max_segs = htole32(WIRE_MAX_SEGS);
	ret->max_pages = htole32(WIRE_MAX_PAGES);
	ret->max_slabs = htole32(WIRE_MAX_SLABS);
	ret->max_inflight = htole32(WIRE_MAX_INFLIGHT);
	memcpy(ret->name, l->name, sizeof ret->name);
	memcpy(ret->domain, l->domain, sizeof ret->domain);
}

/* The table's lock is held. */
static void set_quota(const struct srv_lender *l, struct srv_borrower *b)
{
	uint32_t quota = l->quota;

	for (unsigned i = 0; i < l->quotas_count; i++)
		if (!strncmp(l->quotas[i].name, (const char *)b->name, WIRE_NAME_BYTES))
			quota = l->quotas[i].slabs;
	atomic_store(&b->quota, quota);
}

int srv_lender_set_quotas(struct srv_lender *l, const struct srv_quota *list, unsigned n,
			  uint32_t otherwise)
{
	struct srv_quota *copy = calloc(n + 1, sizeof *copy), *old;

	if (!copy)
		return err_fail(-ENOMEM, "no memory");
	if (n)
		memcpy(copy, list, n * sizeof *copy);
	pthread_mutex_lock(&l->table);
	old = l->quotas;
	l->quotas = copy;
	l->quotas_count = n;
	l->quota = otherwise;
	for (unsigned i = 0; i < SRV_BUCKETS; i++)
		for (struct srv_borrower *b = l->bucket[i]; b; b = b->next)
			set_quota(l, b);
	pthread_mutex_unlock(&l->table);
	free(old);
	return 0;
}

static struct srv_borrower **bucket_of(struct srv_lender *l, const uint8_t id[16])
{
	uint64_t a, b, h;

	memcpy(&a, id, 8);
	memcpy(&b, id + 8, 8);
	h = (a ^ l->bucket_key) * 0x9e3779b97f4a7c15ull;
	h = ((h ^ h >> 32) + b) * 0xd6e8feb86659fd93ull;
	return &l->bucket[(h >> 40) % SRV_BUCKETS];
}

/* Names are shown on terminals: no control characters, nothing after the first NUL. */
static void clean_name(uint8_t to[WIRE_NAME_BYTES], const uint8_t from[WIRE_NAME_BYTES])
{
	memset(to, 0, WIRE_NAME_BYTES);
	for (unsigned i = 0; i + 1 < WIRE_NAME_BYTES && from[i]; i++)
		to[i] = from[i] < 0x20 || from[i] == 0x7f ? '?' : from[i];
}

/* A writer who takes over must not wait for ever behind one who writes without a pause. */
static void landing_init(pthread_rwlock_t *lock)
{
	pthread_rwlockattr_t attr;

	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(lock, &attr);
	pthread_rwlockattr_destroy(&attr);
}

struct srv_borrower *srv_borrower_get(struct srv_lender *l, const uint8_t id[16],
				      const uint8_t name[WIRE_NAME_BYTES])
{
	struct srv_borrower **at, *b;

	pthread_mutex_lock(&l->table);
	for (at = bucket_of(l, id); *at && memcmp((*at)->id, id, 16); at = &(*at)->next)
		;
	b = *at;
	if (!b) {
		b = calloc(1, sizeof *b + l->threads * sizeof *b->seat);
		if (!b) {
			pthread_mutex_unlock(&l->table);
			return NULL;
		}
		memcpy(b->id, id, 16);
		pthread_mutex_init(&b->lock, NULL);
		landing_init(&b->landing);
		*at = b;
		l->borrowers++;
		l->borrowers_ever++;
	}
	if (!b->name[0]) {
		clean_name(b->name, name);
		set_quota(l, b);
	}
	b->users++;
	pthread_mutex_unlock(&l->table);
	return b;
}

/* Nobody can reach it any more. */
static void borrower_free(struct srv_lender *l, struct srv_borrower *b)
{
	srv_lend_goodbye(l, b);
	srv_token_void(l->tokens, b->id);
	srv_arena_page_free(b->fence);
	pthread_rwlock_destroy(&b->landing);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

/* The table's lock is held. */
static void borrower_unlink(struct srv_lender *l, const struct srv_borrower *b)
{
	struct srv_borrower **at = bucket_of(l, b->id);

	while (*at != b)
		at = &(*at)->next;
	*at = b->next;
	l->borrowers--;
}

void srv_borrower_put(struct srv_lender *l, struct srv_borrower *b, uint64_t now_ns)
{
	bool gone, last;

	pthread_mutex_lock(&l->table);
	b->users--;
	last = !b->users;
	if (last)
		b->gone_ns = now_ns;
	gone = last && (b->over || !READ(b->count));
	if (gone)
		borrower_unlink(l, b);
	pthread_mutex_unlock(&l->table);
	if (gone)
		borrower_free(l, b);
	if (last && l->changed)
		l->changed(l->changed_arg);
}

static void fence_set(const struct srv_borrower *b, uint64_t epoch)
{
	if (!b->fence)
		return;
	atomic_store((_Atomic uint64_t *)(void *)b->fence->mem, htole64(epoch));
	atomic_thread_fence(memory_order_seq_cst);
}

uint32_t srv_lend_fence(struct srv_lender *l, struct srv_borrower *b, struct srv_buffer **ret)
{
	uint32_t status = WIRE_EINTERNAL;

	pthread_mutex_lock(&b->lock);
	if (!b->fence)
		b->fence = srv_arena_page(l->arena);
	if (b->fence) {
		fence_set(b, atomic_load(&b->epoch));
		srv_buffer_pin(b->fence);
		*ret = b->fence;
		status = WIRE_OK;
	}
	pthread_mutex_unlock(&b->lock);
	return status;
}

/*
 * Who has the lock for writing is alone: nothing of an older session is under way, and each looks at
 * the epoch before it goes on.
 */
static uint32_t take_over(struct srv_lender *l, struct srv_borrower *b, uint64_t epoch)
{
	uint32_t status = WIRE_OK;

	if (epoch == atomic_load(&b->epoch))
		return WIRE_OK;
	pthread_rwlock_wrlock(&b->landing);
	if (epoch < atomic_load(&b->epoch)) {
		status = WIRE_EEPOCH;
	} else if (epoch > atomic_load(&b->epoch)) {
		/* First the word, then the copies: see wire.h. */
		fence_set(b, epoch);
		status = srv_lend_renew(l, b);
		if (status)
			fence_set(b, atomic_load(&b->epoch));
	}
	if (!status)
		atomic_store(&b->epoch, epoch);
	pthread_rwlock_unlock(&b->landing);
	return status;
}

uint32_t srv_lend_attach(struct srv_lender *l, const struct srv_hello *h,
			 struct srv_borrower **ret)
{
	struct srv_borrower *b = srv_borrower_get(l, h->id, h->name);
	uint32_t status;

	if (!b)
		return WIRE_EINTERNAL;
	status = take_over(l, b, h->epoch);
	if (status) {
		srv_borrower_put(l, b, atomic_load(&b->last_ns));
		return status;
	}
	pthread_mutex_lock(&l->table);
	b->sessions++;
	b->pid = h->pid;
	b->transient = h->transient;
	pthread_mutex_unlock(&l->table);
	*ret = b;
	return WIRE_OK;
}

bool srv_lend_begin(struct srv_borrower *b, uint64_t epoch)
{
	pthread_rwlock_rdlock(&b->landing);
	if (epoch == atomic_load_explicit(&b->epoch, memory_order_relaxed))
		return true;
	pthread_rwlock_unlock(&b->landing);
	return false;
}

void srv_lend_end(struct srv_borrower *b)
{
	pthread_rwlock_unlock(&b->landing);
}

void srv_lend_detach(struct srv_lender *l, struct srv_borrower *b, bool hung_up, uint64_t now_ns)
{
	pthread_mutex_lock(&l->table);
	b->sessions--;
	b->over = hung_up && b->transient && !b->sessions;
	pthread_mutex_unlock(&l->table);
	srv_borrower_put(l, b, now_ns);
}

struct srv_flow **srv_lend_seat(struct srv_borrower *b, unsigned i)
{
	return &b->seat[i];
}

void srv_lend_touch(struct srv_borrower *b, uint64_t now_ns)
{
	atomic_store_explicit(&b->last_ns, now_ns, memory_order_relaxed);
}

void srv_lend_count(struct srv_borrower *b, uint64_t pages_read, uint64_t pages_written)
{
	if (pages_read)
		COUNT(b->pages_read, pages_read);
	if (pages_written)
		COUNT(b->pages_written, pages_written);
}

uint64_t srv_lend_reap(struct srv_lender *l, uint64_t now_ns, bool all)
{
	uint64_t grace = atomic_load(&l->grace_ns), next = UINT64_MAX;
	struct srv_borrower *over = NULL, *b;

	pthread_mutex_lock(&l->table);
	for (unsigned i = 0; i < SRV_BUCKETS; i++) {
		struct srv_borrower **at = &l->bucket[i];

		while ((b = *at)) {
			uint64_t end = b->gone_ns + grace;

			if (b->users || (!all && end > now_ns)) {
				if (!b->users && end < next)
					next = end;
				at = &b->next;
				continue;
			}
			*at = b->next;
			l->borrowers--;
			b->next = over;
			over = b;
		}
	}
	pthread_mutex_unlock(&l->table);
	while ((b = over)) {
		over = b->next;
		borrower_free(l, b);
	}
	return next;
}

unsigned srv_lend_borrowers(struct srv_lender *l, uint64_t *ever)
{
	unsigned n;

	pthread_mutex_lock(&l->table);
	n = l->borrowers;
	*ever = l->borrowers_ever;
	pthread_mutex_unlock(&l->table);
	return n;
}

void srv_lend_stat(struct srv_lender *l, uint64_t now_ns, struct wire_stat *ret)
{
	struct srv_arena_state a;
	uint64_t requests = 0, errors = 0, pages_read = 0, pages_written = 0, refused = 0, ever;
	uint64_t denied = 0;

	for (unsigned i = 0; i < l->threads; i++) {
		struct srv_counters *c = &l->counters[i];

		requests += READ(c->requests);
		errors += READ(c->errors);
		pages_read += READ(c->pages_read);
		pages_written += READ(c->pages_written);
		refused += READ(c->refused);
		denied += READ(c->denied);
	}
	memset(ret, 0, sizeof *ret);
	srv_arena_state(l->arena, &a);
	ret->slabs_total = htole64(a.total - a.away);
	ret->slabs_free = htole64(room_told(l));
	ret->slabs_lent = htole32(a.total - a.away - a.room);
	ret->slabs_wanted = htole32(READ(l->wanting));
	ret->slabs_away = htole32(a.away);
	ret->flags = htole32((READ(l->emptying) ? WIRE_STAT_F_EMPTYING : 0) |
			     (READ(l->draining) ? WIRE_STAT_F_ENDING : 0));
	ret->slab_pages = htole32(l->slab_pages);
	ret->borrowers = htole32(srv_lend_borrowers(l, &ever));
	ret->sessions = htole32(READ(l->sessions));
	ret->threads = htole32(l->threads);
	ret->uptime_ms = htole64((now_ns - l->started_ns) / 1000000);
	ret->requests = htole64(requests);
	ret->errors = htole64(errors);
	ret->pages_read = htole64(pages_read);
	ret->pages_written = htole64(pages_written);
	ret->refused = htole64(refused);
	ret->denied = htole64(denied);
	memcpy(ret->name, l->name, sizeof ret->name);
	memcpy(ret->domain, l->domain, sizeof ret->domain);
	memcpy(ret->boot, l->boot, sizeof ret->boot);
}

uint32_t srv_lend_stat_borrowers(struct srv_lender *l, uint64_t now_ns, struct wire_borrower *ret,
				 uint32_t n)
{
	uint32_t done = 0;

	pthread_mutex_lock(&l->table);
	for (unsigned i = 0; i < SRV_BUCKETS && done < n; i++) {
		for (struct srv_borrower *b = l->bucket[i]; b && done < n; b = b->next) {
			struct wire_borrower *w = &ret[done++];
			uint64_t last = READ(b->last_ns);

			memcpy(w->name, b->name, sizeof w->name);
			w->pid = htole32(b->pid);
			w->sessions = htole32(b->sessions);
			w->slabs = htole64(READ(b->count));
			w->pages_read = htole64(READ(b->pages_read));
			w->pages_written = htole64(READ(b->pages_written));
			w->idle_ms = htole64(now_ns > last ? (now_ns - last) / 1000000 : 0);
		}
	}
	pthread_mutex_unlock(&l->table);
	return done;
}
