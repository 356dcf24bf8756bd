/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See reply.h. */
#include "reply.h"

#include "wire.h"

#include <assert.h>

enum {
	EXTENT_SIZE = 8,
	EXTENDED_EXTENT_SIZE = 16,
	/* A multiple of the largest block that there can be, so that what follows is aligned. */
	COMPACT_EXTENT_ALIGN = 65536,
};

/* ---- heads ------------------------------------------------------------------------------- */

void nbd_simple_reply_encode(const struct nbd_simple_reply *rep,
			     uint8_t out[static NBD_SIMPLE_REPLY_SIZE])
{
	struct wire_writer w = wire_writer(out, NBD_SIMPLE_REPLY_SIZE);

	wire_put_u32(&w, NBD_SIMPLE_REPLY_MAGIC);
	wire_put_u32(&w, rep->error);
	wire_put_u64(&w, rep->cookie);
}

bool nbd_simple_reply_decode(struct nbd_simple_reply *rep,
			     const uint8_t in[static NBD_SIMPLE_REPLY_SIZE])
{
	struct wire_reader r = wire_reader(in, NBD_SIMPLE_REPLY_SIZE);

	if (wire_u32(&r) != NBD_SIMPLE_REPLY_MAGIC)
		return false;
	rep->error = wire_u32(&r);
	rep->cookie = wire_u64(&r);
	return true;
}

static void put_chunk(struct wire_writer *w, const struct nbd_chunk *chunk,
		      const struct nbd_mode *mode)
{
	wire_put_u32(w, mode->extended ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC);
	wire_put_u16(w, chunk->flags);
	wire_put_u16(w, chunk->type);
	wire_put_u64(w, chunk->cookie);
	if (mode->extended) {
		wire_put_u64(w, chunk->offset);
		wire_put_u64(w, chunk->length);
	} else {
		assert(chunk->length <= UINT32_MAX); /* nbd_request_check() saw to that */
		wire_put_u32(w, (uint32_t)chunk->length);
	}
}

void nbd_chunk_encode(const struct nbd_chunk *chunk, const struct nbd_mode *mode,
		      uint8_t out[static NBD_EXTENDED_CHUNK_SIZE])
{
	struct wire_writer w = wire_writer(out, NBD_EXTENDED_CHUNK_SIZE);

	put_chunk(&w, chunk, mode);
}

bool nbd_chunk_decode(struct nbd_chunk *chunk, const struct nbd_mode *mode, const uint8_t *in)
{
	struct wire_reader r = wire_reader(in, nbd_chunk_head_size(mode));

	if (wire_u32(&r) !=
	    (mode->extended ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC))
		return false;
	chunk->flags = wire_u16(&r);
	chunk->type = wire_u16(&r);
	chunk->cookie = wire_u64(&r);
	chunk->offset = mode->extended ? wire_u64(&r) : 0;
	chunk->length = mode->extended ? wire_u64(&r) : wire_u32(&r);
	return true;
}

/* ---- whole replies ----------------------------------------------------------------------- */

/* The head of the only and last chunk of a reply. */
static void put_last_chunk(struct wire_writer *w, const struct nbd_request *req,
			   const struct nbd_mode *mode, uint16_t type, uint64_t length)
{
	struct nbd_chunk chunk = { .flags = NBD_REPLY_FLAG_DONE,
				   .type = type,
				   .cookie = req->cookie,
				   .offset = req->offset,
				   .length = length };

	put_chunk(w, &chunk, mode);
}

/*
 * "a simple reply MAY be used as a reply to any request other than NBD_CMD_READ, but only if the
 * reply has no data payload"; "The server SHOULD prefer sending errors via a structured reply".
 */
static bool is_simple(const struct nbd_request *req, const struct nbd_mode *mode, uint32_t error)
{
	if (!mode->structured)
		return true;
	return !mode->extended && error == NBD_OK && req->type != NBD_CMD_READ &&
	       req->type != NBD_CMD_BLOCK_STATUS;
}

static size_t put_simple(uint8_t *out, const struct nbd_request *req, uint32_t error)
{
	struct nbd_simple_reply rep = { .error = error, .cookie = req->cookie };

	nbd_simple_reply_encode(&rep, out);
	return NBD_SIMPLE_REPLY_SIZE;
}

size_t nbd_reply_encode(uint8_t out[static NBD_REPLY_MAX], const struct nbd_request *req,
			const struct nbd_mode *mode, uint32_t error)
{
	struct wire_writer w = wire_writer(out, NBD_REPLY_MAX);

	if (is_simple(req, mode, error))
		return put_simple(out, req, error);
	if (error == NBD_OK) {
		put_last_chunk(&w, req, mode, NBD_REPLY_TYPE_NONE, 0);
	} else {
		put_last_chunk(&w, req, mode, NBD_REPLY_TYPE_ERROR, 4 + 2);
		wire_put_u32(&w, error);
		wire_put_u16(&w, 0); /* no words: the number says it all */
	}
	return wire_used(&w);
}

size_t nbd_read_head_encode(uint8_t out[static NBD_REPLY_MAX], const struct nbd_request *req,
			    const struct nbd_mode *mode)
{
	struct wire_writer w = wire_writer(out, NBD_REPLY_MAX);

	/* "each chunk MUST describe at least one byte" */
	if (!mode->structured || req->length == 0)
		return nbd_reply_encode(out, req, mode, NBD_OK);
	put_last_chunk(&w, req, mode, NBD_REPLY_TYPE_OFFSET_DATA, 8 + req->length);
	wire_put_u64(&w, req->offset);
	return wire_used(&w);
}

/* ---- block status ------------------------------------------------------------------------ */

size_t nbd_extents_fit(struct nbd_extent *extents, size_t n, const struct nbd_request *req,
		       const struct nbd_mode *mode)
{
	bool is_one = req->flags & NBD_CMD_FLAG_REQ_ONE;
	uint64_t limit = mode->extended ? UINT64_MAX : UINT32_MAX - (COMPACT_EXTENT_ALIGN - 1);
	uint64_t covered = 0; /* by what is in the list, its last one included */
	size_t used = 0;

	if (is_one && req->length < limit)
		limit = req->length;
	for (size_t i = 0; i < n; i++) {
		struct nbd_extent e = extents[i];
		struct nbd_extent *last = used > 0 ? &extents[used - 1] : NULL;
		uint64_t room;

		if (e.length == 0)
			continue;
		if (!last || last->flags != e.flags) {
			/* "the sum of the length fields of the first N-1 extents MUST be less than
			 * the requested length" */
			if (used > 0 && (is_one || covered >= req->length))
				break;
			if (used == NBD_EXTENTS_MAX)
				break;
			last = &extents[used++];
			*last = (struct nbd_extent){ .flags = e.flags };
		}
		room = limit - last->length;
		if (e.length > room) { /* what follows would not be consecutive */
			last->length += room;
			break;
		}
		last->length += e.length;
		covered += e.length;
	}
	return used;
}

size_t nbd_block_status_head_encode(uint8_t out[static NBD_REPLY_MAX],
				    const struct nbd_request *req, const struct nbd_mode *mode,
				    size_t n)
{
	struct wire_writer w = wire_writer(out, NBD_REPLY_MAX);

	assert(mode->structured && n > 0 && n <= NBD_EXTENTS_MAX);
	if (mode->extended) {
		put_last_chunk(&w, req, mode, NBD_REPLY_TYPE_BLOCK_STATUS_EXT,
			       4 + 4 + (uint64_t)n * EXTENDED_EXTENT_SIZE);
		wire_put_u32(&w, mode->context_id);
		wire_put_u32(&w, (uint32_t)n);
	} else {
		put_last_chunk(&w, req, mode, NBD_REPLY_TYPE_BLOCK_STATUS,
			       4 + (uint64_t)n * EXTENT_SIZE);
		wire_put_u32(&w, mode->context_id);
	}
	return wire_used(&w);
}

size_t nbd_extent_encode(uint8_t out[static NBD_EXTENT_MAX], const struct nbd_extent *extent,
			 const struct nbd_mode *mode)
{
	struct wire_writer w = wire_writer(out, NBD_EXTENT_MAX);

	if (mode->extended) {
		wire_put_u64(&w, extent->length);
		wire_put_u64(&w, extent->flags);
	} else {
		assert(extent->length <= UINT32_MAX && extent->flags <= UINT32_MAX);
		wire_put_u32(&w, (uint32_t)extent->length);
		wire_put_u32(&w, (uint32_t)extent->flags);
	}
	return wire_used(&w);
}

void nbd_extent_decode(struct nbd_extent *extent, const struct nbd_mode *mode, const uint8_t *in)
{
	struct wire_reader r = wire_reader(in, mode->extended ? EXTENDED_EXTENT_SIZE : EXTENT_SIZE);

	extent->length = mode->extended ? wire_u64(&r) : wire_u32(&r);
	extent->flags = mode->extended ? wire_u64(&r) : wire_u32(&r);
}
