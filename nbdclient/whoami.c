/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See whoami.h. */
#include "whoami.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/parse.h"

#include <net/if_arp.h>
#include <netinet/in.h>
#include <netpacket/packet.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

enum {
	MAC_SIZE = 6,
	MACHINE_ID_LENGTH = 32, /* machine-id(5) */
};

static bool is_address(const struct sockaddr *a, const struct sockaddr *b)
{
	if (a->sa_family != b->sa_family)
		return false;
	if (a->sa_family == AF_INET)
		return memcmp(&((const struct sockaddr_in *)a)->sin_addr,
			      &((const struct sockaddr_in *)b)->sin_addr,
			      sizeof(struct in_addr)) == 0;
	return a->sa_family == AF_INET6 &&
	       memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr,
		      &((const struct sockaddr_in6 *)b)->sin6_addr, sizeof(struct in6_addr)) == 0;
}

/* The name of the card that has the address; NULL: none. */
static const char *find_name(const struct ifaddrs *cards, const struct sockaddr *local)
{
	for (const struct ifaddrs *i = cards; local && i; i = i->ifa_next)
		if (i->ifa_addr && is_address(i->ifa_addr, local))
			return i->ifa_name;
	return NULL;
}

/* An additional address may be labelled "eth0:1": it is eth0's. */
static bool is_same_card(const char *a, const char *b)
{
	size_t length = strcspn(a, ":");

	return length == strcspn(b, ":") && memcmp(a, b, length) == 0;
}

static const struct sockaddr_ll *ethernet(const struct ifaddrs *i)
{
	static const uint8_t zero[MAC_SIZE];
	const struct sockaddr_ll *ll = (const struct sockaddr_ll *)i->ifa_addr;

	if (!ll || ll->sll_family != AF_PACKET || ll->sll_hatype != ARPHRD_ETHER ||
	    ll->sll_halen != MAC_SIZE || memcmp(ll->sll_addr, zero, MAC_SIZE) == 0)
		return NULL;
	return ll;
}

bool whoami_card(const struct ifaddrs *cards, const struct sockaddr *local,
		 char machine[static NBD_SESSION_MACHINE_MAX + 1])
{
	const char *name = find_name(cards, local);
	const struct sockaddr_ll *best = NULL;

	for (const struct ifaddrs *i = cards; i; i = i->ifa_next) {
		const struct sockaddr_ll *ll = ethernet(i);

		if (!ll)
			continue;
		if (!best || ll->sll_ifindex < best->sll_ifindex)
			best = ll;
		if (name && is_same_card(i->ifa_name, name)) {
			best = ll;
			break;
		}
	}
	if (!best)
		return false;
	snprintf(machine, NBD_SESSION_MACHINE_MAX + 1, "%02x-%02x-%02x-%02x-%02x-%02x",
		 best->sll_addr[0], best->sll_addr[1], best->sll_addr[2], best->sll_addr[3],
		 best->sll_addr[4], best->sll_addr[5]);
	return true;
}

void whoami_clean_host(char *host)
{
	if (strcmp(host, "(none)") == 0)
		host[0] = '\0';
	for (char *p = host; *p; p++)
		if (*p < 0x20 || *p > 0x7e)
			*p = '?';
}

/*
 * Our own address on the way to a server, unless none is to be reached: connecting a UDP socket
 * asks the routes, no more.
 */
static void find_local(const struct dial_list *servers, struct sockaddr_storage *out)
{
	for (unsigned i = 0; i < servers->count; i++) {
		const struct dial_address *a = &servers->address[i];
		_cleanup_close_ int fd = -1;
		socklen_t size = sizeof(*out);

		if (a->addr.ss_family == AF_UNIX)
			continue;
		fd = socket(a->addr.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		if (fd >= 0 && connect(fd, (const struct sockaddr *)&a->addr, a->size) == 0 &&
		    getsockname(fd, (struct sockaddr *)out, &size) == 0)
			return;
	}
}

static bool take_card(struct nbd_session *session, const struct dial_list *servers)
{
	struct sockaddr_storage local = { 0 };
	struct ifaddrs *cards;
	bool is_found;

	find_local(servers, &local);
	if (getifaddrs(&cards) < 0)
		return false;
	is_found = whoami_card(cards, (const struct sockaddr *)&local, session->machine);
	freeifaddrs(cards);
	return is_found;
}

static bool take_machine_id(struct nbd_session *session)
{
	int length = fd_read_file("/etc/machine-id", session->machine, sizeof(session->machine));

	if (length != MACHINE_ID_LENGTH) /* "uninitialized", for one */
		return false;
	for (const char *p = session->machine; *p; p++)
		if (parse_hex_digit(*p) < 0)
			return false;
	return true;
}

/*
 * It has to be another one than at the last boot and need not be a secret: early in a boot, what
 * the kernel has of chance has to do, with the time in it.
 */
static void make_id(uint8_t id[static NBD_SESSION_ID_SIZE])
{
	struct timespec now = { 0 };

	if (getrandom(id, NBD_SESSION_ID_SIZE, GRND_NONBLOCK) != NBD_SESSION_ID_SIZE) {
		if (getrandom(id, NBD_SESSION_ID_SIZE, GRND_INSECURE) != NBD_SESSION_ID_SIZE)
			memset(id, 0, NBD_SESSION_ID_SIZE);
		clock_gettime(CLOCK_REALTIME, &now);
		for (size_t i = 0; i < 8; i++)
			id[i] ^= (uint8_t)((uint64_t)now.tv_sec >> (8 * i));
		for (size_t i = 0; i < 4; i++)
			id[8 + i] ^= (uint8_t)((uint64_t)now.tv_nsec >> (8 * i));
	}
	id[NBD_SESSION_ID_SIZE - 1] |= 1; /* all zero would be none */
}

void whoami_init(struct nbd_session *session, const struct dial_list *servers)
{
	memset(session, 0, sizeof(*session));
	make_id(session->id);
	if (!take_card(session, servers) && !take_machine_id(session))
		for (size_t i = 0; i < NBD_SESSION_ID_SIZE; i++)
			snprintf(session->machine + 2 * i, 3, "%02x", session->id[i]);
	if (gethostname(session->host, sizeof(session->host) - 1) < 0)
		session->host[0] = '\0';
	whoami_clean_host(session->host);
}
