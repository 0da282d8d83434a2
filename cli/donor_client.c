/* SPDX-License-Identifier: MIT */
/*
 * Asks all donors at once: HELLO, then STAT, over one connection each, in one poll loop with one
 * deadline. A donor with several addresses is asked by the first that works. Names are looked up
 * by the C library's own threads: the resolver's patience must not become ours.
 */
#include "cli/donor.h"
#include "cli/donor_key.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/parse.h"
#include "secure/link.h"

#include <endian.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

enum step { STEP_LOOKUP, STEP_CONNECT, STEP_TLS, STEP_HELLO, STEP_ORDER, STEP_STAT, STEP_DONE };

/* The conversation with one donor. */
struct talk {
	struct donor *donor;
	enum step step;
	int fd;
	struct link *link; /* TLS; NULL: plainly */
	short events;      /* STEP_TLS: what it waits for */
	unsigned address, minor;
	unsigned char out[sizeof(struct wire_header) + sizeof(struct wire_hello)];
	size_t out_bytes, sent;
	struct wire_header head; /* of the answer */
	unsigned char *body;
	size_t got; /* of head and body */
};

struct round {
	struct talk *talk;
	struct pollfd *pfd;
	size_t count, open;
	unsigned borrowers;
	uint64_t deadline_ns, timeout_ns;
};

#define MAX_BODY (sizeof(struct wire_stat) + DONOR_BORROWERS * sizeof(struct wire_borrower))

static const char *wire_text(uint32_t status)
{
	switch (status) {
#define X(name, number, text)                                                                      \
	case number:                                                                               \
		return text;
		WIRE_ERRORS(X)
#undef X
	default:
		return "an error this program doesn't know";
	}
}

static int parse_host(struct donor_address *a, const char *s, char *host, size_t len, char *port)
{
	const char *colon = strrchr(s, ':'), *end = colon;
	uint64_t number;

	if (!colon || parse_u64(colon + 1, 1, 65535, &number))
		return -EINVAL;
	if (*s == '[' && end > s && end[-1] == ']') {
		s++;
		end--;
	}
	if (end <= s)
		return -EINVAL;
	snprintf(host, len, "%.*s", (int)(end - s), s);
	snprintf(port, 8, "%u", (unsigned)number);
	a->error = 0;
	return 0;
}

static void take_address(struct donor_address *a, const struct addrinfo *found)
{
	memcpy(&a->addr, found->ai_addr, found->ai_addrlen);
	a->len = found->ai_addrlen;
}

/* Hands a name to the resolver's threads; everything it is given stays theirs. */
static int start_lookup(struct donor_address *a, const char *host, const char *port)
{
	static const struct addrinfo numeric = {.ai_socktype = SOCK_STREAM,
						.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
	static const struct addrinfo named = {.ai_socktype = SOCK_STREAM,
					      .ai_flags = AI_NUMERICSERV};
	struct addrinfo *found;
	struct gaicb *g;

	if (!getaddrinfo(host, port, &numeric, &found)) {
		take_address(a, found);
		freeaddrinfo(found);
		return 0;
	}
	g = calloc(1, sizeof *g);
	if (!g)
		return -ENOMEM;
	g->ar_name = strdup(host);
	g->ar_service = strdup(port);
	g->ar_request = &named;
	a->lookup = g;
	return getaddrinfo_a(GAI_NOWAIT, &g, 1, NULL) ? -ENOMEM : 0;
}

/* Reads an address's text: it is resolved then, or being looked up, or wrong. */
static int read_address(struct donor_address *a)
{
	struct sockaddr_un *un = (struct sockaddr_un *)(void *)&a->addr;
	const char *path = strchr(a->text, ':');
	char host[128], port[8];

	if (!path)
		return -EINVAL;
	path++;
	if (!strncmp(a->text, "tcp:", 4))
		return parse_host(a, path, host, sizeof host, port) ? -EINVAL
								    : start_lookup(a, host, port);
	if (!strncmp(a->text, "rdma:", 5))
		return -EOPNOTSUPP;
	if (strncmp(a->text, "unix:", 5) && strncmp(a->text, "shm:", 4))
		return -EINVAL;
	if (!*path || strlen(path) >= sizeof un->sun_path)
		return -EINVAL;
	un->sun_family = AF_UNIX;
	snprintf(un->sun_path, sizeof un->sun_path, "%s", path);
	a->len = sizeof *un;
	return 0;
}

/* 1: resolved, 0: not yet, negative: it failed. */
static int check_lookup(struct donor_address *a)
{
	int r;

	if (a->len || a->error)
		return a->error ? a->error : 1;
	if (!a->lookup) {
		a->error = read_address(a);
		return a->error ? a->error : a->len > 0;
	}
	r = gai_error(a->lookup);
	if (r == EAI_INPROGRESS)
		return 0;
	if (r) {
		a->error = -EADDRNOTAVAIL;
		return a->error;
	}
	take_address(a, a->lookup->ar_result);
	return 1;
}

static void begin_address(struct round *r, struct talk *t);

static void hang_up(struct talk *t)
{
	link_close(t->link);
	t->link = NULL;
	if (t->fd >= 0)
		close(t->fd);
	t->fd = -1;
	free(t->body);
	t->body = NULL;
	t->got = t->sent = t->out_bytes = 0;
}

/* The address was no good: try the next, or the donor is given up with these words. */
static void give_up(struct round *r, struct talk *t, int error, const char *words)
{
	struct donor *d = t->donor;

	hang_up(t);
	/* The first address's words stay: it is the one that should have worked. */
	if (d->status == -EINPROGRESS) {
		d->status = error;
		snprintf(d->why, sizeof d->why, "%s: %s", d->address[t->address].text, words);
	}
	if (t->address + 1 < d->addresses && clock_ns() < r->deadline_ns) {
		t->address++;
		begin_address(r, t);
		return;
	}
	t->step = STEP_DONE;
	r->open--;
}

static void give_up_errno(struct round *r, struct talk *t, int error)
{
	give_up(r, t, error, strerror(-error));
}

static void say(struct talk *t, enum wire_op op, const void *body, size_t bytes, unsigned count)
{
	struct wire_header h = {.op = htole16((uint16_t)op),
				.bytes = htole32((uint32_t)bytes),
				.tag = htole64((uint64_t)op),
				.count = htole32(count)};

	memcpy(t->out, &h, sizeof h);
	if (bytes)
		memcpy(t->out + sizeof h, body, bytes);
	t->out_bytes = sizeof h + bytes;
	t->sent = t->got = 0;
	free(t->body);
	t->body = NULL;
}

static void say_hello(struct talk *t)
{
	struct wire_hello h = {.magic = htole64(WIRE_MAGIC),
			       .major = htole16(WIRE_MAJOR),
			       .minor = htole16(WIRE_MINOR),
			       .minor_min = htole16(WIRE_MINOR - 1),
			       .pid = htole32((uint32_t)getpid())};

	memcpy(h.name, "infuse", sizeof "infuse");
	say(t, WIRE_HELLO, &h, sizeof h, 0);
	t->step = STEP_HELLO;
}

/* Moves the handshake on; the hello follows it. */
static void shake(struct round *r, struct talk *t)
{
	int n = link_shake(t->link, &t->events);

	if (!n)
		say_hello(t);
	else if (n != -EAGAIN)
		give_up(r, t, n, err_text());
}

/* "HOST" of "tcp:HOST:PORT", without the brackets of IPv6. */
static void host_of(const char *address, char ret[128])
{
	const char *from = address + strcspn(address, ":") + 1, *colon = strrchr(from, ':');
	size_t n = colon ? (size_t)(colon - from) : strlen(from);

	if (*from == '[' && n >= 2) {
		from++;
		n -= 2;
	}
	snprintf(ret, 128, "%.*s", (int)n, from);
}

/* The socket is connected. */
static void connected(struct round *r, struct talk *t)
{
	const struct donor_address *a = &t->donor->address[t->address];
	char host[128];

	if (!donor_tls() || a->addr.ss_family == AF_UNIX) {
		say_hello(t);
		return;
	}
	host_of(a->text, host);
	t->step = STEP_TLS;
	if (link_open(donor_tls(), t->fd, host, &t->link))
		give_up(r, t, -EACCES, err_text());
	else
		shake(r, t);
}

static void begin_address(struct round *r, struct talk *t)
{
	struct donor_address *a = &t->donor->address[t->address];
	int ok = check_lookup(a);

	if (ok < 0) {
		give_up(r, t, ok,
			ok == -EBADMSG         ? "the registry's document is not a donor's"
			: ok == -EADDRNOTAVAIL ? "the host's name is not known"
			: ok == -EOPNOTSUPP    ? "rdma: is for pages; name its tcp: or unix: address"
			: ok == -EINVAL        ? "not an address: use tcp:HOST:PORT or unix:PATH"
					       : strerror(-ok));
		return;
	}
	t->step = STEP_LOOKUP;
	if (!ok)
		return;
	t->fd = socket(a->addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (t->fd < 0) {
		give_up_errno(r, t, -errno);
		return;
	}
	t->step = STEP_CONNECT;
	if (!connect(t->fd, (const struct sockaddr *)&a->addr, a->len))
		connected(r, t);
	else if (errno != EINPROGRESS)
		give_up_errno(r, t, -errno);
}

static void keep_stat(struct donor *d, const struct wire_stat *s, unsigned minor)
{
	donor_clean_text(d->name, s->name, sizeof s->name);
	donor_clean_text(d->domain, s->domain, sizeof s->domain);
	d->stat = (struct donor_stat){
		.slabs_total = le64toh(s->slabs_total),
		.slabs_free = le64toh(s->slabs_free),
		.slab_bytes = (uint64_t)le32toh(s->slab_pages) * WIRE_PAGE_SIZE,
		.borrowers = le32toh(s->borrowers),
		.sessions = le32toh(s->sessions),
		.threads = le32toh(s->threads),
		.uptime_ms = le64toh(s->uptime_ms),
		.requests = le64toh(s->requests),
		.errors = le64toh(s->errors),
		.pages_read = le64toh(s->pages_read),
		.pages_written = le64toh(s->pages_written),
		.refused = le64toh(s->refused),
		.slabs_lent = le32toh(s->slabs_lent),
		.slabs_wanted = le32toh(s->slabs_wanted),
		.slabs_away = le32toh(s->slabs_away),
		.flags = le32toh(s->flags),
	};
	if (minor < 2)
		d->stat.slabs_lent = d->stat.slabs_total - d->stat.slabs_free;
}

/* The whole STAT answer is there. */
static void keep_answer(struct round *r, struct talk *t)
{
	struct donor *d = t->donor;
	unsigned n = le32toh(t->head.count);
	struct wire_stat stat;

	if (n > r->borrowers ||
	    le32toh(t->head.bytes) != sizeof stat + n * sizeof(struct wire_borrower)) {
		give_up(r, t, -EPROTO, "its answer breaks the protocol");
		return;
	}
	free(d->borrower);
	d->borrower = calloc(n ? n : 1, sizeof *d->borrower);
	d->borrowers = d->borrower ? n : 0;
	memcpy(&stat, t->body, sizeof stat);
	keep_stat(d, &stat, t->minor);
	for (unsigned i = 0; i < d->borrowers; i++) {
		struct donor_borrower *b = &d->borrower[i];
		struct wire_borrower w;

		memcpy(&w, t->body + sizeof stat + i * sizeof w, sizeof w);
		donor_clean_text(b->name, w.name, sizeof w.name);
		b->pid = le32toh(w.pid);
		b->sessions = le32toh(w.sessions);
		b->slabs = le64toh(w.slabs);
		b->pages_read = le64toh(w.pages_read);
		b->pages_written = le64toh(w.pages_written);
		b->idle_ms = le64toh(w.idle_ms);
	}
	d->status = 0;
	d->why[0] = 0;
	d->answered = t->address;
	d->at_ns = clock_ns();
	hang_up(t);
	t->step = STEP_DONE;
	r->open--;
}

static void ask_stat(const struct round *r, struct talk *t)
{
	say(t, WIRE_STAT, NULL, 0, r->borrowers);
	t->step = STEP_STAT;
}

static void take_answer(struct round *r, struct talk *t)
{
	struct wire_welcome w;

	if (t->step == STEP_STAT) {
		keep_answer(r, t);
		return;
	}
	if (t->step == STEP_ORDER) {
		ask_stat(r, t);
		return;
	}
	if (le32toh(t->head.bytes) != sizeof w) {
		give_up(r, t, -EPROTO, "its welcome breaks the protocol");
		return;
	}
	memcpy(&w, t->body, sizeof w);
	if (le64toh(w.magic) != WIRE_MAGIC || le16toh(w.major) != WIRE_MAJOR) {
		give_up(r, t, -EPROTO, "it speaks another protocol");
		return;
	}
	t->minor = le16toh(w.minor);
	if (t->donor->ordered) {
		say(t, WIRE_DRAIN, &t->donor->order, sizeof t->donor->order, 1);
		t->step = STEP_ORDER;
		return;
	}
	ask_stat(r, t);
}

/* The answer's header is there: is it one, and is there room for what follows? */
static int check_head(struct round *r, struct talk *t)
{
	unsigned op = t->step == STEP_HELLO   ? WIRE_HELLO
		      : t->step == STEP_ORDER ? WIRE_DRAIN
					      : WIRE_STAT;
	uint32_t bytes = le32toh(t->head.bytes);

	if (le16toh(t->head.op) == WIRE_AUTH || t->head.status == htole32(WIRE_EPLAIN)) {
		give_up(r, t, -EACCES, "it lets in only who has its key; --key FILE names one");
		return -EACCES;
	}
	if (le16toh(t->head.op) != op || le16toh(t->head.flags) != WIRE_F_REPLY ||
	    le64toh(t->head.tag) != op || bytes > MAX_BODY) {
		give_up(r, t, -EPROTO, "something else answers there, not a memory server");
		return -EPROTO;
	}
	if (t->head.status) {
		give_up(r, t, -EPROTO, wire_text(le32toh(t->head.status)));
		return -EPROTO;
	}
	t->body = malloc(bytes ? bytes : 1);
	if (!t->body) {
		give_up_errno(r, t, -ENOMEM);
		return -ENOMEM;
	}
	return 0;
}

/* As recv() and send(), with the error as a value. */
static ssize_t take_bytes(struct talk *t, void *p, size_t n)
{
	ssize_t got;

	if (t->link)
		return link_receive(t->link, &(struct iovec){p, n}, 1);
	got = recv(t->fd, p, n, 0);
	return got < 0 ? -errno : got;
}

static ssize_t give_bytes(struct talk *t, void *p, size_t n)
{
	ssize_t sent;

	if (t->link)
		return link_send(t->link, &(struct iovec){p, n}, 1);
	sent = send(t->fd, p, n, MSG_NOSIGNAL);
	return sent < 0 ? -errno : sent;
}

static void hear(struct round *r, struct talk *t)
{
	const size_t head = sizeof t->head;

	for (;;) {
		size_t want = t->got < head ? head : head + le32toh(t->head.bytes);
		void *to = t->got < head ? (void *)((char *)&t->head + t->got)
					 : (void *)(t->body + t->got - head);
		ssize_t n = take_bytes(t, to, want - t->got);

		if (n == -EAGAIN || n == -EINTR)
			return;
		if (n <= 0) {
			if (n < 0 && n != -ECONNRESET)
				give_up_errno(r, t, (int)n);
			else
				give_up(r, t, -ECONNRESET, "it closed the connection");
			return;
		}
		t->got += (size_t)n;
		if (t->got < want)
			continue;
		if (want == head && check_head(r, t))
			return;
		if (t->got == head + le32toh(t->head.bytes)) {
			take_answer(r, t);
			return;
		}
	}
}

static void speak(struct round *r, struct talk *t)
{
	ssize_t n;

	if (t->step == STEP_CONNECT) {
		int error = 0;
		socklen_t len = sizeof error;

		getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &error, &len);
		if (error) {
			give_up_errno(r, t, -error);
			return;
		}
		connected(r, t);
	}
	if (t->step == STEP_TLS || t->step == STEP_DONE || t->step == STEP_LOOKUP)
		return;
	n = give_bytes(t, t->out + t->sent, t->out_bytes - t->sent);
	if (n >= 0)
		t->sent += (size_t)n;
	else if (n != -EAGAIN && n != -EINTR)
		give_up_errno(r, t, (int)n);
}

/* What to wait for; a lookup has no descriptor, so it is looked at now and then. */
static int plan(struct round *r, uint64_t now)
{
	uint64_t left = (r->deadline_ns - now) / NSEC_PER_MSEC + 1;

	for (size_t i = 0; i < r->count; i++) {
		struct talk *t = &r->talk[i];
		bool out = t->step == STEP_CONNECT || t->sent < t->out_bytes;

		if (t->step == STEP_LOOKUP)
			begin_address(r, t);
		if (t->step == STEP_LOOKUP && left > 10)
			left = 10;
		r->pfd[i] = (struct pollfd){.fd = t->fd, .events = out ? POLLOUT : POLLIN};
		if (t->step == STEP_TLS)
			r->pfd[i].events = t->events;
	}
	return (int)left;
}

static void time_is_up(struct round *r)
{
	char words[64];

	snprintf(words, sizeof words, "no answer within %.3g s", (double)r->timeout_ns / 1e9);
	for (size_t i = 0; i < r->count; i++) {
		struct talk *t = &r->talk[i];

		if (t->step == STEP_LOOKUP)
			give_up(r, t, -ETIMEDOUT, "its name could not be looked up in time");
		else if (t->step != STEP_DONE)
			give_up(r, t, -ETIMEDOUT, words);
	}
}

static void converse(struct round *r)
{
	for (size_t i = 0; i < r->count; i++)
		begin_address(r, &r->talk[i]);
	while (r->open) {
		uint64_t now = clock_ns();
		int left_ms;

		if (now >= r->deadline_ns) {
			time_is_up(r);
			return;
		}
		left_ms = plan(r, now);
		if (!r->open || poll(r->pfd, r->count, left_ms) < 0)
			continue;
		for (size_t i = 0; i < r->count; i++) {
			struct talk *t = &r->talk[i];

			if (!r->pfd[i].revents || t->fd != r->pfd[i].fd || t->fd < 0)
				continue;
			if (t->step == STEP_TLS)
				shake(r, t);
			else if (t->step == STEP_CONNECT || t->sent < t->out_bytes)
				speak(r, t);
			else
				hear(r, t);
		}
	}
}

void donor_ask(struct donor_list *l, unsigned borrowers, uint64_t timeout_ns)
{
	CLEANUP_FREE struct talk *talk = calloc(l->count + 1, sizeof *talk);
	CLEANUP_FREE struct pollfd *pfd = calloc(l->count + 1, sizeof *pfd);
	struct round r = {.talk = talk,
			  .pfd = pfd,
			  .count = l->count,
			  .open = l->count,
			  .borrowers = borrowers,
			  .deadline_ns = clock_ns() + timeout_ns,
			  .timeout_ns = timeout_ns};

	for (size_t i = 0; i < l->count; i++) {
		l->item[i].status = -EINPROGRESS;
		if (!talk || !pfd) {
			l->item[i].status = -ENOMEM;
			snprintf(l->item[i].why, sizeof l->item[i].why, "out of memory");
			continue;
		}
		talk[i] = (struct talk){.donor = &l->item[i], .fd = -1};
	}
	if (talk && pfd)
		converse(&r);
}
