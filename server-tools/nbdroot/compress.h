/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The three compressions in which both initramfs archives and modules come, by the libraries, one
 * thread, so that the same input gives the same bytes. Nothing here trusts a compressed file: the
 * size of what comes out has a limit.
 */
#ifndef NBDROOT_COMPRESS_H
#define NBDROOT_COMPRESS_H

#include "base/cleanup.h"

#include <stddef.h>
#include <stdint.h>

enum compress_kind {
	COMPRESS_NONE,
	COMPRESS_GZIP,
	COMPRESS_XZ,
	COMPRESS_ZSTD,
	COMPRESS_LZMA, /* the old form of xz; for unpacking only */
};

/* Compresses as well as it can, in a form that the kernel unpacks, and writes to fd. */
int compress_write(enum compress_kind kind, const void *data, size_t size, int fd) _must_check_;

/*
 * The reverse, at most max bytes of it, for the caller to free. -EFBIG when there is more,
 * -EBADMSG when the input is damaged or ends too early, -ENOMEM.
 */
int compress_unpack(enum compress_kind kind, const void *data, size_t size, size_t max,
		    uint8_t **out, size_t *out_size) _must_check_;

/* The same when something else may follow; *used: how much of the input it was. */
int compress_unpack_first(enum compress_kind kind, const void *data, size_t size, size_t max,
			  uint8_t **out, size_t *out_size, size_t *used) _must_check_;

/*
 * What data begins with, by its first bytes: a name that the kernel and people use, or NULL. *kind
 * is COMPRESS_NONE for those that cannot be unpacked here.
 */
const char *compress_detect(const void *data, size_t size, enum compress_kind *kind);

#endif
