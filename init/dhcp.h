/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The first lease: DHCP messages (RFC 2131, 2132, 3396, 3397, 3442), bytes in and bytes out. No
 * socket, no clock: net-dhcp.c has those. What a server sends is any bytes; what comes out of here
 * is a lease that can be set and written down as it is (lease.h).
 */
#ifndef INIT_DHCP_H
#define INIT_DHCP_H

#include "lease.h"

#include <stddef.h>
#include <stdint.h>

/* Option 60, of all our messages: a server may give a root path to these alone. */
#define DHCP_VENDOR "nbdroot"

enum {
	DHCP_SERVER_PORT = 67,
	DHCP_CLIENT_PORT = 68,
	DHCP_MESSAGE_MAX = 576, /* what we send; RFC 2131: what everybody takes */
	DHCP_REPLY_MAX = 1500,
};

enum dhcp_type {
	DHCP_DISCOVER = 1,
	DHCP_OFFER = 2,
	DHCP_REQUEST = 3,
	DHCP_ACK = 5,
	DHCP_NAK = 6,
};

enum { DHCP_E_NOT_OURS = 1 /* malformed, or another's; nothing to be said about it */ };

/* Addresses are in the host's byte order; 0: none. */
struct dhcp_request {
	enum dhcp_type type; /* DHCP_DISCOVER or DHCP_REQUEST */
	uint32_t xid;
	uint8_t mac[6];
	uint16_t seconds; /* since the first one */
	uint32_t wanted;  /* the address to ask for */
	uint32_t server;  /* whose offer is taken */
	const char *host; /* NULL: none */
};

struct dhcp_reply {
	enum dhcp_type type;
	uint32_t address, server;
	uint32_t lease_s;
	unsigned int mtu; /* 0: none */
	struct lease lease;
	char left_out[96]; /* what it has that nobody can use: "host name, root path" */
};

/* The message's size. Same identity as udhcpc, which goes on with the lease: 61 is 01 and the MAC.
 */
size_t dhcp_write(const struct dhcp_request *q, uint8_t out[static DHCP_MESSAGE_MAX]);

/* An offer, an acknowledgement or a refusal that answers q. 0 or DHCP_E_NOT_OURS. */
int dhcp_read(const struct dhcp_request *q, const uint8_t *data, size_t size,
	      struct dhcp_reply *out) _must_check_;

#endif
