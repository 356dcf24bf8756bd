/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See request.h. */
#include "request.h"

#include "wire.h"

#include <assert.h>

static void put_head(struct wire_writer *w, uint32_t magic, const struct nbd_request *req)
{
	wire_put_u32(w, magic);
	wire_put_u16(w, req->flags);
	wire_put_u16(w, req->type);
	wire_put_u64(w, req->cookie);
	wire_put_u64(w, req->offset);
}

static bool take_head(struct wire_reader *r, uint32_t magic, struct nbd_request *req)
{
	if (wire_u32(r) != magic)
		return false;
	req->flags = wire_u16(r);
	req->type = wire_u16(r);
	req->cookie = wire_u64(r);
	req->offset = wire_u64(r);
	return true;
}

void nbd_request_encode(const struct nbd_request *req, uint8_t out[static NBD_REQUEST_SIZE])
{
	struct wire_writer w = wire_writer(out, NBD_REQUEST_SIZE);

	assert(req->length <= UINT32_MAX); /* the caller's own request */
	put_head(&w, NBD_REQUEST_MAGIC, req);
	wire_put_u32(&w, (uint32_t)req->length);
}

void nbd_extended_request_encode(const struct nbd_request *req,
				 uint8_t out[static NBD_EXTENDED_REQUEST_SIZE])
{
	struct wire_writer w = wire_writer(out, NBD_EXTENDED_REQUEST_SIZE);

	put_head(&w, NBD_EXTENDED_REQUEST_MAGIC, req);
	wire_put_u64(&w, req->length);
}

bool nbd_request_decode(struct nbd_request *req, const uint8_t in[static NBD_REQUEST_SIZE])
{
	struct wire_reader r = wire_reader(in, NBD_REQUEST_SIZE);

	if (!take_head(&r, NBD_REQUEST_MAGIC, req))
		return false;
	req->length = wire_u32(&r);
	return true;
}

bool nbd_extended_request_decode(struct nbd_request *req,
				 const uint8_t in[static NBD_EXTENDED_REQUEST_SIZE])
{
	struct wire_reader r = wire_reader(in, NBD_EXTENDED_REQUEST_SIZE);

	if (!take_head(&r, NBD_EXTENDED_REQUEST_MAGIC, req))
		return false;
	req->length = wire_u64(&r);
	return true;
}

uint64_t nbd_request_payload(const struct nbd_request *req, const struct nbd_mode *mode)
{
	bool has_payload = mode->extended ? (req->flags & NBD_CMD_FLAG_PAYLOAD_LEN) != 0
					  : req->type == NBD_CMD_WRITE;

	return has_payload ? req->length : 0;
}

uint16_t nbd_mode_flags(const struct nbd_mode *mode, uint16_t flags)
{
	unsigned hidden = 0;

	if (!mode->structured)
		hidden |= NBD_FLAG_SEND_DF;
	if (!mode->extended)
		hidden |= NBD_FLAG_BLOCK_STATUS_PAYLOAD;
	return (uint16_t)(flags & ~hidden);
}

static bool is_inside(const struct nbd_request *req, uint64_t size)
{
	return req->offset <= size && req->length <= size - req->offset;
}

/* A command's own flag needs the transmission flag that announces the command. */
static bool is_announced(uint16_t type, uint16_t flags, const struct nbd_mode *mode)
{
	switch (type) {
	case NBD_CMD_READ:
	case NBD_CMD_WRITE: return true;
	case NBD_CMD_FLUSH: return flags & NBD_FLAG_SEND_FLUSH;
	case NBD_CMD_TRIM: return flags & NBD_FLAG_SEND_TRIM;
	case NBD_CMD_CACHE: return flags & NBD_FLAG_SEND_CACHE;
	case NBD_CMD_WRITE_ZEROES: return flags & NBD_FLAG_SEND_WRITE_ZEROES;
	/* "Metadata querying": EINVAL for clients that have not selected a context */
	case NBD_CMD_BLOCK_STATUS: return mode->structured && mode->has_base_allocation;
	default: return false;
	}
}

static uint16_t allowed_flags(uint16_t type, uint16_t flags, const struct nbd_mode *mode)
{
	unsigned allowed = 0;

	/* "Command flags": FUA is to be accepted on every command once it is announced. */
	if (flags & NBD_FLAG_SEND_FUA)
		allowed |= NBD_CMD_FLAG_FUA;
	if (type == NBD_CMD_WRITE_ZEROES) {
		allowed |= NBD_CMD_FLAG_NO_HOLE;
		if (flags & NBD_FLAG_SEND_FAST_ZERO)
			allowed |= NBD_CMD_FLAG_FAST_ZERO;
	}
	if (type == NBD_CMD_READ && (flags & NBD_FLAG_SEND_DF))
		allowed |= NBD_CMD_FLAG_DF;
	if (type == NBD_CMD_BLOCK_STATUS)
		allowed |= NBD_CMD_FLAG_REQ_ONE;
	/* The payload of a block status, a filter of contexts, is not offered: there is one. */
	if (type == NBD_CMD_WRITE && mode->extended)
		allowed |= NBD_CMD_FLAG_PAYLOAD_LEN;
	return (uint16_t)allowed;
}

/* The command has its flags as it must. */
static bool has_right_flags(const struct nbd_request *req, uint16_t flags,
			    const struct nbd_mode *mode)
{
	if (req->flags & ~allowed_flags(req->type, flags, mode))
		return false;
	/* "With extended headers, the flag MUST be set for NBD_CMD_WRITE" */
	return req->type != NBD_CMD_WRITE || !mode->extended ||
	       (req->flags & NBD_CMD_FLAG_PAYLOAD_LEN);
}

static uint32_t outside_error(uint16_t type)
{
	return type == NBD_CMD_WRITE || type == NBD_CMD_WRITE_ZEROES ? NBD_ENOSPC : NBD_EINVAL;
}

/* A structured chunk has an offset before its data, and 32 bits for the length of both. */
static uint32_t largest_read(const struct nbd_export_info *info, const struct nbd_mode *mode)
{
	bool is_compact = mode->structured && !mode->extended;

	return is_compact && info->block_max > UINT32_MAX - 8 ? UINT32_MAX - 8 : info->block_max;
}

uint32_t nbd_request_check(const struct nbd_request *req, const struct nbd_export_info *info,
			   const struct nbd_mode *mode)
{
	uint16_t flags = nbd_mode_flags(mode, info->flags);
	bool is_change = nbd_request_is_change(req);

	if (is_change && (flags & NBD_FLAG_READ_ONLY))
		return NBD_EPERM;
	if (!is_announced(req->type, flags, mode) || !has_right_flags(req, flags, mode))
		return NBD_EINVAL;
	if (req->type == NBD_CMD_FLUSH) /* "offset and length MUST be zero": harmless otherwise */
		return NBD_OK;
	if (!is_inside(req, info->size))
		return outside_error(req->type);
	/* "Size constraints": EINVAL for what is not aligned. */
	if (info->block_min > 1 &&
	    (req->offset % info->block_min != 0 || req->length % info->block_min != 0))
		return NBD_EINVAL;
	/* The reply has at least one extent, and no extent may be longer than the request. */
	if (req->type == NBD_CMD_BLOCK_STATUS && req->length == 0)
		return NBD_EINVAL;
	if (req->type == NBD_CMD_WRITE && req->length > info->block_max)
		return NBD_EINVAL;
	/* "permitted to reject large read requests up front with NBD_EOVERFLOW": with chunks only
	 */
	if (req->type == NBD_CMD_READ && req->length > largest_read(info, mode))
		return mode->structured ? NBD_EOVERFLOW : NBD_EINVAL;
	return NBD_OK;
}
