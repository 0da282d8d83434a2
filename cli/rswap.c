/* SPDX-License-Identifier: MIT */
/* The netlink client of the kernel module; see rswap.h. */
#include "cli/rswap.h"
#include "common/error.h"

#include <errno.h>
#include <linux/genetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

/* libmnl's loops over attributes cast a const away. */
#pragma GCC diagnostic ignored "-Wcast-qual"

static int not_loaded(void)
{
	struct utsname u;
	unsigned major = 0, minor = 0;

	if (!uname(&u) && sscanf(u.release, "%u.%u", &major, &minor) == 2 &&
	    (major < 6 || (major == 6 && minor < 1)))
		return err_fail(-ENOSYS, "kernel %s is too old: the module rswap needs 6.1 or newer",
				u.release);
	return err_fail(-ENOENT,
			"the kernel module rswap is not loaded: modprobe rswap (DKMS builds it: "
			"kmod-rswap/ with packaging/dkms, or make -C kmod-rswap modules_install)");
}

/* The kernel's words in an error message, or NULL. */
static const char *kernel_words(const struct nlmsghdr *h)
{
	const struct nlmsgerr *e = mnl_nlmsg_get_payload(h);
	size_t skip = sizeof *e;
	const struct nlattr *a;

	if (!(h->nlmsg_flags & NLM_F_ACK_TLVS))
		return NULL;
	if (!(h->nlmsg_flags & NLM_F_CAPPED))
		skip += mnl_nlmsg_get_payload_len(h) >= skip ? e->msg.nlmsg_len - sizeof e->msg : 0;
	mnl_attr_for_each(a, h, skip) {
		if (mnl_attr_get_type(a) == NLMSGERR_ATTR_MSG &&
		    mnl_attr_validate(a, MNL_TYPE_NUL_STRING) >= 0)
			return mnl_attr_get_str(a);
	}
	return NULL;
}

/*
 * Receives until the end of the answer; each data message goes to cb. 0 or a negative errno, told
 * as "WHAT: WORDS" unless what is NULL.
 */
static int receive(struct rswap_socket *s, mnl_cb_t cb, void *arg, const char *what)
{
	for (;;) {
		ssize_t got = mnl_socket_recvfrom(s->nl, s->buf, sizeof s->buf);
		const struct nlmsghdr *h = (const struct nlmsghdr *)s->buf;
		int left = (int)got;

		if (got < 0)
			return err_fail(-errno, "%s: %s", what ? what : "netlink", strerror(errno));
		for (; mnl_nlmsg_ok(h, left); h = mnl_nlmsg_next(h, &left)) {
			const struct nlmsgerr *e = mnl_nlmsg_get_payload(h);
			const char *words;

			if (h->nlmsg_seq != s->seq)
				continue;
			if (h->nlmsg_type == NLMSG_DONE)
				return 0;
			if (h->nlmsg_type != NLMSG_ERROR) {
				cb(h, arg);
				continue;
			}
			if (!e->error || !what)
				return e->error;
			words = kernel_words(h);
			return err_fail(e->error, "%s: %s", what,
					words ? words : strerror(-e->error));
		}
	}
}

static int no_data(const struct nlmsghdr *h, void *arg)
{
	(void)h;
	(void)arg;
	return MNL_CB_OK;
}

struct nlmsghdr *rswap_message(struct rswap_socket *s, unsigned command)
{
	struct nlmsghdr *m = mnl_nlmsg_put_header(s->buf);
	struct genlmsghdr *g;

	m->nlmsg_type = s->family;
	m->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	m->nlmsg_seq = ++s->seq;
	g = mnl_nlmsg_put_extra_header(m, sizeof *g);
	g->cmd = (uint8_t)command;
	g->version = RSWAP_FAMILY_VERSION;
	return m;
}

int rswap_call(struct rswap_socket *s, const struct nlmsghdr *m, const char *what)
{
	if (mnl_socket_sendto(s->nl, m, m->nlmsg_len) < 0)
		return err_fail(-errno, "%s: %s", what, strerror(errno));
	return receive(s, no_data, NULL, what);
}

static int take_family(const struct nlmsghdr *h, void *arg)
{
	struct rswap_socket *s = arg;
	const struct nlattr *a;

	mnl_attr_for_each(a, h, sizeof(struct genlmsghdr)) {
		if (mnl_attr_get_type(a) == CTRL_ATTR_FAMILY_ID)
			s->family = mnl_attr_get_u16(a);
	}
	return MNL_CB_OK;
}

static int find_family(struct rswap_socket *s)
{
	struct nlmsghdr *m;
	int r;

	s->family = GENL_ID_CTRL;
	m = rswap_message(s, CTRL_CMD_GETFAMILY);
	s->family = 0;
	mnl_attr_put_strz(m, CTRL_ATTR_FAMILY_NAME, RSWAP_FAMILY);
	if (mnl_socket_sendto(s->nl, m, m->nlmsg_len) < 0)
		return -errno;
	r = receive(s, take_family, s, NULL);
	return r || s->family ? r : -ENOENT;
}

int rswap_open(struct rswap_socket **ret)
{
	struct rswap_socket *s = calloc(1, sizeof *s);
	int on = 1, r;

	if (!s)
		return err_fail(-ENOMEM, "no memory");
	s->nl = mnl_socket_open(NETLINK_GENERIC);
	if (!s->nl || mnl_socket_bind(s->nl, 0, MNL_SOCKET_AUTOPID) < 0) {
		r = err_fail(-errno, "netlink: %s", strerror(errno));
		rswap_close(s);
		return r;
	}
	/* Without them answers are longer or have no words. */
	mnl_socket_setsockopt(s->nl, NETLINK_EXT_ACK, &on, sizeof on);
	mnl_socket_setsockopt(s->nl, NETLINK_CAP_ACK, &on, sizeof on);
	s->portid = mnl_socket_get_portid(s->nl);
	r = find_family(s);
	if (r) {
		r = r == -ENOENT ? not_loaded() : err_fail(r, "netlink: %s", strerror(-r));
		rswap_close(s);
		return r;
	}
	*ret = s;
	return 0;
}

void rswap_close(struct rswap_socket *s)
{
	if (!s)
		return;
	if (s->nl)
		mnl_socket_close(s->nl);
	/* Messages had keys in them. */
	explicit_bzero(s->buf, sizeof s->buf);
	free(s);
}

const char *rswap_device_name(const char *word)
{
	const char *name = !strncmp(word, "/dev/", 5) ? word + 5 : word;
	size_t n = strlen(name);

	if (n && n < RSWAP_NAME_BYTES && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_") == n)
		return name;
	err_fail(-EINVAL, "'%s' is not a device's name: it is made of a-z, 0-9, - and _ (rswap0)",
		 word);
	return NULL;
}

/* --- what there is --- */

static void copy_text(char *to, size_t n, const struct nlattr *a)
{
	snprintf(to, n, "%.*s", (int)mnl_attr_get_payload_len(a), mnl_attr_get_str(a));
}

static void take_donor(struct rswap_device *d, const struct nlattr *nest)
{
	struct rswap_donor *donor = &d->donor[d->donors];
	const struct nlattr *a;

	if (d->donors == RSWAP_MAX_DONORS)
		return;
	d->donors++;
	mnl_attr_for_each_nested(a, nest) {
		switch (mnl_attr_get_type(a)) {
		case RSWAP_A_ADDRESS:
			copy_text(donor->address, sizeof donor->address, a);
			break;
		case RSWAP_A_DONOR_NAME:
			copy_text(donor->name, sizeof donor->name, a);
			break;
		case RSWAP_A_TRANSPORT:
			copy_text(donor->transport, sizeof donor->transport, a);
			break;
		case RSWAP_A_STATE:
			copy_text(donor->state, sizeof donor->state, a);
			break;
		case RSWAP_A_ERROR:
			donor->error = (int32_t)mnl_attr_get_u32(a);
			break;
		}
	}
}

static void take_attribute(struct rswap_device *d, const struct nlattr *a)
{
	const struct nlattr *donor;
	size_t n = mnl_attr_get_payload_len(a);

	switch (mnl_attr_get_type(a)) {
	case RSWAP_A_NAME:
		copy_text(d->name, sizeof d->name, a);
		break;
	case RSWAP_A_STATE:
		copy_text(d->state, sizeof d->state, a);
		break;
	case RSWAP_A_SLABS:
		d->slabs = mnl_attr_get_u64(a);
		break;
	case RSWAP_A_DEGRADED:
		d->degraded = mnl_attr_get_u64(a);
		break;
	case RSWAP_A_LOST:
		d->lost = mnl_attr_get_u64(a);
		break;
	case RSWAP_A_SLAB_PAGES:
		d->slab_pages = mnl_attr_get_u32(a);
		break;
	case RSWAP_A_REPLICAS:
		d->replicas = mnl_attr_get_u32(a);
		break;
	case RSWAP_A_DEADLINE_MS:
		d->deadline_ms = mnl_attr_get_u32(a);
		break;
	case RSWAP_A_OPENERS:
		d->openers = mnl_attr_get_u32(a);
		break;
	case RSWAP_A_COUNTERS:
		memcpy(d->counter, mnl_attr_get_payload(a),
		       n < sizeof d->counter ? n : sizeof d->counter);
		break;
	case RSWAP_A_DONORS:
		mnl_attr_for_each_nested(donor, a)
			take_donor(d, donor);
		break;
	}
}

struct dump {
	void (*each)(const struct rswap_device *d, void *arg);
	void *arg;
	struct rswap_device device;
};

static int take_device(const struct nlmsghdr *h, void *arg)
{
	struct dump *dump = arg;
	const struct nlattr *a;

	memset(&dump->device, 0, sizeof dump->device);
	mnl_attr_for_each(a, h, sizeof(struct genlmsghdr))
		take_attribute(&dump->device, a);
	dump->each(&dump->device, dump->arg);
	return MNL_CB_OK;
}

int rswap_dump(struct rswap_socket *s, void (*each)(const struct rswap_device *d, void *arg),
	       void *arg)
{
	struct dump dump = {.each = each, .arg = arg};
	struct nlmsghdr *m = rswap_message(s, RSWAP_CMD_GET);

	m->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	if (mnl_socket_sendto(s->nl, m, m->nlmsg_len) < 0)
		return err_fail(-errno, "netlink: %s", strerror(errno));
	return receive(s, take_device, &dump, "devices");
}
