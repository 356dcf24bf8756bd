/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mounting a file system from a block device: what kind it is, what its options mean, and an
 * error that names both. Knows nothing of where the device comes from.
 */
#ifndef INIT_BLOCKFS_H
#define INIT_BLOCKFS_H

#include "lastwords.h"

#include <stddef.h>
#include <stdint.h>

enum {
	BLOCKFS_TYPE_MAX = 32,
	BLOCKFS_HEAD_MAX = 0x10040 + 8, /* as far as a known file system has its mark */
	BLOCKFS_DATA_MAX = 1024,
};

/* The type by the first bytes of a device, or NULL. Pure. */
const char *blockfs_type(const uint8_t *head, size_t size);

/* What an ext2, ext3 or ext4 says of its own condition. Pure. */
struct blockfs_ext_state {
	bool is_ext;
	bool has_errors; /* the kernel or e2fsck has seen some */
	bool is_unclean; /* was not unmounted; with a journal that alone is harmless */
	bool has_journal;
};
void blockfs_ext_state(const uint8_t *head, size_t size, struct blockfs_ext_state *out);

/*
 * "ro,noatime,data=journal" on top of *flags: the flags of mount(2), and the rest for the file
 * system. 0, or -ENOSPC. Pure.
 */
int blockfs_options(const char *options, unsigned long *flags,
		    char data[static BLOCKFS_DATA_MAX]) _must_check_;

/* The first bytes of a device. 0 or LASTWORDS_FAILED. */
int blockfs_read_head(const char *device, uint8_t head[static BLOCKFS_HEAD_MAX], size_t *size,
		      struct lastwords *w) _must_check_;

/*
 * Nobody writes to the device from here on, a journal's replay and e2fsck included. 0 or negative
 * errno.
 */
int blockfs_make_read_only(const char *device) _must_check_;

/* strerror() that knows what a damaged file system says (EUCLEAN); musl's does not. Pure. */
const char *blockfs_error(int error);

struct blockfs_mounted {
	char type[BLOCKFS_TYPE_MAX];
	bool is_ro;
};

/*
 * fstype NULL or "auto": look. A device that cannot be written is mounted read-only when flags
 * do not insist; an ext3 or ext4 on one whose journal wants to be replayed, without that, in words.
 * 0 or LASTWORDS_FAILED.
 */
int blockfs_mount(const char *device, const char *where, const char *fstype, const char *options,
		  unsigned long flags, struct blockfs_mounted *out,
		  struct lastwords *w) _must_check_;

#endif
