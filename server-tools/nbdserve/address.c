/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See address.h. */
#include "address.h"

#include "base/parse.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static void from_ipv4(struct address *out, const void *bytes)
{
	*out = (struct address){ .family = ADDRESS_IPV4 };
	memcpy(out->bytes, bytes, 4);
}

static int from_sockaddr(const struct sockaddr_storage *ss, struct address *out, unsigned *port)
{
	if (ss->ss_family == AF_INET) {
		const struct sockaddr_in *in4 = (const struct sockaddr_in *)ss;

		from_ipv4(out, &in4->sin_addr);
		*port = ntohs(in4->sin_port);
		return 0;
	}
	if (ss->ss_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)ss;

		*port = ntohs(in6->sin6_port);
		if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
			from_ipv4(out, in6->sin6_addr.s6_addr + 12);
			return 0;
		}
		*out = (struct address){ .family = ADDRESS_IPV6, .scope = in6->sin6_scope_id };
		memcpy(out->bytes, in6->sin6_addr.s6_addr, 16);
		return 0;
	}
	return -EAFNOSUPPORT;
}

/* Whether both ends of a connection are on this machine: the same address, or two of 127/8. */
static bool is_here(int fd, const struct address *peer)
{
	struct sockaddr_storage ss = { .ss_family = AF_UNSPEC };
	socklen_t size = sizeof(ss);
	struct address own;
	unsigned port;

	if (getsockname(fd, (struct sockaddr *)&ss, &size) < 0 ||
	    from_sockaddr(&ss, &own, &port) < 0)
		return false;
	return address_is_same(&own, peer) || (own.family == ADDRESS_IPV4 && own.bytes[0] == 127);
}

int peer_of_socket(int fd, struct peer *out)
{
	struct sockaddr_storage ss = { .ss_family = AF_UNSPEC };
	socklen_t size = sizeof(ss);
	char host[INET6_ADDRSTRLEN];
	unsigned port;
	int r;

	if (getpeername(fd, (struct sockaddr *)&ss, &size) < 0)
		return -errno;
	if (ss.ss_family == AF_UNIX) {
		struct ucred cred = { 0 };

		out->address = (struct address){ .family = ADDRESS_UNIX };
		out->is_here = false;
		size = sizeof(cred);
		if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) < 0)
			return -errno;
		memcpy(out->address.bytes, &cred.pid, sizeof(cred.pid));
		snprintf(out->text, sizeof(out->text), "a local process (pid %ld, uid %lu)",
			 (long)cred.pid, (unsigned long)cred.uid);
		return 0;
	}

	r = from_sockaddr(&ss, &out->address, &port);
	if (r < 0)
		return r;
	out->is_here = is_here(fd, &out->address);
	if (out->address.family == ADDRESS_IPV4) {
		inet_ntop(AF_INET, out->address.bytes, host, sizeof(host));
		snprintf(out->text, sizeof(out->text), "%s:%u", host, port);
	} else {
		inet_ntop(AF_INET6, out->address.bytes, host, sizeof(host));
		snprintf(out->text, sizeof(out->text), "[%s]:%u", host, port);
	}
	return 0;
}

bool address_is_same(const struct address *a, const struct address *b)
{
	return a->family == b->family && a->scope == b->scope &&
	       memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

/* Whether the bits of a and b from the first to the one before `to` are equal. */
static bool bits_are_equal(const uint8_t *a, const uint8_t *b, unsigned to)
{
	uint8_t mask = (uint8_t)(0xff00 >> to % 8);

	if (memcmp(a, b, to / 8) != 0)
		return false;
	return to % 8 == 0 || ((a[to / 8] ^ b[to / 8]) & mask) == 0;
}

bool cidr_parse(const char *text, struct cidr *out, char *err, size_t err_size)
{
	const char *slash = strchr(text, '/');
	size_t length = slash ? (size_t)(slash - text) : strlen(text);
	uint8_t masked[16] = { 0 };
	char host[INET6_ADDRSTRLEN];
	struct address base = { 0 };
	uint64_t prefix;
	unsigned bits;

	if (length >= sizeof(host)) {
		snprintf(err, err_size, "\"%s\" is not an IP address or network", text);
		return false;
	}
	memcpy(host, text, length);
	host[length] = '\0';
	if (inet_pton(AF_INET, host, base.bytes) == 1) {
		base.family = ADDRESS_IPV4;
		bits = 32;
	} else if (inet_pton(AF_INET6, host, base.bytes) == 1) {
		base.family = ADDRESS_IPV6;
		bits = 128;
	} else {
		snprintf(err, err_size,
			 "\"%s\" is not an IP address or network, such as 10.0.0.0/8 or fd00::/8",
			 text);
		return false;
	}

	prefix = bits;
	if (slash && parse_u64(slash + 1, bits, &prefix) < 0) {
		snprintf(err, err_size, "\"%s\": the prefix length must be from 0 to %u", text,
			 bits);
		return false;
	}
	memcpy(masked, base.bytes, prefix / 8);
	if (prefix % 8 != 0)
		masked[prefix / 8] = base.bytes[prefix / 8] & (uint8_t)(0xff00 >> prefix % 8);
	if (memcmp(masked, base.bytes, sizeof(masked)) != 0) {
		inet_ntop(bits == 32 ? AF_INET : AF_INET6, masked, host, sizeof(host));
		snprintf(err, err_size, "\"%s\" has bits set beyond its prefix; is it %s/%u?", text,
			 host, (unsigned)prefix);
		return false;
	}
	out->base = base;
	out->prefix = (unsigned)prefix;
	return true;
}

bool cidr_matches(const struct cidr *rule, const struct address *a)
{
	return a->family == rule->base.family && a->family != ADDRESS_UNIX &&
	       bits_are_equal(a->bytes, rule->base.bytes, rule->prefix);
}
