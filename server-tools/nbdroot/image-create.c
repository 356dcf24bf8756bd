/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See image-create.h. */
#include "image-create.h"

#include "base/log.h"
#include "epoch.h"
#include "fill.h"
#include "interrupt.h"
#include "outfile.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static int create_random(uint8_t *out, size_t size)
{
	if (getrandom(out, size, 0) != (ssize_t)size) {
		log_error("no random numbers for a UUID: %s", strerror(errno));
		return -EIO;
	}
	return 0;
}

static int create_identity(const struct image_create *c, struct ext3_format *f)
{
	int r;

	if (c->has_uuid) {
		memcpy(f->uuid, c->uuid, sizeof(f->uuid));
		ext3_seed_from_uuid(f->uuid, f->hash_seed);
		return 0;
	}
	r = create_random(f->uuid, sizeof(f->uuid));
	if (r < 0)
		return r;
	f->uuid[6] = (f->uuid[6] & 0x0f) | 0x40; /* version 4: random (RFC 4122) */
	f->uuid[8] = (f->uuid[8] & 0x3f) | 0x80;
	return create_random(f->hash_seed, sizeof(f->hash_seed));
}

static unsigned long long create_mib(uint64_t blocks)
{
	const uint64_t per_mib = 1024 * 1024 / EXT3_BLOCK;

	return (blocks + per_mib - 1) / per_mib;
}

/* A size (in MiB) that the tree fits in, on the safe side. */
static unsigned long long create_suggest(const struct tree *t, uint32_t inodes)
{
	/* Inode tables take a 64th or what the files need, bitmaps and spare descriptors less. */
	uint64_t size = t->blocks + inodes / (EXT3_BLOCK / 256);

	size += size / 32 + 600;
	size += ext3_journal_blocks(size + EXT3_MIN_BLOCKS); /* the larger side of a step */
	return create_mib(size < EXT3_MIN_BLOCKS ? EXT3_MIN_BLOCKS : size);
}

static void create_report_full(const struct image_create *c, const struct ext3_format *f,
			       const struct tree *t, uint64_t have)
{
	log_error("%s: the content of %s needs %llu MiB and %u inodes; an image of %llu MiB has "
		  "room for %llu MiB beside them (nothing was created; try --size %lluM)",
		  c->path, c->from ? c->from : "an empty image", create_mib(t->blocks), f->inodes,
		  create_mib(f->blocks), (unsigned long long)(have * EXT3_BLOCK / (1024 * 1024)),
		  create_suggest(t, f->inodes));
}

static int create_fill(const struct image_create *c, struct ext3_format *f, struct outfile *o,
		       struct tree *t)
{
	struct ext3 *fs = NULL;
	int r;

	if (ftruncate(o->fd, (off_t)(f->blocks * EXT3_BLOCK)) < 0) {
		r = -errno;
		log_error("%s: cannot be made %llu MiB long: %s", c->path, create_mib(f->blocks),
			  strerror(-r));
		return r;
	}
	r = ext3_create(o->temp, f, &fs);
	if (r == EXT3_E_NO_BLOCKS) {
		create_report_full(c, f, t, 0);
		return r;
	}
	if (r != 0) {
		log_error("%s: cannot make the file system: %s", c->path, ext3_strerror(r));
		return r;
	}
	if (t->blocks > ext3_blocks_free(fs)) {
		create_report_full(c, f, t, ext3_blocks_free(fs));
		ext3_abandon(fs);
		return EXT3_E_NO_BLOCKS;
	}
	r = fill_image(fs, t, c->from);
	if (r != 0) {
		ext3_abandon(fs);
		return r;
	}
	r = ext3_close(fs);
	if (r != 0)
		log_error("%s: cannot be written: %s (nothing was created)", c->path,
			  ext3_strerror(r));
	return r;
}

int image_create(const struct image_create *c)
{
	_cleanup_outfile_ struct outfile o = { .fd = -1 };
	_cleanup_(tree_deinit) struct tree t = { 0 };
	struct ext3_format f = { .blocks = c->size_bytes / EXT3_BLOCK, .label = c->label };
	uint32_t epoch;
	bool has_epoch;
	int r;

	r = epoch_read(&has_epoch, &epoch);
	if (r < 0)
		return r;
	f.now = has_epoch ? epoch : (uint32_t)time(NULL);
	if (f.now == 0)
		f.now = 1; /* the library takes 0 for "look at the clock" */
	r = create_identity(c, &f);
	if (r < 0)
		return r;
	/* First the cheap refusals, then the long work. */
	if (c->may_replace && ext3_is_mounted(c->path)) {
		log_error("%s: mounted: not replaced; unmount it first", c->path);
		return -EBUSY;
	}
	r = outfile_open(&o, c->path, 0600, c->may_replace);
	if (r < 0)
		return r;
	r = tree_init(&t, f.now);
	if (r < 0) {
		log_error("%s: out of memory", c->path);
		return r;
	}
	if (c->from) {
		t.has_max_mtime = has_epoch;
		t.max_mtime_s = f.now;
		r = tree_read(&t, c->from);
		if (r < 0)
			return r;
	}
	if (t.inodes > UINT32_MAX / 2) {
		log_error("%s: has more files than an ext3 can hold", c->from);
		return -EFBIG;
	}
	f.inodes = (uint32_t)(t.inodes + t.inodes / 4); /* and some for what is to come */
	r = create_fill(c, &f, &o, &t);
	if (r != 0)
		return r;
	if (interrupt_pending())
		return -EINTR;
	return outfile_commit(&o);
}
