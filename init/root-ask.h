/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * root=dhcp whose root cannot be had: asks DHCP anew, for a person may have corrected the server
 * meanwhile. Only what the answer says of the root is used; nobody takes its offer, and the address
 * stays as it is.
 */
#ifndef INIT_ROOT_ASK_H
#define INIT_ROOT_ASK_H

#include "boot.h"

enum {
	ROOT_E_MOVED = 2, /* beside LASTWORDS_FAILED: a wait that root_has_moved() has ended */
};

/* Whether DHCP names the root, or a part of it: then nothing that is wrong with it is final. */
bool root_is_by_dhcp(const struct boot *b);

/*
 * Has the lease of the root's card say what the DHCP servers say now, for which it waits 5 s at
 * most. True: that is something else than before, and b->root_name is "": root_find() comes next.
 * The first call only sets the clock.
 */
bool root_ask(struct boot *b);

/* The same for a wait that may be one for the wrong root: asks no more often than every 20 s. */
bool root_has_moved(struct boot *b);

#endif
