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
};

/* Compresses as well as it can, in a form that the kernel unpacks, and writes to fd. */
int compress_write(enum compress_kind kind, const void *data, size_t size, int fd) _must_check_;

/*
 * The reverse, at most max bytes of it, for the caller to free. -EFBIG when there is more,
 * -EBADMSG when the input is damaged or ends too early, -ENOMEM.
 */
int compress_unpack(enum compress_kind kind, const void *data, size_t size, size_t max,
		    uint8_t **out, size_t *out_size) _must_check_;

#endif
