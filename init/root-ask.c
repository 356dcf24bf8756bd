/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See root-ask.h. */
#include "root-ask.h"
#include "lease.h"
#include "net-dhcp.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/parse.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

enum {
	ANSWER_S = 5, /* of the server that gave the lease; by then, any other's with a root path */
	AGAIN_S = 20,
};

/* The root of the command line has a gap, which the lease fills. */
bool root_is_by_dhcp(const struct boot *b)
{
	const struct root_spec *said = &b->cmdline.root;

	if (b->net.ip == NULL || b->net.ip->how != CMDLINE_IP_DHCP)
		return false;
	return said->kind == ROOT_DHCP ||
	       (said->kind == ROOT_NFS && (said->path[0] == '\0' || said->server[0] == '\0'));
}

/* An offer of who gave the lease, else one with a root path. False: none. */
static bool hear(struct net_dhcp *d, const struct lease *lease, const char *card, struct lease *out)
{
	uint64_t end_ns = clock_now_ns() + ANSWER_S * CLOCK_NS_PER_S, now_ns;
	struct dhcp_reply reply;
	bool has_any = false;

	while ((now_ns = clock_now_ns()) < end_ns) {
		struct pollfd pfd = { .fd = d->fd, .events = POLLIN };
		unsigned int left = NET_DHCP_TURN;

		net_dhcp_send(d);
		(void)poll(&pfd, 1,
			   clock_poll_ms(now_ns, d->next_ns < end_ns ? d->next_ns : end_ns));
		while (net_dhcp_receive(d, card, &left, &reply)) {
			bool is_same = strcmp(reply.lease.server, lease->server) == 0;

			if (!is_same && reply.lease.root_path[0] == '\0')
				continue;
			*out = reply.lease;
			has_any = true;
			if (is_same)
				return true;
		}
	}
	return has_any;
}

/* What of the leases the root is made of: their servers' addresses too if it is on NFS
 * (root-find.h). */
static bool is_same_root(const struct boot *b, const struct lease *one, const struct lease *other)
{
	if (strcmp(one->root_path, other->root_path) != 0)
		return false;
	return (b->root.kind != ROOT_NFS && b->cmdline.root.kind != ROOT_NFS) ||
	       (strcmp(one->next_server, other->next_server) == 0 &&
		strcmp(one->server, other->server) == 0);
}

/* Has the lease say what the DHCP servers say now, if one answers. */
static void ask(struct boot *b, struct lease *lease)
{
	const char *name = b->net.interface;
	struct net_dhcp d;
	struct net_card card;
	struct lease now, current;
	uint32_t address;
	bool has_answer;

	if (parse_ipv4(lease->address, &address) != 0 || !net_card_read(name, &card) ||
	    net_dhcp_start(&d, &card, address, b->net.ip->host) < 0)
		return;
	has_answer = hear(&d, lease, name, &now);
	net_dhcp_stop(&d);
	if (!has_answer || is_same_root(b, lease, &now))
		return;
	/* udhcpc may have another address by now, or none. */
	if (lease_read(BOOT_STATE, name, &current) != 0 ||
	    strcmp(current.address, lease->address) != 0)
		return;
	*lease = current;
	memcpy(lease->root_path, now.root_path, sizeof(now.root_path));
	memcpy(lease->next_server, now.next_server, sizeof(now.next_server));
	memcpy(lease->server, now.server, sizeof(now.server));
	if (lease_write(BOOT_STATE, name, lease) < 0)
		log_warn("root: " BOOT_STATE ": cannot be written to");
}

bool root_ask(struct boot *b)
{
	bool is_first = b->root_asked_ns == 0;
	struct lease lease;

	b->root_asked_ns = clock_now_ns();
	if (is_first || !root_is_by_dhcp(b) ||
	    lease_read(BOOT_STATE, b->net.interface, &lease) != 0)
		return false;
	ask(b, &lease);
	b->root_asked_ns = clock_now_ns();
	/* udhcpc, too, may have heard of it. */
	if (is_same_root(b, &lease, &b->root_lease))
		return false;
	log_info("root: the DHCP server says something else now (looking for the root anew)");
	b->root_name[0] = '\0';
	return true;
}

bool root_has_moved(struct boot *b)
{
	return clock_now_ns() - b->root_asked_ns >= AGAIN_S * CLOCK_NS_PER_S && root_ask(b);
}
