/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any 28 bytes as a request to any export (14 bytes before them: size, flags, smallest block),
 * and their first 16 as a reply. What is decoded is encoded to the same bytes; what is allowed
 * lies inside the export and does not write to a read-only one.
 */
#include "proto/names.h"
#include "proto/request.h"

#include "proto/wire.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool is_true)
{
	if (!is_true)
		abort();
}

static void check_allowed(const struct nbd_request *req, const struct nbd_export_info *info)
{
	uint64_t end;

	must(req->type <= NBD_CMD_WRITE_ZEROES && req->type != NBD_CMD_DISC);
	if (req->type != NBD_CMD_FLUSH) {
		must(!__builtin_add_overflow(req->offset, req->length, &end) && end <= info->size);
		must(req->offset % info->block_min == 0 && req->length % info->block_min == 0);
	}
	if (req->type == NBD_CMD_READ || req->type == NBD_CMD_WRITE)
		must(req->length <= info->block_max);
	if (info->flags & NBD_FLAG_READ_ONLY)
		must(req->type != NBD_CMD_WRITE && req->type != NBD_CMD_TRIM &&
		     req->type != NBD_CMD_WRITE_ZEROES);
	if (req->flags & NBD_CMD_FLAG_FUA)
		must(info->flags & NBD_FLAG_SEND_FUA);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wire_reader r = wire_reader(data, size);
	struct nbd_export_info info = { .block_preferred = 4096, .block_max = 65536 };
	uint8_t request[NBD_REQUEST_SIZE], reply[NBD_SIMPLE_REPLY_SIZE];
	struct nbd_simple_reply rep;
	struct nbd_request req;
	const uint8_t *in;
	char words[64];

	info.size = wire_u64(&r);
	info.flags = wire_u16(&r);
	info.block_min = UINT32_C(1) << (wire_u32(&r) & 16 ? 9 : 0);
	in = wire_bytes(&r, NBD_REQUEST_SIZE);
	if (!in)
		return 0;
	if (nbd_request_decode(&req, in)) {
		nbd_request_encode(&req, request);
		must(memcmp(request, in, sizeof(request)) == 0);
		if (nbd_request_check(&req, &info) == NBD_OK)
			check_allowed(&req, &info);
		must(nbd_cmd_name(req.type) != NULL);
		must(strlen(nbd_flags_text(info.flags, words, sizeof(words))) < sizeof(words));
	}
	if (nbd_simple_reply_decode(&rep, in)) {
		nbd_simple_reply_encode(&rep, reply);
		must(memcmp(reply, in, sizeof(reply)) == 0);
	}
	return 0;
}
