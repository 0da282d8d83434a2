/* SPDX-License-Identifier: MIT */
/*
 * The spill tier of a volume: one more donor, the last one of those it was opened with, which is a
 * file on this machine (transport/file.c). docs/spill.md says what may be expected of it.
 */
#include "common/error.h"
#include "common/parse.h"
#include "pagestore/transport/file_store.h"
#include "pagestore/volume.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* "DIR", or with filters before it, for tests: "fail,every=9:file:DIR". */
static const char *folder_of(const char *spill)
{
	const char *file = strstr(spill, "file:");

	return file && (file == spill || file[-1] == ':') ? file + 5 : spill;
}

void spill_address(const char *spill, char ret[128])
{
	const char *dir = folder_of(spill);
	int filters = dir == spill ? 0 : (int)(dir - spill) - 5;
	int room = 127 - 5 - filters, length = (int)strlen(dir);

	/* It is for people only; the end of a long one tells more. */
	snprintf(ret, 128, "%.*sfile:%s%s", filters, spill, length > room ? "..." : "",
		 length > room ? dir + length - room + 3 : dir);
}

int spill_check(const struct ps_options *o)
{
	if (!o->spill)
		return 0;
	if (!*folder_of(o->spill) || strlen(o->spill) >= FILE_STORE_PATH)
		return err_fail(-EINVAL, "'%.100s' can't be the folder of a spill file", o->spill);
	if (o->donors_count >= PS_MAX_DONORS)
		return err_fail(-E2BIG, "%u donors and a spill file are more than %u",
				o->donors_count, PS_MAX_DONORS);
	if (o->epoch || o->keep)
		return err_fail(-EINVAL, "a volume that other writers take over can't spill: a file of "
					 "this machine would not be there for them");
	return 0;
}

int spill_open(struct ps_volume *v, const struct ps_options *o)
{
	uint64_t bytes = o->spill_bytes ? o->spill_bytes : o->pages * PS_PAGE_SIZE;
	uint32_t slab_pages = volume_first_pages(v);
	uint64_t slab = (uint64_t)slab_pages * PS_PAGE_SIZE;

	/* All of a volume that ends within a slab. */
	if (!o->spill_bytes)
		bytes = (bytes + slab - 1) / slab * slab + slab * (o->code_data ? o->code_data : 1);
	return file_store_open(folder_of(o->spill), bytes, slab_pages, &v->file);
}

const char *spill_room(const struct ps_volume *v, char *buf, size_t len)
{
	const struct file_store *f = v->file;
	char free[24], total[24];
	uint64_t slab;

	buf[0] = 0;
	if (!f)
		return buf;
	slab = file_store_bytes(f);
	format_size(le64toh(v->donor[v->spill].stat.slabs_free) * slab, free, sizeof free);
	format_size(f->slots * slab, total, sizeof total);
	snprintf(buf, len, "; the spill file in '%.150s' %s %s of %s%s%s", f->dir,
		 v->donor[v->spill].dead ? "can't be used any more, it had" : "has", free, total,
		 f->full ? ": its disk: " : "", f->full ? strerrordesc_np(-f->full) : "");
	return buf;
}
