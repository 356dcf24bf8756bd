/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is to be sent to one client: a queue of chunks, each a piece of memory or a range of a
 * file. Small replies share a chunk; the data of a read is put into its chunk by the disk itself,
 * behind the reply's head; a large read that is in the page cache is never copied at all.
 *
 * Chunks of the usual sizes are kept by their thread for the next connection that needs one, so
 * that the same few stay in the processor's cache; payloads of writes use them too. Nothing here
 * is safe to use from two threads.
 */
#ifndef NBDSERVE_OUT_H
#define NBDSERVE_OUT_H

#include "base/cleanup.h"
#include "memory.h"

#include <stdint.h>
#include <sys/queue.h>

enum {
	/* A chunk for replies: with malloc's head it is 64 KiB. */
	CHUNK_SIZE = 64 * 1024 - 128,
	CHUNK_CLASSES = 3, /* of sizes that are kept, see out.c */
	CHUNK_ALIGN = 64,  /* of data: the kernel copies a payload faster from a cache line on */
};

/* Bytes in memory, and behind them a range of a file if there is one. */
struct chunk {
	STAILQ_ENTRY(chunk) link;
	size_t capacity;   /* of data */
	size_t used, sent; /* of data */
	int file;          /* -1: no range */
	uint64_t file_offset, file_left;
	_Alignas(CHUNK_ALIGN) uint8_t data[];
};

STAILQ_HEAD(chunk_list, chunk);

struct chunk_cache {
	struct chunk_list list[CHUNK_CLASSES];
	unsigned count[CHUNK_CLASSES];
	struct memory *memory;
};

struct out {
	struct chunk_list list;
	struct chunk *last; /* valid while the list is not empty */
	size_t bytes;       /* not sent yet, ranges of files not counted */
};

void chunk_cache_init(struct chunk_cache *cache, struct memory *memory);
void chunk_cache_deinit(struct chunk_cache *cache);

/* A chunk for `size` bytes or more, or NULL; it is the caller's. */
struct chunk *chunk_new(struct chunk_cache *cache, size_t size) _must_check_;
void chunk_free(struct chunk_cache *cache, struct chunk *chunk);

void out_init(struct out *o);
void out_deinit(struct out *o, struct chunk_cache *cache);

static inline bool out_is_empty(const struct out *o)
{
	return STAILQ_EMPTY(&o->list);
}

/* Whether a range of a file is the next thing to send, or the rest of one. */
static inline bool out_is_file(const struct out *o)
{
	const struct chunk *c = STAILQ_FIRST(&o->list);

	return c && c->file >= 0 && c->sent == c->used;
}

/*
 * Room for `size` bytes in one piece at the end of the queue, size being at most CHUNK_SIZE; NULL
 * without memory. What was put there counts when out_commit() was called, with a size that may
 * be smaller; until then it can be asked for again.
 */
uint8_t *out_reserve(struct out *o, struct chunk_cache *cache, size_t size) _must_check_;
void out_commit(struct out *o, size_t size);

/*
 * A chunk with room for `head` bytes and a range of a file, which has to stay open until it is
 * sent; NULL without memory.
 */
struct chunk *chunk_new_file(struct chunk_cache *cache, size_t head, int file, uint64_t offset,
			     size_t size) _must_check_;

/* Gives a chunk (its used bytes and its range) to the queue. */
void out_add_chunk(struct out *o, struct chunk *chunk);

/*
 * Sends as much as the socket takes without waiting. is_blocking: the socket's descriptor has no
 * O_NONBLOCK (see ring.c). Returns 0 when the queue is empty, 1 when the socket is full, or
 * negative errno; -EIO also for a file that ended before its range or could not be read: then the
 * reply is half sent, and the connection cannot be used any more. *moved: whether a byte was sent.
 */
int out_send(struct out *o, struct chunk_cache *cache, int fd, bool is_blocking,
	     bool *moved) _must_check_;

#endif
