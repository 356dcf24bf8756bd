/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rtnetlink: news of cards and their links, and what no ioctl can make: VLANs, and routes that
 * leave others' alone.
 */
#ifndef INIT_RTNL_H
#define INIT_RTNL_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stdint.h>

/* A descriptor that is readable when a card or its link has changed. Or negative errno. */
int rtnl_listen_to_links(void) _must_check_;

/* Reads all that is there, whatever it is. True when there was something. */
bool rtnl_drain(int fd);

/* A VLAN on a card. 0 or negative errno (-EEXIST: there is a card of this name). */
int rtnl_add_vlan(const char *name, const char *card, unsigned int id) _must_check_;

/*
 * An IPv4 route, both addresses in the host's order; gateway 0: on the link. 0 or negative errno
 * (-EEXIST: there is one to the same destination; SIOCADDRT would put this before it).
 */
int rtnl_add_route(const char *card, uint32_t to, unsigned int prefix,
		   uint32_t gateway) _must_check_;

#endif
