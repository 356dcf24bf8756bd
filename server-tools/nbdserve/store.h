/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An image and what can be done to it. One kind exists, a file or block device (file.c); this is
 * the seam where another would be put in. Safe to use from many threads at once; nothing here
 * orders one call after another, and nothing is durable before store_sync() has returned.
 *
 * All return 0 or negative errno; none is ever half done with 0.
 */
#ifndef NBDSERVE_STORE_H
#define NBDSERVE_STORE_H

#include "base/cleanup.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct store;

/*
 * Opens and locks an image: alone when writable, beside other readers when not. A server that
 * was just killed may still be exiting, so a lock that is held is waited for until deadline_ns
 * (clock_now_ns()), saying so in the log after a second. Logs its errors itself.
 */
int store_open(const char *path, bool is_read_only, uint64_t deadline_ns,
	       struct store **out) _must_check_;
void store_close(struct store *s);

uint64_t store_size(const struct store *s);

/* Whether path leads to the image that s has open. */
bool store_is_at(const struct store *s, const char *path);

/* -ENODATA: the image ends before the end of the range, which it did not when it was opened. */
int store_read(struct store *s, void *data, size_t size, uint64_t offset) _must_check_;
int store_write(struct store *s, const void *data, size_t size, uint64_t offset) _must_check_;

/* What was there does not matter any more. Best effort; the content is undefined afterwards. */
int store_trim(struct store *s, uint64_t offset, uint64_t size) _must_check_;

/*
 * Zeroes, as a hole unless keep_allocated. Of any length; when it has to write them out it gives
 * up with -ECANCELED soon after *cancel becomes true.
 */
int store_zero(struct store *s, uint64_t offset, uint64_t size, bool keep_allocated,
	       const atomic_bool *cancel) _must_check_;

/* All that was written before this call is on stable storage. */
int store_sync(struct store *s) _must_check_;

#endif
