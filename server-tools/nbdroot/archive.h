/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads an initramfs as the kernel does (init/initramfs.c, buffer-format.rst): any number of cpio
 * archives one after the other, each compressed or not, zeros between them; a later file replaces
 * an earlier one of its name. Ours and other people's. Works on bytes in memory, never on the file
 * system, and trusts none of them: every length is checked, and all sizes have limits.
 */
#ifndef NBDROOT_ARCHIVE_H
#define NBDROOT_ARCHIVE_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	ARCHIVE_FILE_MAX = 1 << 30, /* of the file */
	ARCHIVE_ENTRIES_MAX = 1 << 20,
};
#define ARCHIVE_UNPACKED_MAX ((size_t)1 << 31) /* all parts together */

struct archive_part {
	size_t offset, packed, unpacked;
	const char *compression; /* "zstd", "none", or one that we cannot unpack */
	bool is_unknown;         /* such a one: nothing after it has been read */
	bool is_crc64;           /* xz with a check that no kernel knows */
	size_t entries;
	uint8_t *data; /* NULL: it is in the file itself */
};

struct archive_file {
	char *name; /* without "./" and "/" in front */
	mode_t mode;
	const uint8_t *data; /* content, or a link's target without an end */
	size_t size;
	uint32_t inode;
	uint32_t order; /* a number that grows */
};

struct archive {
	struct archive_part *parts;
	size_t n_parts;
	struct archive_file *files; /* by name, each name once */
	size_t n_files;
	size_t unpacked;
	char *problem; /* why reading ended before the end of the file; NULL: it did not */
};

/*
 * Reads it; data must live as long as the rest. What could be read before a problem is there.
 * 0 or -ENOMEM.
 */
int archive_read(struct archive *a, const uint8_t *data, size_t size) _must_check_;
void archive_deinit(struct archive *a);

/* The file at a path, through symbolic links; NULL: there is none. */
const struct archive_file *archive_find(const struct archive *a, const char *path);

#endif
