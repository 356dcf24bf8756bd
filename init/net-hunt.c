/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See net-hunt.h. */
#include "net-hunt.h"
#include "firmware.h"
#include "modules.h"
#include "net-dhcp.h"
#include "rtnl.h"
#include "wait.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/parse.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

enum {
	/* A card that was named is used without a link after this: its driver may not tell. */
	NAMED_LINK_WAIT_S = 10,
	/* How long an answer without a root path waits for a better one. */
	BETTER_WAIT_S = 5,
	LOOK_MS = 1000, /* at the latest: what the kernel does not tell */
	LOOK_BLIND_MS = 100,
};

/* One card, from when it was first seen. */
struct port {
	struct net_card card;
	bool is_there; /* in the last look */
	bool was_down; /* and we brought it up */
	uint64_t seen_ns;
	struct net_dhcp dhcp;
	bool has_second; /* an answer, but without the root path that is wanted */
	struct dhcp_reply second;
};

struct hunt {
	const struct boot *b;
	const struct hunt_goal *goal;
	struct port ports[NET_CARDS_MAX];
	size_t count;
	uint64_t better_ns; /* until when a better answer is waited for; CLOCK_NEVER */
	int links_fd;
	struct wait wait;
};

/* ---- which cards there are ------------------------------------------------------------------ */

static bool is_named(const struct hunt_goal *g)
{
	return g->device != NULL || g->mac != NULL;
}

/* By an ip= of its own, which for the card below a VLAN is no reason. */
static bool is_anothers(const struct hunt *h, const struct net_card *card)
{
	const struct cmdline *c = &h->b->cmdline;

	for (const struct cmdline_net *n = c->nets; n < c->nets + c->nets_count; n++)
		if ((n->device != NULL || n->has_mac) &&
		    (n->how == CMDLINE_IP_NONE || h->goal->net != NULL) &&
		    net_card_is(card, n->device, n->has_mac ? n->mac : NULL,
				n->has_new_mac ? n->new_mac : NULL))
			return true;
	return false;
}

static bool is_wanted(const struct hunt *h, const struct net_card *card)
{
	const struct hunt_goal *g = h->goal;

	for (size_t i = 0; i < h->b->net.cards_count; i++)
		if (strcmp(h->b->net.cards[i].interface, card->name) == 0)
			return false;
	if (!is_named(g))
		return !is_anothers(h, card);
	/* By an earlier try. */
	return net_card_is(card, g->device, g->mac,
			   g->net != NULL && g->net->has_new_mac ? g->net->new_mac : NULL);
}

static struct port *port_of(struct hunt *h, const struct net_card *card)
{
	struct port *p = h->ports;

	while (p < h->ports + h->count && strcmp(p->card.name, card->name) != 0)
		p++;
	if (p == h->ports + NET_CARDS_MAX)
		return NULL;
	if (p == h->ports + h->count) {
		*p = (struct port){ .seen_ns = clock_now_ns(), .dhcp.fd = -1 };
		h->count++;
	}
	return p;
}

/* What ip= says about the card itself, and up. */
static void bring_up(struct hunt *h, struct port *p)
{
	const struct cmdline_net *n = h->goal->net;
	char name[IF_NAMESIZE];
	int r = 0;

	snprintf(name, sizeof(name), "%s", p->card.name);
	if (n != NULL && n->has_new_mac)
		r = net_card_set_mac(name, n->new_mac);
	if (r == 0 && n != NULL && n->mtu != 0)
		r = net_card_set_mtu(name, n->mtu);
	if (r < 0)
		log_warn("network: %s does not take the MTU or the hardware address of ip=: %s "
			 "(going "
			 "on with its own)",
			 name, strerror(-r));
	r = net_card_set_up(name, &p->was_down);
	if (r < 0)
		log_warn("network: %s cannot be brought up: %s (trying again)", name, strerror(-r));
	/* Most have a link at once. */
	(void)net_card_read(name, &p->card);
}

/* Cards come, go and get links. */
static void look(struct hunt *h)
{
	struct net_card cards[NET_CARDS_MAX];
	size_t count = net_card_scan(cards);
	struct net_card vlan;

	if (h->goal->device != NULL && count < NET_CARDS_MAX &&
	    net_card_read(h->goal->device, &vlan) && !vlan.is_physical)
		cards[count++] = vlan;
	for (size_t i = 0; i < h->count; i++)
		h->ports[i].is_there = false;
	for (size_t i = 0; i < count; i++) {
		struct port *p = is_wanted(h, &cards[i]) ? port_of(h, &cards[i]) : NULL;

		if (p == NULL)
			continue;
		p->card = cards[i];
		p->is_there = true;
		if (!p->card.is_up)
			bring_up(h, p);
	}
	for (size_t i = 0; i < h->count; i++)
		if (!h->ports[i].is_there)
			net_dhcp_stop(&h->ports[i].dhcp);
}

static bool is_usable(const struct hunt *h, const struct port *p, uint64_t now_ns)
{
	return p->is_there &&
	       (p->card.has_link ||
		(is_named(h->goal) && now_ns - p->seen_ns >= NAMED_LINK_WAIT_S * CLOCK_NS_PER_S));
}

/* ---- asking --------------------------------------------------------------------------------- */

static bool asks(const struct hunt *h)
{
	return h->goal->net != NULL && h->goal->net->how == CMDLINE_IP_DHCP;
}

static void start_asking(struct hunt *h, struct port *p)
{
	const struct cmdline_net *n = h->goal->net;
	uint32_t wanted;
	int r;

	if (n->address == NULL || parse_ipv4(n->address, &wanted) != 0)
		wanted = 0;
	r = net_dhcp_start(&p->dhcp, &p->card, wanted, n->host);
	if (r < 0)
		log_debug("network: no DHCP on %s yet: %s", p->card.name, strerror(-r));
}

static bool is_one_requesting(const struct hunt *h)
{
	for (size_t i = 0; i < h->count; i++)
		if (h->ports[i].dhcp.state == NET_DHCP_REQUESTING)
			return true;
	return false;
}

static void on_offer(struct hunt *h, struct port *p, const struct dhcp_reply *offer)
{
	if (!h->goal->wants_root_path || offer->lease.root_path[0] != '\0') {
		net_dhcp_take(&p->dhcp, offer);
		return;
	}
	if (!p->has_second)
		log_info("network: the DHCP server %s on %s gives no root path (option 17; waiting "
			 "%d s for one that does)",
			 offer->lease.server, p->card.name, BETTER_WAIT_S);
	p->has_second = true;
	p->second = *offer;
	if (h->better_ns == CLOCK_NEVER)
		h->better_ns = clock_now_ns() + BETTER_WAIT_S * CLOCK_NS_PER_S;
}

/* Nothing better has come. */
static void take_second(struct hunt *h)
{
	h->better_ns = CLOCK_NEVER;
	for (size_t i = 0; i < h->count; i++) {
		struct port *p = &h->ports[i];

		if (p->has_second && p->dhcp.state == NET_DHCP_SELECTING) {
			p->has_second = false; /* if it fails, the next offer is one again */
			net_dhcp_take(&p->dhcp, &p->second);
			return;
		}
	}
}

/* True: there is a result. */
static bool ask(struct hunt *h, struct port *p, struct hunt_result *out)
{
	unsigned int left = NET_DHCP_TURN;
	struct dhcp_reply reply;

	if (p->dhcp.state == NET_DHCP_OFF)
		start_asking(h, p);
	while (net_dhcp_receive(&p->dhcp, p->card.name, &left, &reply)) {
		if (reply.type == DHCP_ACK) {
			out->card = p->card;
			out->lease = reply;
			out->has_lease = true;
			return true;
		}
		if (!is_one_requesting(h))
			on_offer(h, p, &reply);
	}
	net_dhcp_send(&p->dhcp);
	return false;
}

/* One round over all cards. True: there is a result. */
static bool step(struct hunt *h, struct hunt_result *out)
{
	uint64_t now_ns;

	look(h);
	now_ns = clock_now_ns();
	for (size_t i = 0; i < h->count; i++) {
		struct port *p = &h->ports[i];

		if (!is_usable(h, p, now_ns)) {
			net_dhcp_stop(&p->dhcp); /* asked at once when the link is back */
			continue;
		}
		if (asks(h) && !ask(h, p, out))
			continue;
		if (!asks(h))
			*out = (struct hunt_result){ .card = p->card };
		return true;
	}
	if (now_ns >= h->better_ns && !is_one_requesting(h))
		take_second(h);
	return false;
}

/* ---- waiting -------------------------------------------------------------------------------- */

/* "eth0 (52:54:00:12:34:56), eth1 (...)" */
static void list_ports(const struct hunt *h, bool with_link, char *out, size_t size)
{
	size_t used = 0;

	*out = '\0';
	for (size_t i = 0; i < h->count && used < size; i++) {
		const struct port *p = &h->ports[i];

		if (p->is_there && (!with_link || p->dhcp.state != NET_DHCP_OFF))
			used += (size_t)snprintf(out + used, size - used, "%s%s (%s)",
						 used > 0 ? ", " : "", p->card.name,
						 p->card.mac_text);
	}
}

static void list_all(char *out, size_t size)
{
	struct net_card cards[NET_CARDS_MAX];
	size_t count = net_card_scan(cards), used = 0;

	snprintf(out, size, "none found");
	for (size_t i = 0; i < count && used < size; i++)
		used += (size_t)snprintf(out + used, size - used, "%s%s (%s)",
					 used > 0 ? ", " : "there are ", cards[i].name,
					 cards[i].mac_text);
}

static void name_wanted(const struct hunt_goal *g, char *out, size_t size)
{
	if (g->mac != NULL)
		snprintf(out, size, "the network card %02x:%02x:%02x:%02x:%02x:%02x (%s)",
			 g->mac[0], g->mac[1], g->mac[2], g->mac[3], g->mac[4], g->mac[5], g->why);
	else if (g->device != NULL)
		snprintf(out, size, "the network card %s (%s)", g->device, g->why);
	else
		snprintf(out, size, "a network card");
}

/* What is missing: HUNT_E_*, by which the words and the failure are chosen. */
static int missing(const struct hunt *h)
{
	bool is_there = false;

	for (size_t i = 0; i < h->count; i++) {
		is_there |= h->ports[i].is_there;
		if (h->ports[i].dhcp.state != NET_DHCP_OFF)
			return HUNT_E_NO_LEASE;
	}
	return is_there ? HUNT_E_NO_LINK : HUNT_E_NO_CARD;
}

static void say(struct hunt *h)
{
	char what[320], names[256], firmware[FIRMWARE_WORDS_MAX], both[FIRMWARE_WORDS_MAX + 128];
	const char *hint;

	if (!wait_is_due(&h->wait))
		return;
	firmware_missing(firmware);
	switch (missing(h)) {
	case HUNT_E_NO_LEASE:
		list_ports(h, true, names, sizeof(names));
		snprintf(what, sizeof(what), "a DHCP answer on %s", names);
		wait_say(&h->wait, "network", what, "link up",
			 "is there a DHCP server in this network?");
		break;
	case HUNT_E_NO_LINK:
		list_ports(h, false, names, sizeof(names));
		snprintf(what, sizeof(what), "a link on %s", names);
		firmware_add("is the cable in, the switch on?", firmware, both, sizeof(both));
		wait_say(&h->wait, "network", what, "none", both);
		break;
	default:
		name_wanted(h->goal, what, sizeof(what));
		list_all(names, sizeof(names));
		if (h->goal->device != NULL)
			hint = "names such as ens3 come later, from udev; BOOTIF= or a hardware "
			       "address with dashes names a card for sure";
		else
			hint = "if the machine has it, this initramfs lacks its driver";
		firmware_add(hint, firmware, both, sizeof(both));
		wait_say(&h->wait, "network", what, names, both);
		break;
	}
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Sleeps until there is something to do. */
static void sleep_until_news(struct hunt *h)
{
	struct pollfd pfd[2 + NET_CARDS_MAX];
	uint64_t now_ns = clock_now_ns(), until_ns;
	nfds_t n = 0;

	until_ns = now_ns + (h->links_fd < 0 ? LOOK_BLIND_MS : LOOK_MS) * CLOCK_NS_PER_MS;
	until_ns = earlier(until_ns, h->wait.next_ns);
	if (!is_one_requesting(h)) /* else it is not looked at, and may be over */
		until_ns = earlier(until_ns, h->better_ns);
	pfd[n++] = (struct pollfd){ .fd = h->links_fd, .events = POLLIN };
	pfd[n++] = (struct pollfd){ .fd = modules_uevent_fd(), .events = POLLIN };
	for (size_t i = 0; i < h->count; i++) {
		const struct net_dhcp *d = &h->ports[i].dhcp;

		if (d->state == NET_DHCP_OFF)
			continue;
		pfd[n++] = (struct pollfd){ .fd = d->fd, .events = POLLIN };
		until_ns = earlier(until_ns, d->next_ns);
	}
	(void)poll(pfd, n, clock_poll_ms(now_ns, until_ns));
	if (h->links_fd >= 0)
		(void)rtnl_drain(h->links_fd);
	modules_on_uevents();
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

/* Nobody asks any more, and what was brought up in vain goes down. */
static void end(struct hunt *h, const struct net_card *winner)
{
	for (size_t i = 0; i < h->count; i++) {
		struct port *p = &h->ports[i];

		net_dhcp_stop(&p->dhcp);
		if (winner != NULL && p->was_down && strcmp(p->card.name, winner->name) != 0 &&
		    net_card_set_down(p->card.name) < 0)
			log_debug("network: %s cannot be taken down", p->card.name);
	}
	if (h->links_fd >= 0)
		close(h->links_fd);
}

int net_hunt(const struct boot *b, const struct hunt_goal *goal, struct hunt_result *out)
{
	struct hunt h = { .b = b, .goal = goal, .better_ns = CLOCK_NEVER };
	int result = 0;

	h.links_fd = rtnl_listen_to_links();
	wait_start(&h.wait);
	*out = (struct hunt_result){ 0 };
	while (!step(&h, out)) {
		if (goal->patience_s != 0 && wait_s(&h.wait) >= goal->patience_s) {
			result = missing(&h);
			break;
		}
		say(&h);
		sleep_until_news(&h);
	}
	end(&h, result == 0 ? &out->card : NULL);
	return result;
}
