/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Files that are read whole. */
#ifndef NBDROOT_INFILE_H
#define NBDROOT_INFILE_H

#include "base/cleanup.h"

#include <stddef.h>

/*
 * Reads a regular file of at most max bytes, and puts a NUL behind it. data is the caller's to
 * free. 0 or negative errno: -EFBIG, -EINVAL (no regular file), ...
 */
int infile_read(const char *path, size_t max, void **data, size_t *size) _must_check_;

#endif
