/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads a cpio archive in the "newc" format from memory, one entry after the other. Copies nothing
 * and trusts nothing: an entry is all there, or it is an error.
 */
#ifndef NBDROOT_CPIO_READ_H
#define NBDROOT_CPIO_READ_H

#include "base/cleanup.h"

#include <stddef.h>
#include <stdint.h>

struct cpio_reader {
	const uint8_t *data;
	size_t size, at; /* at: a multiple of 4 from the start of the archive on */
};

struct cpio_item {
	const char *name; /* ends with a zero */
	size_t name_length;
	uint32_t inode, mode, links;
	const uint8_t *data;
	size_t size;
};

enum {
	CPIO_E_END = 1, /* the archive's last entry, "TRAILER!!!" */
	CPIO_E_MALFORMED,
	CPIO_E_SHORT, /* it ends within an entry */
};

/* 0 or CPIO_E_*. */
int cpio_next(struct cpio_reader *r, struct cpio_item *out) _must_check_;

#endif
