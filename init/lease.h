/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the boot card was given, by DHCP or by ip=: a file of key=value lines, lease.INTERFACE in
 * BOOT_STATE. udhcpc.script writes it at every lease (init does for ip=) and removes it when the
 * server takes the address back; whoever sets the card up again reads it. Nothing of it is trusted
 * to be short.
 */
#ifndef INIT_LEASE_H
#define INIT_LEASE_H

#include "base/cleanup.h"

#include <stdbool.h>

struct lease {
	char address[64];
	unsigned int prefix;
	char routes[512]; /* "DESTINATION/PREFIX GATEWAY ...", gateway 0.0.0.0: on the link */
	char dns[256];    /* with blanks between; the same below */
	char search[256];
	char hostname[65];
};

/* folder: BOOT_STATE, or BOOT_STATE_INSIDE. 0, or negative errno: none yet. */
int lease_read(const char *folder, const char *interface, struct lease *out) _must_check_;
int lease_write(const char *folder, const char *interface, const struct lease *lease) _must_check_;

#endif
