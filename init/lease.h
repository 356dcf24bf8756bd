/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the boot card was given, by DHCP or by ip=: a file of key=value lines, lease.INTERFACE in
 * BOOT_STATE. udhcpc.script writes it at every lease (init does for ip=) and removes it when the
 * server takes the address back; whoever sets the card up again reads it. Nothing of it is trusted
 * to be short, printable or an address.
 */
#ifndef INIT_LEASE_H
#define INIT_LEASE_H

#include "base/cleanup.h"

#include <stdbool.h>

enum { LEASE_TEXT_MAX = 8192 };

/* What a server left out is "". Lists have blanks between, and are cut at a blank when too long. */
struct lease {
	char address[64];
	unsigned int prefix;
	char routes[512]; /* "DESTINATION/PREFIX GATEWAY ...", gateway 0.0.0.0: on the link */
	char dns[256];
	char search[256];
	char domain[256];
	char hostname[65];
	char ntp[256];
	char root_path[512];  /* option 17, in whatever form */
	char next_server[64]; /* siaddr: the TFTP server, often not the root's */
	char server[64];      /* option 54: who gave the lease */
};

/*
 * folder: BOOT_STATE, or BOOT_STATE_INSIDE. 0, or negative errno: none yet (-ENODATA: one that
 * makes no sense).
 */
int lease_read(const char *folder, const char *interface, struct lease *out) _must_check_;
int lease_write(const char *folder, const char *interface, const struct lease *lease) _must_check_;

struct lease_route {
	char to[16], gateway[16];
	unsigned int prefix;
};

/* The next of a lease's routes, from *rest on. False: there is none left. Without a "/", it is 32.
 */
bool lease_next_route(const char **rest, struct lease_route *out);

/* The file's text. 0, or -ENODATA without a usable address. */
int lease_parse(const char *text, struct lease *out) _must_check_;

#endif
