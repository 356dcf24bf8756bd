/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See request.h. */
#include "request.h"

#include "wire.h"

void nbd_request_encode(const struct nbd_request *req, uint8_t out[static NBD_REQUEST_SIZE])
{
	struct wire_writer w = wire_writer(out, NBD_REQUEST_SIZE);

	wire_put_u32(&w, NBD_REQUEST_MAGIC);
	wire_put_u16(&w, req->flags);
	wire_put_u16(&w, req->type);
	wire_put_u64(&w, req->cookie);
	wire_put_u64(&w, req->offset);
	wire_put_u32(&w, req->length);
}

bool nbd_request_decode(struct nbd_request *req, const uint8_t in[static NBD_REQUEST_SIZE])
{
	struct wire_reader r = wire_reader(in, NBD_REQUEST_SIZE);

	if (wire_u32(&r) != NBD_REQUEST_MAGIC)
		return false;
	req->flags = wire_u16(&r);
	req->type = wire_u16(&r);
	req->cookie = wire_u64(&r);
	req->offset = wire_u64(&r);
	req->length = wire_u32(&r);
	return true;
}

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

static bool is_inside(const struct nbd_request *req, uint64_t size)
{
	return req->offset <= size && req->length <= size - req->offset;
}

/* A command's own flag needs the transmission flag that announces the command. */
static bool is_announced(const struct nbd_request *req, uint16_t flags)
{
	switch (req->type) {
	case NBD_CMD_READ:
	case NBD_CMD_WRITE: return true;
	case NBD_CMD_FLUSH: return flags & NBD_FLAG_SEND_FLUSH;
	case NBD_CMD_TRIM: return flags & NBD_FLAG_SEND_TRIM;
	case NBD_CMD_CACHE: return flags & NBD_FLAG_SEND_CACHE;
	case NBD_CMD_WRITE_ZEROES: return flags & NBD_FLAG_SEND_WRITE_ZEROES;
	default: return false;
	}
}

static uint16_t allowed_flags(uint16_t type, uint16_t flags)
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
	return (uint16_t)allowed;
}

uint32_t nbd_request_check(const struct nbd_request *req, const struct nbd_export_info *info)
{
	bool is_write = req->type == NBD_CMD_WRITE || req->type == NBD_CMD_TRIM ||
			req->type == NBD_CMD_WRITE_ZEROES;

	if (is_write && (info->flags & NBD_FLAG_READ_ONLY))
		return NBD_EPERM;
	if (!is_announced(req, info->flags))
		return NBD_EINVAL;
	if (req->flags & ~allowed_flags(req->type, info->flags))
		return NBD_EINVAL;
	if (req->type == NBD_CMD_FLUSH) /* "offset and length MUST be zero": harmless otherwise */
		return NBD_OK;
	if (!is_inside(req, info->size))
		return is_write && req->type != NBD_CMD_TRIM ? NBD_ENOSPC : NBD_EINVAL;
	/* "Block size constraints": EINVAL is allowed for both. */
	if (info->block_min > 1 &&
	    (req->offset % info->block_min != 0 || req->length % info->block_min != 0))
		return NBD_EINVAL;
	if ((req->type == NBD_CMD_READ || req->type == NBD_CMD_WRITE) &&
	    req->length > info->block_max)
		return NBD_EINVAL; /* NBD_EOVERFLOW is kept for reads with NBD_CMD_FLAG_DF */
	return NBD_OK;
}
