// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The generic netlink family "rswap": include/infuse/rswap.h tells what is asked for. A device that
 * was begun and not started goes with its maker's socket. Borrower ids and keys come in and never
 * go out.
 */
#include <linux/capability.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <net/genetlink.h>
#include <net/sock.h>
#include "compat.h"
#include "device.h"

static struct genl_family family;

enum { GROUP_EVENTS };
static const struct genl_multicast_group groups[] = {
	[GROUP_EVENTS] = {.name = RSWAP_GROUP_EVENTS},
};

static const struct nla_policy policy[RSWAP_A_COUNT] = {
	[RSWAP_A_NAME] = {.type = NLA_NUL_STRING, .len = RSWAP_NAME_BYTES - 1},
	[RSWAP_A_SLABS] = {.type = NLA_U64},
	[RSWAP_A_SLAB_PAGES] = {.type = NLA_U32},
	[RSWAP_A_REPLICAS] = NLA_POLICY_RANGE(NLA_U32, 1, RSWAP_MAX_REPLICAS),
	[RSWAP_A_BORROWER] = NLA_POLICY_EXACT_LEN(16),
	[RSWAP_A_KEY] = NLA_POLICY_EXACT_LEN(32),
	[RSWAP_A_EPOCH] = {.type = NLA_U64},
	[RSWAP_A_DEADLINE_MS] = {.type = NLA_U32},
	[RSWAP_A_VOLUME] = {.type = NLA_NUL_STRING, .len = WIRE_NAME_BYTES - 1},
	[RSWAP_A_DONOR] = {.type = NLA_U32},
	[RSWAP_A_ADDRESS] = {.type = NLA_NUL_STRING, .len = RSWAP_TEXT_BYTES - 1},
	[RSWAP_A_TRANSPORT] = {.type = NLA_NUL_STRING, .len = 15},
	[RSWAP_A_SOCKADDR] = {.type = NLA_BINARY, .len = sizeof(struct sockaddr_in6)},
	[RSWAP_A_DATA_SOCKADDR] = {.type = NLA_BINARY, .len = sizeof(struct sockaddr_in6)},
	[RSWAP_A_BOOT] = NLA_POLICY_EXACT_LEN(16),
	[RSWAP_A_DONOR_NAME] = {.type = NLA_NUL_STRING, .len = RSWAP_TEXT_BYTES - 1},
	[RSWAP_A_DOMAIN] = {.type = NLA_NUL_STRING, .len = RSWAP_TEXT_BYTES - 1},
	[RSWAP_A_FIRST] = {.type = NLA_U64},
	[RSWAP_A_MAP] = {.type = NLA_BINARY,
			 .len = RSWAP_MAP_SLABS * RSWAP_MAX_REPLICAS * sizeof(struct rswap_place)},
};

#define refuse(info, err, text)                                                                    \
	({                                                                                         \
		NL_SET_ERR_MSG((info)->extack, text);                                              \
		err;                                                                               \
	})

static int check_caller(struct genl_info *info)
{
	return capable(CAP_SYS_ADMIN) ? 0 : refuse(info, -EPERM, "CAP_SYS_ADMIN is needed");
}

static bool have(struct genl_info *info, const u8 *need, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		if (!info->attrs[need[i]])
			return false;
	return true;
}

#define HAVE(info, ...)                                                                            \
	have(info, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

/* Under rswap_devices_lock. */
static struct rswap_device *find(struct genl_info *info, bool started)
{
	struct rswap_device *dev;

	if (!info->attrs[RSWAP_A_NAME])
		return ERR_PTR(refuse(info, -EINVAL, "no device named"));
	dev = rswap_device_find(nla_data(info->attrs[RSWAP_A_NAME]));
	if (!dev)
		return ERR_PTR(refuse(info, -ENODEV, "there is no such device"));
	if (!started && !dev->started && dev->portid != info->snd_portid)
		return ERR_PTR(refuse(info, -EBUSY, "the device is not this socket's to make"));
	return dev;
}

/* --- making a device --- */

static bool good_name(const char *s)
{
	if (!*s)
		return false;
	for (; *s; s++)
		if (!((*s >= 'a' && *s <= 'z') || (*s >= '0' && *s <= '9') || *s == '-' || *s == '_'))
			return false;
	return true;
}

static int set_deadline(struct rswap_device *dev, struct genl_info *info)
{
	const struct nlattr *a = info->attrs[RSWAP_A_DEADLINE_MS];

	if (!a)
		return 0;
	if (nla_get_u32(a) < 10 || nla_get_u32(a) > 600000)
		return refuse(info, -ERANGE, "a deadline is 10 ms to 600 s");
	WRITE_ONCE(dev->deadline, max(msecs_to_jiffies(nla_get_u32(a)), 1ul));
	return 0;
}

static int fill_device(struct rswap_device *dev, struct genl_info *info)
{
	struct nlattr **a = info->attrs;

	dev->portid = info->snd_portid;
	memcpy(dev->borrower, nla_data(a[RSWAP_A_BORROWER]), sizeof dev->borrower);
	if (a[RSWAP_A_EPOCH])
		dev->epoch = nla_get_u64(a[RSWAP_A_EPOCH]);
	if (a[RSWAP_A_VOLUME])
		strscpy(dev->volume, nla_data(a[RSWAP_A_VOLUME]), sizeof dev->volume);
	if (a[RSWAP_A_KEY] && rswap_auth_open(nla_data(a[RSWAP_A_KEY]), &dev->hmac))
		return refuse(info, -EOPNOTSUPP, "the kernel has no hmac(sha256)");
	return set_deadline(dev, info);
}

static int create(struct genl_info *info)
{
	struct nlattr **a = info->attrs;
	const char *name = nla_data(a[RSWAP_A_NAME]);
	u64 slabs = nla_get_u64(a[RSWAP_A_SLABS]);
	u32 pages = nla_get_u32(a[RSWAP_A_SLAB_PAGES]);
	struct rswap_device *dev;
	int r;

	if (!good_name(name))
		return refuse(info, -EINVAL, "a device's name is made of a-z, 0-9, - and _");
	if (!slabs || slabs > 1ull << 32 || pages < 16 || pages > 1u << 20 || pages & (pages - 1))
		return refuse(info, -EINVAL, "no such device can be");
	if (rswap_device_find(name))
		return refuse(info, -EEXIST, "the device exists");
	dev = rswap_device_create(name, slabs, pages, nla_get_u32(a[RSWAP_A_REPLICAS]));
	if (IS_ERR(dev))
		return refuse(info, PTR_ERR(dev), "no memory, or too many devices");
	r = fill_device(dev, info);
	if (r)
		rswap_device_detach(dev, true);
	return r;
}

static int do_new(struct sk_buff *skb, struct genl_info *info)
{
	int r = check_caller(info);

	if (r)
		return r;
	if (!HAVE(info, RSWAP_A_NAME, RSWAP_A_SLABS, RSWAP_A_SLAB_PAGES, RSWAP_A_REPLICAS,
		  RSWAP_A_BORROWER))
		return refuse(info, -EINVAL, "an attribute is missing");
	mutex_lock(&rswap_devices_lock);
	r = create(info);
	mutex_unlock(&rswap_devices_lock);
	return r;
}

static int take_sockaddr(const struct nlattr *a, struct sockaddr_storage *to, int *len)
{
	const struct sockaddr *sa = nla_data(a);
	int n = nla_len(a);

	if (n < (int)sizeof(sa->sa_family) ||
	    !((sa->sa_family == AF_INET && n == sizeof(struct sockaddr_in)) ||
	      (sa->sa_family == AF_INET6 && n == sizeof(struct sockaddr_in6))))
		return -EAFNOSUPPORT;
	memcpy(to, sa, n);
	*len = n;
	return 0;
}

/* A donor for a device that is in use: it holds nothing, and has room for what is missing. */
static int join(struct rswap_donor *d, struct genl_info *info)
{
	if (ALIGN(sizeof(struct rswap_msg) + d->t->msg_bytes, 8) > d->dev->msg_bytes)
		return refuse(info, -EOPNOTSUPP, "the device was made without this transport");
	return rswap_donor_alloc_conns(d);
}

static int add_donor(struct rswap_device *dev, struct genl_info *info)
{
	struct nlattr **a = info->attrs;
	const struct rswap_transport *t = rswap_transport_find(nla_data(a[RSWAP_A_TRANSPORT]));
	const struct nlattr *data = a[RSWAP_A_DATA_SOCKADDR] ?: a[RSWAP_A_SOCKADDR];
	struct rswap_donor *d;
	int r;

	if (!t)
		return refuse(info, -EPROTONOSUPPORT, "this module has no such transport");
	if (dev->donors == RSWAP_MAX_DONORS ||
	    (!dev->started && (!a[RSWAP_A_DONOR] || !a[RSWAP_A_BOOT] ||
			       nla_get_u32(a[RSWAP_A_DONOR]) != dev->donors)))
		return refuse(info, -EINVAL, "donors come in the order of their numbers, 64 at most");
	r = rswap_donor_create(dev, dev->donors, t, &d);
	if (r)
		return r;
	r = take_sockaddr(a[RSWAP_A_SOCKADDR], &d->sockaddr, &d->sockaddr_len);
	if (!r)
		r = take_sockaddr(data, &d->data_sockaddr, &d->data_sockaddr_len);
	if (r) {
		rswap_donor_free(d);
		return refuse(info, r, "an address is IPv4 or IPv6");
	}
	strscpy(d->address, nla_data(a[RSWAP_A_ADDRESS]), sizeof d->address);
	if (a[RSWAP_A_DONOR_NAME])
		strscpy(d->name, nla_data(a[RSWAP_A_DONOR_NAME]), sizeof d->name);
	if (a[RSWAP_A_DOMAIN])
		strscpy(d->domain, nla_data(a[RSWAP_A_DOMAIN]), sizeof d->domain);
	if (a[RSWAP_A_BOOT])
		memcpy(d->boot, nla_data(a[RSWAP_A_BOOT]), sizeof d->boot);
	r = dev->started ? join(d, info) : 0;
	if (r) {
		rswap_donor_free(d);
		return r;
	}
	dev->donor[dev->donors] = d;
	smp_store_release(&dev->donors, dev->donors + 1); /* others look without the lock */
	if (dev->started)
		rswap_donor_start(d);
	return 0;
}

static int add_map(struct rswap_device *dev, struct genl_info *info)
{
	const struct rswap_place *p = nla_data(info->attrs[RSWAP_A_MAP]);
	u32 places = nla_len(info->attrs[RSWAP_A_MAP]) / sizeof *p;
	u64 first = nla_get_u64(info->attrs[RSWAP_A_FIRST]), n = places / dev->replicas;

	if (dev->started || !n || places % dev->replicas || first != dev->mapped || n > dev->slabs - first)
		return refuse(info, -EINVAL, "slabs come in order, each with all its replicas");
	for (u32 i = 0; i < places; i++) {
		u32 k = i % dev->replicas;

		if (p[i].donor >= dev->donors)
			return refuse(info, -EINVAL, "a slab names a donor that there is not");
		for (u32 j = 1; j <= k; j++)
			if (p[i - j].donor == p[i].donor)
				return refuse(info, -EINVAL, "two replicas of a slab on one donor");
		dev->slab[first + i / dev->replicas].r[k] = (struct rswap_replica){
			.handle = p[i].slab,
			.donor = p[i].donor,
			.state = RSWAP_LIVE,
		};
	}
	dev->mapped += n;
	return 0;
}

static int start(struct rswap_device *dev, struct genl_info *info)
{
	int r;

	if (dev->started || dev->mapped != dev->slabs || !dev->donors)
		return refuse(info, -EINVAL, "the map is not complete, or the device is there already");
	r = rswap_device_start(dev);
	if (!r)
		return 0;
	rswap_device_detach(dev, true);
	return refuse(info, r, "a donor can't be connected, or there is no memory: see the kernel's log");
}

/* Runs what belongs to one command on the device being made. */
static int on_new(struct genl_info *info, bool complete,
		  int (*run)(struct rswap_device *dev, struct genl_info *info))
{
	struct rswap_device *dev;
	int r = check_caller(info);

	if (r)
		return r;
	if (!complete)
		return refuse(info, -EINVAL, "an attribute is missing");
	mutex_lock(&rswap_devices_lock);
	dev = find(info, false);
	r = IS_ERR(dev) ? PTR_ERR(dev) : run(dev, info);
	mutex_unlock(&rswap_devices_lock);
	return r;
}

static int do_donor(struct sk_buff *skb, struct genl_info *info)
{
	return on_new(info,
		      HAVE(info, RSWAP_A_ADDRESS, RSWAP_A_TRANSPORT, RSWAP_A_SOCKADDR), add_donor);
}

static int do_map(struct sk_buff *skb, struct genl_info *info)
{
	return on_new(info, HAVE(info, RSWAP_A_FIRST, RSWAP_A_MAP), add_map);
}

static int do_start(struct sk_buff *skb, struct genl_info *info)
{
	return on_new(info, true, start);
}

/* --- devices that are there --- */

static int do_detach(struct sk_buff *skb, struct genl_info *info)
{
	struct rswap_device *dev;
	int r = check_caller(info);

	if (r)
		return r;
	mutex_lock(&rswap_devices_lock);
	dev = find(info, true);
	r = IS_ERR(dev) ? PTR_ERR(dev) : rswap_device_detach(dev, false);
	mutex_unlock(&rswap_devices_lock);
	return r == -EBUSY ? refuse(info, r, "the device is in use") : r;
}

static int do_set(struct sk_buff *skb, struct genl_info *info)
{
	struct rswap_device *dev;
	int r = check_caller(info);

	if (r)
		return r;
	mutex_lock(&rswap_devices_lock);
	dev = find(info, true);
	r = IS_ERR(dev) ? PTR_ERR(dev) : set_deadline(dev, info);
	mutex_unlock(&rswap_devices_lock);
	return r;
}

static int put_donor(struct sk_buff *skb, const struct rswap_donor *d)
{
	struct nlattr *nest = nla_nest_start(skb, d->index + 1);

	if (!nest || nla_put_string(skb, RSWAP_A_ADDRESS, d->address) ||
	    nla_put_string(skb, RSWAP_A_DONOR_NAME, d->name) ||
	    nla_put_string(skb, RSWAP_A_TRANSPORT, d->t->name) ||
	    nla_put_string(skb, RSWAP_A_STATE, rswap_donor_state(d)) ||
	    nla_put_s32(skb, RSWAP_A_ERROR, READ_ONCE(d->error)))
		return -EMSGSIZE;
	nla_nest_end(skb, nest);
	return 0;
}

static int put_donors(struct sk_buff *skb, const struct rswap_device *dev)
{
	struct nlattr *nest = nla_nest_start(skb, RSWAP_A_DONORS);

	if (!nest)
		return -EMSGSIZE;
	for (unsigned int i = 0; i < dev->donors; i++)
		if (put_donor(skb, dev->donor[i]))
			return -EMSGSIZE;
	nla_nest_end(skb, nest);
	return 0;
}

static int put_one(struct sk_buff *skb, const struct rswap_device *dev)
{
	u64 counters[RSWAP_COUNTERS];

	for (unsigned int i = 0; i < RSWAP_COUNTERS; i++)
		counters[i] = rswap_counter(dev, i);
	if (nla_put_string(skb, RSWAP_A_NAME, dev->name) ||
	    nla_put_string(skb, RSWAP_A_STATE, rswap_device_state(dev)) ||
	    nla_put_u64_64bit(skb, RSWAP_A_SLABS, dev->slabs, RSWAP_A_PAD) ||
	    nla_put_u32(skb, RSWAP_A_SLAB_PAGES, dev->slab_pages) ||
	    nla_put_u32(skb, RSWAP_A_REPLICAS, dev->replicas) ||
	    nla_put_u32(skb, RSWAP_A_DEADLINE_MS, jiffies_to_msecs(dev->deadline)) ||
	    nla_put_u32(skb, RSWAP_A_OPENERS, READ_ONCE(dev->openers)) ||
	    nla_put_u64_64bit(skb, RSWAP_A_DEGRADED, READ_ONCE(dev->degraded), RSWAP_A_PAD) ||
	    nla_put_u64_64bit(skb, RSWAP_A_LOST, READ_ONCE(dev->lost), RSWAP_A_PAD) ||
	    nla_put(skb, RSWAP_A_COUNTERS, sizeof counters, counters))
		return -EMSGSIZE;
	return put_donors(skb, dev);
}

static int dump(struct sk_buff *skb, struct netlink_callback *cb)
{
	const struct rswap_device *dev;
	long i = 0;

	mutex_lock(&rswap_devices_lock);
	list_for_each_entry(dev, &rswap_devices, link) {
		void *head;

		if (i++ < cb->args[0])
			continue;
		head = genlmsg_put(skb, NETLINK_CB(cb->skb).portid, cb->nlh->nlmsg_seq, &family,
				   NLM_F_MULTI, RSWAP_CMD_GET);
		if (!head || put_one(skb, dev)) {
			if (head)
				genlmsg_cancel(skb, head);
			i--;
			break;
		}
		genlmsg_end(skb, head);
	}
	mutex_unlock(&rswap_devices_lock);
	cb->args[0] = i;
	return skb->len;
}

/* --- events --- */

void rswap_netlink_event(struct rswap_device *dev, const char *event, const struct rswap_donor *d,
			 u64 first, u64 slabs)
{
	struct sk_buff *skb = genlmsg_new(NLMSG_DEFAULT_SIZE, GFP_NOWAIT);
	void *head;

	if (!skb)
		return; /* the state can be asked for */
	head = genlmsg_put(skb, 0, 0, &family, 0, RSWAP_CMD_EVENT);
	if (!head || nla_put_string(skb, RSWAP_A_NAME, dev->name) ||
	    nla_put_string(skb, RSWAP_A_EVENT, event) ||
	    (d && nla_put_string(skb, RSWAP_A_ADDRESS, d->address)) ||
	    nla_put_u64_64bit(skb, RSWAP_A_FIRST, first, RSWAP_A_PAD) ||
	    nla_put_u64_64bit(skb, RSWAP_A_SLABS, slabs, RSWAP_A_PAD)) {
		nlmsg_free(skb);
		return;
	}
	genlmsg_end(skb, head);
	genlmsg_multicast(&family, skb, 0, GROUP_EVENTS, GFP_NOWAIT);
}

/* --- life --- */

#define OP(number, call)                                                                           \
	{.cmd = number, .flags = GENL_ADMIN_PERM, .doit = call}

static const struct genl_small_ops ops[] = {
	OP(RSWAP_CMD_DEVICE_NEW, do_new),
	OP(RSWAP_CMD_DONOR_ADD, do_donor),
	OP(RSWAP_CMD_MAP_ADD, do_map),
	OP(RSWAP_CMD_START, do_start),
	OP(RSWAP_CMD_DETACH, do_detach),
	OP(RSWAP_CMD_SET, do_set),
	{.cmd = RSWAP_CMD_GET, .dumpit = dump},
};

static struct genl_family family __ro_after_init = {
	.name = RSWAP_FAMILY,
	.version = RSWAP_FAMILY_VERSION,
	.maxattr = RSWAP_A_COUNT - 1,
	.policy = policy,
	.module = THIS_MODULE,
	.parallel_ops = true, /* connecting takes its time */
	.small_ops = ops,
	.n_small_ops = ARRAY_SIZE(ops),
	.resv_start_op = RSWAP_CMD_COUNT,
	.mcgrps = groups,
	.n_mcgrps = ARRAY_SIZE(groups),
};

static int socket_closed(struct notifier_block *nb, unsigned long what, void *data)
{
	const struct netlink_notify *n = data;
	struct rswap_device *dev, *next;

	if (what != NETLINK_URELEASE || n->protocol != NETLINK_GENERIC || !n->portid)
		return NOTIFY_DONE;
	mutex_lock(&rswap_devices_lock);
	list_for_each_entry_safe(dev, next, &rswap_devices, link)
		if (dev->portid == n->portid)
			rswap_device_detach(dev, true);
	mutex_unlock(&rswap_devices_lock);
	return NOTIFY_DONE;
}

static struct notifier_block notifier = {.notifier_call = socket_closed};

int rswap_netlink_init(void)
{
	int r = netlink_register_notifier(&notifier);

	if (r)
		return r;
	r = genl_register_family(&family);
	if (r)
		netlink_unregister_notifier(&notifier);
	return r;
}

void rswap_netlink_exit(void)
{
	genl_unregister_family(&family);
	netlink_unregister_notifier(&notifier);
}
