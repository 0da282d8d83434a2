// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* What /sys/block/NAME/rswap/ tells: the counters, and how the device is. */
#include <linux/device.h>
#include <linux/sysfs.h>
#include "compat.h"
#include "device.h"

struct counter_attribute {
	struct device_attribute attr;
	unsigned int counter;
};

static struct rswap_device *device_of(struct device *d)
{
	return dev_to_disk(d)->private_data;
}

static ssize_t counter_show(struct device *d, struct device_attribute *attr, char *buf)
{
	const struct counter_attribute *c = container_of(attr, struct counter_attribute, attr);

	return sysfs_emit(buf, "%llu\n", rswap_counter(device_of(d), c->counter));
}

#define X(name, text)                                                                              \
	static struct counter_attribute counter_##name = {                                         \
		__ATTR(name, 0444, counter_show, NULL), RSWAP_COUNT_##name};
RSWAP_COUNTER_LIST(X)
#undef X

static ssize_t state_show(struct device *d, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", rswap_device_state(device_of(d)));
}
static DEVICE_ATTR_RO(state);

static ssize_t degraded_show(struct device *d, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%llu\n", READ_ONCE(device_of(d)->degraded));
}
static DEVICE_ATTR_RO(degraded);

static ssize_t lost_show(struct device *d, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%llu\n", READ_ONCE(device_of(d)->lost));
}
static DEVICE_ATTR_RO(lost);

static ssize_t replicas_show(struct device *d, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%u\n", device_of(d)->replicas);
}
static DEVICE_ATTR_RO(replicas);

static ssize_t deadline_ms_show(struct device *d, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%u\n", jiffies_to_msecs(READ_ONCE(device_of(d)->deadline)));
}
static DEVICE_ATTR_RO(deadline_ms);

static struct attribute *attributes[] = {
#define X(name, text) &counter_##name.attr.attr,
	RSWAP_COUNTER_LIST(X)
#undef X
	&dev_attr_state.attr,
	&dev_attr_degraded.attr,
	&dev_attr_lost.attr,
	&dev_attr_replicas.attr,
	&dev_attr_deadline_ms.attr,
	NULL,
};

static const struct attribute_group group = {
	.name = "rswap",
	.attrs = attributes,
};

const struct attribute_group *rswap_disk_groups[] = {&group, NULL};
