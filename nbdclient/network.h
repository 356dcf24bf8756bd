/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the kernel tells of links, addresses and routes (rtnetlink(7)): a network that comes back
 * is worth a try at once, and a connection whose own address is gone is dead, long before TCP
 * finds that out. Changes nothing.
 */
#ifndef NBDCLIENT_NETWORK_H
#define NBDCLIENT_NETWORK_H

#include "base/cleanup.h"

enum {
	NETWORK_CAME = 1, /* a link is up, or an address or a route is new */
	NETWORK_WENT = 2, /* an address is gone */
};

/* A descriptor to poll for reading, or negative errno. */
int network_open(void) _must_check_;

/* Takes all that has been told: NETWORK_* together, 0 for nothing of interest. */
unsigned network_read(int fd);

#endif
