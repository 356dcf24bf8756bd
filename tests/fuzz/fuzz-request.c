/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any 28 or 32 bytes as a request to any export in any mode (14 bytes before them: size, flags,
 * smallest block and mode), the same bytes as a reply's head, and what follows as the extents of a
 * block status. What is decoded is encoded to the same bytes; what is allowed lies inside the
 * export and does not write to a read-only one; every reply can be read back, by the length that
 * it says, as the answer to the request.
 */
#include "proto/names.h"
#include "proto/reply.h"
#include "proto/request.h"

#include "proto/wire.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { EXTENTS = 64 };

static void must(bool is_true)
{
	if (!is_true)
		abort();
}

static void check_allowed(const struct nbd_request *req, const struct nbd_export_info *info,
			  const struct nbd_mode *mode)
{
	uint64_t end;

	must(req->type <= NBD_CMD_BLOCK_STATUS && req->type != NBD_CMD_DISC);
	if (req->type != NBD_CMD_FLUSH) {
		must(!__builtin_add_overflow(req->offset, req->length, &end) && end <= info->size);
		must(req->offset % info->block_min == 0 && req->length % info->block_min == 0);
	}
	if (req->type == NBD_CMD_READ || req->type == NBD_CMD_WRITE)
		must(req->length <= info->block_max);
	if (req->type == NBD_CMD_BLOCK_STATUS)
		must(mode->structured && mode->has_base_allocation && req->length > 0);
	must(nbd_request_payload(req, mode) == (req->type == NBD_CMD_WRITE ? req->length : 0));
	if (info->flags & NBD_FLAG_READ_ONLY)
		must(req->type != NBD_CMD_WRITE && req->type != NBD_CMD_TRIM &&
		     req->type != NBD_CMD_WRITE_ZEROES);
	if (req->flags & NBD_CMD_FLAG_FUA)
		must(info->flags & NBD_FLAG_SEND_FUA);
	if (req->flags & NBD_CMD_FLAG_DF)
		must(mode->structured);
}

/* Reads the head of a reply; returns its size, *length what it says of the rest. */
static size_t read_head(const uint8_t *out, const struct nbd_request *req,
			const struct nbd_mode *mode, uint16_t *type, uint64_t *length)
{
	struct nbd_simple_reply rep;
	struct nbd_chunk chunk;

	if (nbd_simple_reply_decode(&rep, out)) {
		must(!mode->extended && rep.cookie == req->cookie);
		*type = NBD_REPLY_TYPE_NONE;
		*length = 0;
		return NBD_SIMPLE_REPLY_SIZE;
	}
	must(mode->structured && nbd_chunk_decode(&chunk, mode, out));
	must(chunk.flags == NBD_REPLY_FLAG_DONE && chunk.cookie == req->cookie);
	must(chunk.offset == (mode->extended ? req->offset : 0));
	*type = chunk.type;
	*length = chunk.length;
	return nbd_chunk_head_size(mode);
}

static void check_replies(const struct nbd_request *req, const struct nbd_mode *mode, bool is_ok)
{
	uint8_t out[NBD_REPLY_MAX];
	uint64_t length;
	uint16_t type;
	size_t size;

	size = nbd_reply_encode(out, req, mode, NBD_EIO);
	must(read_head(out, req, mode, &type, &length) + length == size);
	must(type == (mode->structured ? NBD_REPLY_TYPE_ERROR : NBD_REPLY_TYPE_NONE));
	size = nbd_reply_encode(out, req, mode, NBD_OK);
	must(read_head(out, req, mode, &type, &length) + length == size);
	must(type == NBD_REPLY_TYPE_NONE);
	if (!is_ok || req->type != NBD_CMD_READ)
		return;
	size = nbd_read_head_encode(out, req, mode);
	must(size <= NBD_REPLY_MAX);
	if (read_head(out, req, mode, &type, &length) < size) {
		must(type == NBD_REPLY_TYPE_OFFSET_DATA && length == 8 + req->length);
		must(req->length > 0);
	} else {
		must(type == NBD_REPLY_TYPE_NONE && (!mode->structured || req->length == 0));
	}
}

/* The rules of "Structured reply types" for a list of n extents. */
static void check_extents(const struct nbd_extent *list, size_t n, const struct nbd_request *req,
			  const struct nbd_mode *mode)
{
	uint64_t before_last = 0;

	if (req->flags & NBD_CMD_FLAG_REQ_ONE)
		must(n == 1 && list[0].length <= req->length);
	for (size_t i = 0; i < n; i++) {
		uint8_t out[NBD_EXTENT_MAX];
		struct nbd_extent back;

		must(list[i].length > 0 && (mode->extended || list[i].length <= UINT32_MAX));
		must(i == 0 || list[i].flags != list[i - 1].flags);
		must(nbd_extent_encode(out, &list[i], mode) == (mode->extended ? 16 : 8));
		nbd_extent_decode(&back, mode, out);
		must(back.length == list[i].length && back.flags == list[i].flags);
		if (i + 1 < n)
			before_last += list[i].length;
	}
	must(before_last < req->length);
}

static void check_block_status(struct wire_reader *r, const struct nbd_request *req,
			       const struct nbd_mode *mode)
{
	struct nbd_extent list[EXTENTS];
	uint8_t out[NBD_REPLY_MAX];
	uint64_t length, sum = 0, sent = 0;
	uint16_t type;
	size_t n = 0, fit, size;

	while (n < EXTENTS && wire_left(r) >= 6) {
		uint8_t kind = wire_u8(r), shift = wire_u8(r);

		list[n].length = (uint64_t)wire_u32(r) << shift % 24;
		list[n].flags = kind & (NBD_STATE_HOLE | NBD_STATE_ZERO);
		sum += list[n++].length;
	}
	fit = nbd_extents_fit(list, n, req, mode);
	must(fit <= n && (fit == 0) == (sum == 0));
	for (size_t i = 0; i < fit; i++)
		sent += list[i].length;
	must(sent <= sum);
	if (fit == 0)
		return;
	check_extents(list, fit, req, mode);
	size = nbd_block_status_head_encode(out, req, mode, fit);
	must(read_head(out, req, mode, &type, &length) + length ==
	     size + fit * (mode->extended ? 16 : 8));
	must(type ==
	     (mode->extended ? NBD_REPLY_TYPE_BLOCK_STATUS_EXT : NBD_REPLY_TYPE_BLOCK_STATUS));
}

static void check_heads(const uint8_t *in, const struct nbd_mode *mode)
{
	uint8_t out[NBD_EXTENDED_CHUNK_SIZE];
	struct nbd_simple_reply rep;
	struct nbd_chunk chunk;

	if (nbd_simple_reply_decode(&rep, in)) {
		nbd_simple_reply_encode(&rep, out);
		must(memcmp(out, in, NBD_SIMPLE_REPLY_SIZE) == 0);
	}
	if (nbd_chunk_decode(&chunk, mode, in)) {
		nbd_chunk_encode(&chunk, mode, out);
		must(memcmp(out, in, nbd_chunk_head_size(mode)) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wire_reader r = wire_reader(data, size);
	struct nbd_export_info info = { .block_preferred = 4096, .block_max = 65536 };
	struct nbd_mode mode = { .context_id = 1 };
	uint8_t out[NBD_EXTENDED_REQUEST_SIZE];
	struct nbd_request req;
	const uint8_t *in;
	uint32_t choice;
	char words[64];
	bool is_ok;

	info.size = wire_u64(&r);
	info.flags = wire_u16(&r);
	choice = wire_u32(&r);
	info.block_min = UINT32_C(1) << (choice & 16 ? 9 : 0);
	if (choice & 8)
		info.block_max = UINT32_MAX;
	mode.extended = choice & 2;
	mode.structured = mode.extended || (choice & 1);
	mode.has_base_allocation = choice & 4;
	in = wire_bytes(&r, nbd_request_head_size(&mode));
	if (!in)
		return 0;
	check_heads(in, &mode);
	if (mode.extended ? !nbd_extended_request_decode(&req, in) : !nbd_request_decode(&req, in))
		return 0;
	if (mode.extended)
		nbd_extended_request_encode(&req, out);
	else
		nbd_request_encode(&req, out);
	must(memcmp(out, in, nbd_request_head_size(&mode)) == 0);
	is_ok = nbd_request_check(&req, &info, &mode) == NBD_OK;
	if (is_ok)
		check_allowed(&req, &info, &mode);
	if (nbd_request_payload(&req, &mode) > 0)
		must(mode.extended || req.type == NBD_CMD_WRITE);
	check_replies(&req, &mode, is_ok);
	if (is_ok && req.type == NBD_CMD_BLOCK_STATUS)
		check_block_status(&r, &req, &mode);
	must(nbd_cmd_name(req.type) != NULL);
	must(strlen(nbd_flags_text(info.flags, words, sizeof(words))) < sizeof(words));
	return 0;
}
