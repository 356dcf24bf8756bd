/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See net-dhcp.h. A plain UDP socket, bound to the card: the kernel sends broadcasts from an
 * interface without an address, and takes in those that come. The servers are told to broadcast.
 */
#include "net-dhcp.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

enum {
	AGAIN_FIRST_MS = 300, /* a switch may have lost the first one */
	AGAIN_MAX_MS = 8000, /* long enough for a room full of machines that waits for its server */
	REQUESTS_MAX = 4,    /* then the offer was not meant */
	SHUN_MS = 2000,
};

/* Before the kernel's generator is ready, that is no reason to wait: it only tells answers apart.
 */
static uint32_t random_number(const uint8_t mac[static 6])
{
	uint64_t x;

	if (getrandom(&x, sizeof(x), GRND_NONBLOCK) != (ssize_t)sizeof(x)) {
		x = clock_now_ns() * UINT64_C(0x9e3779b97f4a7c15);
		for (size_t i = 0; i < 6; i++)
			x = (x ^ mac[i]) * UINT64_C(0x100000001b3);
	}
	return (uint32_t)(x >> 32 ^ x);
}

static int open_socket(const char *card)
{
	const struct sockaddr_in me = { .sin_family = AF_INET,
					.sin_port = htons(DHCP_CLIENT_PORT) };
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int yes = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &yes, sizeof(yes)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, card, (socklen_t)strlen(card)) < 0 ||
	    bind(fd, (const struct sockaddr *)&me, sizeof(me)) < 0)
		return -errno;
	return steal_fd(&fd);
}

static void select_anew(struct net_dhcp *d)
{
	d->state = NET_DHCP_SELECTING;
	d->q.type = DHCP_DISCOVER;
	d->q.xid = random_number(d->q.mac);
	d->q.wanted = d->wanted;
	d->q.server = 0;
}

/* Somebody else gets a chance, and this one is not asked without a pause. */
static void shun(struct net_dhcp *d)
{
	d->shunned = d->q.server;
	d->until_ns = clock_now_ns() + SHUN_MS * CLOCK_NS_PER_MS;
	select_anew(d);
}

int net_dhcp_start(struct net_dhcp *d, const struct net_card *card, uint32_t wanted,
		   const char *host)
{
	int fd = open_socket(card->name);

	if (fd < 0)
		return fd;
	*d = (struct net_dhcp){ .fd = fd, .wanted = wanted, .began_ns = clock_now_ns() };
	memcpy(d->q.mac, card->mac, 6);
	d->q.host = host;
	select_anew(d);
	return 0;
}

void net_dhcp_stop(struct net_dhcp *d)
{
	if (d->state != NET_DHCP_OFF)
		close(d->fd);
	*d = (struct net_dhcp){ .fd = -1 };
}

/* 0.3 s, 0.6 s, ... and up to an eighth more: machines that were switched on together drift apart.
 */
static uint64_t interval_ns(const struct net_dhcp *d)
{
	uint64_t ms = AGAIN_FIRST_MS;

	for (unsigned int i = 1; i < d->tries && ms < AGAIN_MAX_MS; i++)
		ms *= 2;
	if (ms > AGAIN_MAX_MS)
		ms = AGAIN_MAX_MS;
	return ms * CLOCK_NS_PER_MS + random_number(d->q.mac) % (ms / 8) * CLOCK_NS_PER_MS;
}

void net_dhcp_send(struct net_dhcp *d)
{
	const struct sockaddr_in all = { .sin_family = AF_INET,
					 .sin_port = htons(DHCP_SERVER_PORT),
					 .sin_addr.s_addr = htonl(INADDR_BROADCAST) };
	uint8_t message[DHCP_MESSAGE_MAX];
	uint64_t now_ns = clock_now_ns(), seconds;
	size_t size;

	if (d->state == NET_DHCP_OFF || now_ns < d->next_ns)
		return;
	if (d->state == NET_DHCP_REQUESTING && d->tries == REQUESTS_MAX)
		shun(d);
	seconds = (now_ns - d->began_ns) / CLOCK_NS_PER_S;
	d->q.seconds = seconds > UINT16_MAX ? UINT16_MAX : (uint16_t)seconds;
	size = dhcp_write(&d->q, message);
	/* A link that has just gone loses it, as the network may: sent again in any case. */
	if (sendto(d->fd, message, size, 0, (const struct sockaddr *)&all, sizeof(all)) < 0)
		log_debug("network: DHCP message not sent: %s", strerror(errno));
	d->tries++;
	d->next_ns = now_ns + interval_ns(d);
}

bool net_dhcp_receive(struct net_dhcp *d, const char *card, unsigned int *left,
		      struct dhcp_reply *out)
{
	uint8_t message[DHCP_REPLY_MAX];

	while (d->state != NET_DHCP_OFF && *left > 0) {
		ssize_t n = recv(d->fd, message, sizeof(message), 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		(*left)--;
		if (dhcp_read(&d->q, message, (size_t)n, out) != 0)
			continue;
		if (d->state == NET_DHCP_SELECTING && out->type == DHCP_OFFER &&
		    (out->server != d->shunned || clock_now_ns() >= d->until_ns))
			return true;
		if (d->state != NET_DHCP_REQUESTING || out->server != d->q.server)
			continue;
		if (out->type == DHCP_ACK)
			return true;
		if (out->type == DHCP_NAK) {
			log_line(d->was_refused ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN,
				 "network: the DHCP server %s refuses %s what it has offered "
				 "(asking "
				 "again)",
				 inet_ntoa((struct in_addr){ htonl(out->server) }), card);
			d->was_refused = true;
			d->wanted = 0;
			shun(d);
		}
	}
	return false;
}

void net_dhcp_take(struct net_dhcp *d, const struct dhcp_reply *offer)
{
	d->state = NET_DHCP_REQUESTING;
	d->q.type = DHCP_REQUEST;
	d->q.wanted = offer->address;
	d->q.server = offer->server;
	d->tries = 0;
	d->next_ns = 0;
	net_dhcp_send(d);
}
