/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An image and what can be done to it. One kind exists, a file or block device (file.c), and the
 * engines and the fast paths of serve.c use its descriptor directly, store_fd(). Safe to use from
 * many threads at once; nothing here orders one call after another, and nothing is durable before
 * a sync of the descriptor (commit.h) has ended.
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

/* Whether the image still reaches so far: somebody may have cut it since it was opened. */
bool store_reaches(const struct store *s, uint64_t end);

/* For engines: offsets of the image are offsets of this descriptor. */
int store_fd(const struct store *s);

/*
 * Whether a write ends up in the page cache of this machine without waiting for anybody, as a
 * rule: the file systems of local disks do that, those of networks and FUSE do not.
 */
bool store_has_quick_writes(const struct store *s);

/* What tells an image from all others, whatever the path. */
struct store_id {
	uint64_t dev, ino;
};

struct store_id store_id(const struct store *s);

/* The id of the image at a path. 0 or negative errno. */
int store_id_of_path(const char *path, struct store_id *id) _must_check_;

/*
 * An id of the image's content that outlives a move to another server: made of the UUID of the
 * file system in it. False: it has none that we know.
 */
bool store_content_id(struct store *s, uint8_t id[static 16]);

/* -ENODATA: the image ends before the end of the range, which it did not when it was opened. */
int store_read(struct store *s, void *data, size_t size, uint64_t offset) _must_check_;
int store_write(struct store *s, const void *data, size_t size, uint64_t offset) _must_check_;

/* What was there does not matter any more. Best effort; the content is undefined afterwards. */
int store_trim(struct store *s, uint64_t offset, uint64_t size) _must_check_;

/*
 * Zeroes, as a hole unless keep_allocated. Of any length; when it has to write them out it gives
 * up with -ECANCELED soon after *cancel becomes true, or with -ENOTSUP at once if must_be_fast.
 */
int store_zero(struct store *s, uint64_t offset, uint64_t size, bool keep_allocated,
	       bool must_be_fast, const atomic_bool *cancel) _must_check_;

/* Will be read soon. */
int store_prefetch(struct store *s, uint64_t offset, uint64_t size) _must_check_;

/*
 * Which kind of stretch begins at offset and how far it goes, up to end: allocated or a hole.
 * What cannot be told is allocated.
 */
void store_extent(struct store *s, uint64_t offset, uint64_t end, uint64_t *size, bool *is_hole);

#endif
