/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who a client is: its address, its name in log lines, and whether a rule admits it. Addresses
 * are compared as numbers, never as text (CVE-2013-6410 was a comparison of prefixes of text).
 * An IPv4 client of an IPv6 socket is an IPv4 client here.
 */
#ifndef NBDSERVE_ADDRESS_H
#define NBDSERVE_ADDRESS_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct address {
	enum { ADDRESS_UNIX, ADDRESS_IPV4, ADDRESS_IPV6 } family;
	uint32_t scope; /* the interface of a link-local address, else 0 */
	uint8_t bytes[16];
};

enum { ADDRESS_TEXT_MAX = 96 };

struct peer {
	struct address address;
	bool is_here;                /* over TCP, and on this machine */
	char text[ADDRESS_TEXT_MAX]; /* "10.0.0.5:4711", "a local process (pid 12, uid 0)" */
};

struct cidr {
	struct address base;
	unsigned prefix; /* bits */
};

/* The other end of a connected socket. 0, or negative errno when it is already gone. */
int peer_of_socket(int fd, struct peer *out) _must_check_;

/*
 * The same machine, whatever the port; of unix sockets, the same process: its connection is gone
 * with it, so nobody ever has to take over from another.
 */
bool address_is_same(const struct address *a, const struct address *b);

/*
 * "10.0.0.0/8", "fe80::/10", or a whole address. False with words in err: not an address, or
 * bits are set beyond the prefix, which is a slip of somebody's finger.
 */
bool cidr_parse(const char *text, struct cidr *out, char *err, size_t err_size) _must_check_;

/* Clients of unix sockets match no rule; their guard is the permissions of the socket's file. */
bool cidr_matches(const struct cidr *rule, const struct address *a);

#endif
