/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Network cards as the kernel shows them in /sys/class/net, and what sets them up. */
#ifndef INIT_NET_CARD_H
#define INIT_NET_CARD_H

#include "base/cleanup.h"

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NET_CARDS_MAX = 32 };

struct net_card {
	char name[IF_NAMESIZE];
	char mac_text[18];
	uint8_t mac[6];
	bool is_up, has_link;
	bool is_physical; /* a VLAN is not */
};

/* Physical Ethernet cards, in the kernel's order; wireless ones are left out. */
size_t net_card_scan(struct net_card out[static NET_CARDS_MAX]);

/* One card of any kind, a VLAN too. False: there is none of this name. */
bool net_card_read(const char *name, struct net_card *out);

/*
 * Whether it is the card of this name and address (NULL: of any). given: an address that it may
 * have got instead meanwhile, from ip=, or NULL.
 */
bool net_card_is(const struct net_card *card, const char *name, const uint8_t *mac,
		 const uint8_t *given);

/*
 * The address that the card has by itself, whatever it was given since: the same at each boot.
 * False: none, as with one whose driver makes one up.
 */
bool net_card_own_mac(const char *name, uint8_t out[static 6]);

/* Whether it is plugged into USB, where cards come, go, and are found late. */
bool net_card_is_usb(const char *name);

/* Links have a state only when they are up. 0 or negative errno. was_down (or NULL): it was. */
int net_card_set_up(const char *name, bool *was_down) _must_check_;
int net_card_set_down(const char *name) _must_check_;
int net_card_set_mtu(const char *name, unsigned int mtu) _must_check_;
/* While it is down: most drivers refuse it otherwise. */
int net_card_set_mac(const char *name, const uint8_t mac[static 6]) _must_check_;

/*
 * An address that nobody lets expire; a route (gateway 0.0.0.0: on the link), or -EEXIST when there
 * is one to the same destination, by whatever way.
 */
int net_card_set_address(const char *name, const char *address, unsigned int prefix) _must_check_;
int net_card_add_route(const char *name, const char *to, unsigned int prefix,
		       const char *gateway) _must_check_;

/*
 * Whether the card has this address. is_elsewhere: it has not, but has another one, or another
 * card has it.
 */
bool net_card_has_address(const char *name, const char *address, bool *is_elsewhere);

#endif
