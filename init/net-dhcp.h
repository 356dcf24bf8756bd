/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The first lease of one card, by a socket of its own, so that several cards can ask side by side:
 * an offer costs nobody an address, and who is not taken leaves nothing to undo. It asks again
 * after 0.3 s, then at doubling intervals; udhcpc, which only knows whole seconds, takes the lease
 * over.
 */
#ifndef INIT_NET_DHCP_H
#define INIT_NET_DHCP_H

#include "dhcp.h"
#include "net-card.h"

enum net_dhcp_state {
	NET_DHCP_OFF,
	NET_DHCP_SELECTING,  /* DISCOVER is out */
	NET_DHCP_REQUESTING, /* the offer is asked for */
};

struct net_dhcp {
	enum net_dhcp_state state;
	int fd;
	struct dhcp_request q;
	uint32_t wanted;   /* to ask for first; 0: any */
	uint64_t began_ns; /* the first DISCOVER */
	uint64_t next_ns;  /* when to send (again) */
	unsigned int tries;
	uint32_t shunned;  /* this server offered and then gave nothing ... */
	uint64_t until_ns; /* ... so until then its offers do not count */
	bool was_refused;  /* which is said once */
};

/* Starts to ask. host (or NULL) must outlive it. 0 or negative errno. */
int net_dhcp_start(struct net_dhcp *d, const struct net_card *card, uint32_t wanted,
		   const char *host) _must_check_;
void net_dhcp_stop(struct net_dhcp *d);

/* Sends what is due. */
void net_dhcp_send(struct net_dhcp *d);

enum { NET_DHCP_TURN = 64 }; /* who floods the port gets no more than this of a turn */

/*
 * The next answer that counts, if there is one: an offer while it is selecting, or the
 * acknowledgement of what was asked for. A refusal is logged, and begins anew. *left: how many
 * messages may still be read in this turn, NET_DHCP_TURN at its start.
 */
bool net_dhcp_receive(struct net_dhcp *d, const char *card, unsigned int *left,
		      struct dhcp_reply *out);

/* Takes an offer. */
void net_dhcp_take(struct net_dhcp *d, const struct dhcp_reply *offer);

#endif
