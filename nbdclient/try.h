/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a client does towards one address, on the way to a connection that the driver may have.
 * Each returns what has come of it: an enum session_event, or EV_NONE.
 */
#ifndef NBDCLIENT_TRY_H
#define NBDCLIENT_TRY_H

#include "client.h"

int try_dial(struct client *c, unsigned which);
int try_negotiate(struct client *c, unsigned which);
int try_check(struct client *c, unsigned which);

/* Its socket is ready for what try_events() names, or has failed. */
int try_on_socket(struct client *c, unsigned which);
short try_events(const struct client *c, unsigned which);

/* Its time is over: says so, for the session does the rest. */
void try_on_deadline(struct client *c, unsigned which);

#endif
