/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finds the card for one ip=: one that is wanted, has a link, and, where an address is asked for,
 * gets a lease. Cards that nobody named are asked on side by side, and the first usable answer
 * counts. Sleeps until the kernel has news; says what it is waiting for.
 */
#ifndef INIT_NET_HUNT_H
#define INIT_NET_HUNT_H

#include "boot.h"
#include "dhcp.h"
#include "net-card.h"

enum {
	HUNT_E_NO_CARD = 1,
	HUNT_E_NO_LINK,
	HUNT_E_NO_LEASE,
};

struct hunt_goal {
	const char *device;            /* of this name, a VLAN too; NULL: any physical one */
	const uint8_t *mac;            /* or of this address; NULL: any */
	const char *why;               /* which parameter names it: "BOOTIF=" */
	const struct cmdline_net *net; /* NULL: only a card with a link */
	bool wants_root_path;
	unsigned int patience_s; /* 0: for ever */
};

struct hunt_result {
	struct net_card card;
	bool has_lease;
	struct dhcp_reply lease;
};

/*
 * Cards that b->net has already are left out. 0, or HUNT_E_* when the patience was used up.
 * Cards that were brought up in vain are down again.
 */
int net_hunt(const struct boot *b, const struct hunt_goal *goal,
	     struct hunt_result *out) _must_check_;

#endif
