/* SPDX-License-Identifier: GPL-2.0-or-later */
/* rtnetlink: news of cards and their links, and what no ioctl can make: VLANs. */
#ifndef INIT_RTNL_H
#define INIT_RTNL_H

#include "base/cleanup.h"

#include <stdbool.h>

/* A descriptor that is readable when a card or its link has changed. Or negative errno. */
int rtnl_listen_to_links(void) _must_check_;

/* Reads all that is there, whatever it is. True when there was something. */
bool rtnl_drain(int fd);

/* A VLAN on a card. 0 or negative errno (-EEXIST: there is a card of this name). */
int rtnl_add_vlan(const char *name, const char *card, unsigned int id) _must_check_;

#endif
