/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Heads of requests, compact and extended: host order in the struct, big-endian on the wire, and
 * what a server must answer to a request before it touches its disk. Which of the two heads is
 * used, and what a request may ask for, is what the connection has negotiated: struct nbd_mode.
 */
#ifndef PROTO_REQUEST_H
#define PROTO_REQUEST_H

#include "nbd.h"

#include <stddef.h>

/* "Request message" */
enum { NBD_REQUEST_SIZE = 28, NBD_EXTENDED_REQUEST_SIZE = 32 };

struct nbd_request {
	uint16_t flags, type;
	uint64_t cookie, offset;
	uint64_t length; /* at most UINT32_MAX in a compact head */
};

void nbd_request_encode(const struct nbd_request *req, uint8_t out[static NBD_REQUEST_SIZE]);
void nbd_extended_request_encode(const struct nbd_request *req,
				 uint8_t out[static NBD_EXTENDED_REQUEST_SIZE]);

/* False: the magic is wrong, the stream is not in step and cannot be used any more. */
bool nbd_request_decode(struct nbd_request *req, const uint8_t in[static NBD_REQUEST_SIZE]);
bool nbd_extended_request_decode(struct nbd_request *req,
				 const uint8_t in[static NBD_EXTENDED_REQUEST_SIZE]);

/* How long a request's head is. */
static inline size_t nbd_request_head_size(const struct nbd_mode *mode)
{
	return mode->extended ? NBD_EXTENDED_REQUEST_SIZE : NBD_REQUEST_SIZE;
}

/*
 * How many bytes follow the head on the wire, whether or not the request is allowed: a refused
 * one's must be read and thrown away. The number is the client's word and may be anything up to
 * UINT64_MAX: more than both nbd_export_info.block_max and NBD_DEFAULT_BLOCK_MAX is a reason to
 * close the connection ("Size constraints").
 */
uint64_t nbd_request_payload(const struct nbd_request *req, const struct nbd_mode *mode);

/* Whether it would change what is on the disk. */
static inline bool nbd_request_is_change(const struct nbd_request *req)
{
	return req->type == NBD_CMD_WRITE || req->type == NBD_CMD_TRIM ||
	       req->type == NBD_CMD_WRITE_ZEROES;
}

/*
 * An export's transmission flags as this connection is to see them: those that the specification
 * forbids without structured replies or extended headers are cleared.
 */
uint16_t nbd_mode_flags(const struct nbd_mode *mode, uint16_t flags);

/*
 * Whether an export allows a request: NBD_OK, or the error that "Error values" names for it. Not
 * for NBD_CMD_DISC, which has no answer. After NBD_OK a range lies inside the export, the length
 * of a read or write is at most block_max, and a block status has at least one byte.
 */
uint32_t nbd_request_check(const struct nbd_request *req, const struct nbd_export_info *info,
			   const struct nbd_mode *mode);

#endif
