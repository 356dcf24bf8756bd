/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The negotiation of one connection: what conn.c does until it serves. Finds the export, asks
 * whether the client may use it, opens a pattern's image, waits for the lease.
 */
#ifndef NBDSERVE_NEGOTIATE_H
#define NBDSERVE_NEGOTIATE_H

#include "conn.h"

void negotiate_start(struct conn *c);

/* Looks at size bytes of input; returns how many it has used up. */
size_t negotiate_input(struct conn *c, const uint8_t *data, size_t size);

/* The client has left, or was pushed out: says so if it is worth a line. */
void negotiate_ended(struct conn *c, int error);

/* Returns whether it has to be looked at again. */
bool negotiate_tick(struct conn *c);

/* It ends while it waits for the lease. */
void negotiate_stop_waiting(struct conn *c);

#endif
