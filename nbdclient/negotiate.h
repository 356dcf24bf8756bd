/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The conversation on a new connection before it is of use: the handshake, then reading the head
 * of the export in order to know it again. Drives proto/ over a non-blocking socket and never
 * reads a byte too many: what comes after belongs to the kernel.
 */
#ifndef NBDCLIENT_NEGOTIATE_H
#define NBDCLIENT_NEGOTIATE_H

#include "identity.h"
#include "proto/handshake-client.h"
#include "proto/reply.h"

enum {
	NEGOTIATE_MORE = 0,   /* poll for negotiate_events(), then step again */
	NEGOTIATE_DONE = 1,   /* handshake done, or head read: identity is valid so far */
	NEGOTIATE_EXPORT = 2, /* listing: hsc.text and hsc.text2; step again */
	NEGOTIATE_E_FINAL =
		3, /* turned away: trying again will not help unless the server changes */
	NEGOTIATE_E_LATER = 4, /* turned away for now: the server is shutting down */

	NEGOTIATE_WHY_MAX = 400,
};

struct negotiate {
	struct nbd_hsc hsc;
	struct identity identity;
	char why[NEGOTIATE_WHY_MAX]; /* with NEGOTIATE_E_*: for a person */

	/* private */
	bool is_reading_head;
	size_t have, want, sent;
	uint8_t request[NBD_REQUEST_SIZE];
	uint8_t reply[NBD_SIMPLE_REPLY_SIZE + IDENTITY_HEAD_SIZE];
};

/*
 * Starts the handshake; name has at most NBD_STRING_MAX bytes (uri.h sees to that). A session, with
 * NBD_HSC_GOAL_GO only and NULL for none, is said to the server before the export is asked for.
 */
void negotiate_start(struct negotiate *n, enum nbd_hsc_goal goal, const char *name,
		     const struct nbd_session *session);

/*
 * Starts reading the head, after the handshake for GO. False: the export is too small for one, or
 * has larger blocks than a disk may have.
 */
bool negotiate_start_head(struct negotiate *n);

/* Goes on as far as the socket allows. NEGOTIATE_* or negative errno: the connection broke. */
int negotiate_step(struct negotiate *n, int fd) _must_check_;

/* POLLIN, POLLOUT: what to wait for. */
short negotiate_events(const struct negotiate *n);

#endif
