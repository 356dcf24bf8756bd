/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Heads of requests and simple replies: host order in the structs, big-endian on the wire, and
 * what a server must answer to a request before it touches its disk. Structured replies are not
 * here: the kernel's client does not speak them.
 */
#ifndef PROTO_REQUEST_H
#define PROTO_REQUEST_H

#include "nbd.h"

#include <stdbool.h>

/* "Request message" */
enum { NBD_REQUEST_SIZE = 28 };

struct nbd_request {
	uint16_t flags, type;
	uint64_t cookie, offset;
	uint32_t length;
};

/* "Simple reply message" */
enum { NBD_SIMPLE_REPLY_SIZE = 16 };

struct nbd_simple_reply {
	uint32_t error;
	uint64_t cookie;
};

void nbd_request_encode(const struct nbd_request *req, uint8_t out[static NBD_REQUEST_SIZE]);

/* False: the magic is wrong, the stream is not in step and cannot be used any more. */
bool nbd_request_decode(struct nbd_request *req, const uint8_t in[static NBD_REQUEST_SIZE]);

void nbd_simple_reply_encode(const struct nbd_simple_reply *rep,
			     uint8_t out[static NBD_SIMPLE_REPLY_SIZE]);

/* False: the magic is wrong (or this is a structured reply, which was not negotiated). */
bool nbd_simple_reply_decode(struct nbd_simple_reply *rep,
			     const uint8_t in[static NBD_SIMPLE_REPLY_SIZE]);

/*
 * Whether an export allows a request: NBD_OK, or the error that "Error values" names for it.
 * Knows nothing of payloads: a refused write's must still be read and thrown away.
 */
uint32_t nbd_request_check(const struct nbd_request *req, const struct nbd_export_info *info);

#endif
