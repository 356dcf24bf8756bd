/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Replies of the transmission phase: simple, structured and extended, as the connection has
 * negotiated (struct nbd_mode). Writes what stands before or instead of data into a small buffer
 * and never touches the data itself, so that a server can send both at once without a copy.
 *
 * A successful read is nbd_read_head_encode() and the data; a block status is
 * nbd_block_status_head_encode() and as many nbd_extent_encode(); all else is nbd_reply_encode().
 */
#ifndef PROTO_REPLY_H
#define PROTO_REPLY_H

#include "request.h"

#include <stddef.h>

/* "Simple reply message", "Structured reply chunk message", "Extended reply chunk message" */
enum {
	NBD_SIMPLE_REPLY_SIZE = 16,
	NBD_STRUCTURED_CHUNK_SIZE = 20,
	NBD_EXTENDED_CHUNK_SIZE = 32,

	/* A chunk's head and 8 bytes: an offset, an error without words, or a context and a count
	 */
	NBD_REPLY_MAX = NBD_EXTENDED_CHUNK_SIZE + 8,
	NBD_EXTENT_MAX = 16,

	/* "Servers SHOULD NOT send more than 2^20 extents in a single reply chunk" */
	NBD_EXTENTS_MAX = 1 << 20,
};

struct nbd_simple_reply {
	uint32_t error;
	uint64_t cookie;
};

struct nbd_chunk {
	uint16_t flags, type; /* NBD_REPLY_FLAG_*, NBD_REPLY_TYPE_* */
	uint64_t cookie;
	uint64_t offset; /* of the request; in an extended head only */
	uint64_t length; /* of the payload that follows; at most UINT32_MAX in a structured head */
};

/* A stretch of the export and its NBD_STATE_*. */
struct nbd_extent {
	uint64_t length;
	uint64_t flags;
};

/* ---- whole replies, for a server --------------------------------------------------------- */

/* The reply to a request that has nothing to send but its outcome. Returns its size. */
size_t nbd_reply_encode(uint8_t out[static NBD_REPLY_MAX], const struct nbd_request *req,
			const struct nbd_mode *mode, uint32_t error);

/*
 * What precedes the data of a read that has succeeded; exactly req->length bytes have to follow.
 * They must be at hand: after this head there is no way left to report an error. A read of no
 * bytes is answered whole.
 */
size_t nbd_read_head_encode(uint8_t out[static NBD_REPLY_MAX], const struct nbd_request *req,
			    const struct nbd_mode *mode);

/*
 * Makes a list of consecutive extents that begin at req->offset one that may be sent, in place:
 * joins neighbours of the same kind, leaves out empty ones, ends where the request is covered,
 * cuts to the request with NBD_CMD_FLAG_REQ_ONE and to what 32 bits can say. Returns how many
 * there are now: 0 when there was no byte in the list, which no reply can say.
 */
size_t nbd_extents_fit(struct nbd_extent *extents, size_t n, const struct nbd_request *req,
		       const struct nbd_mode *mode);

/* What precedes n extents, of at least 1 and at most NBD_EXTENTS_MAX that fit. Returns its size. */
size_t nbd_block_status_head_encode(uint8_t out[static NBD_REPLY_MAX],
				    const struct nbd_request *req, const struct nbd_mode *mode,
				    size_t n);

/* One extent of a list that nbd_extents_fit() has made. Returns its size: 8, or 16 extended. */
size_t nbd_extent_encode(uint8_t out[static NBD_EXTENT_MAX], const struct nbd_extent *extent,
			 const struct nbd_mode *mode);

/* ---- heads ------------------------------------------------------------------------------- */

void nbd_simple_reply_encode(const struct nbd_simple_reply *rep,
			     uint8_t out[static NBD_SIMPLE_REPLY_SIZE]);

/* False: the magic is wrong (or this is a chunk, which was not negotiated). */
bool nbd_simple_reply_decode(struct nbd_simple_reply *rep,
			     const uint8_t in[static NBD_SIMPLE_REPLY_SIZE]);

/* How long the head of a chunk is: structured, or extended. */
static inline size_t nbd_chunk_head_size(const struct nbd_mode *mode)
{
	return mode->extended ? NBD_EXTENDED_CHUNK_SIZE : NBD_STRUCTURED_CHUNK_SIZE;
}

/* Writes nbd_chunk_head_size() bytes. */
void nbd_chunk_encode(const struct nbd_chunk *chunk, const struct nbd_mode *mode,
		      uint8_t out[static NBD_EXTENDED_CHUNK_SIZE]);

/* Reads nbd_chunk_head_size() bytes. False: the magic is not that of the mode's chunks. */
bool nbd_chunk_decode(struct nbd_chunk *chunk, const struct nbd_mode *mode, const uint8_t *in);

/* Reads an extent of a chunk's payload: 8 bytes, or 16 extended. */
void nbd_extent_decode(struct nbd_extent *extent, const struct nbd_mode *mode, const uint8_t *in);

#endif
