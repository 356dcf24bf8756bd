/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A cpio archive in the "newc" format, as the kernel unpacks it (Documentation/driver-api/
 * early-userspace/buffer-format.rst), built in memory. Everything that could differ from run to
 * run is fixed: inodes are numbered from 1, owners are root, every time is the one given. Makes
 * no hard links, and no file of 4 GiB or more.
 */
#ifndef NBDROOT_CPIO_H
#define NBDROOT_CPIO_H

#include "base/cleanup.h"

#include <stdint.h>
#include <sys/types.h>

enum { CPIO_NAME_MAX = 4095 }; /* the kernel's PATH_MAX, less the end */

struct cpio {
	uint8_t *data;
	size_t size, room;
	uint32_t mtime;
	uint32_t entries;
};

struct cpio_entry {
	const char *name; /* "lib/modules": no slash in front */
	mode_t mode;      /* with the type */
	const void *data; /* a file's content, a symbolic link's target */
	size_t size;
	uint32_t device_major, device_minor;
};

void cpio_init(struct cpio *c, uint32_t mtime);
/* 0, -ENOMEM, -EINVAL (no name, or one that starts with '/'), -ENAMETOOLONG or -EFBIG. */
int cpio_add(struct cpio *c, const struct cpio_entry *e) _must_check_;
/* The entry that ends the archive. 0 or -ENOMEM. */
int cpio_end(struct cpio *c) _must_check_;
void cpio_deinit(struct cpio *c);

#endif
