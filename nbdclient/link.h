/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a client does at the driver: gives it sockets, takes them away, and watches the one that
 * it has. One command at a time, each under the eyes of guard.h. docs/reconnect.md has the
 * reasons.
 */
#ifndef NBDCLIENT_LINK_H
#define NBDCLIENT_LINK_H

#include "client.h"

enum {
	LINK_BLOCK_SIZE = 512, /* the smallest the driver allows: any file system mounts on it */
	LINK_BLOCK_SIZE_MAX = 4096, /* a page, the largest */
	/*
	 * How soon the driver looks at a request that was not answered, and says so on the kernel
	 * log; the block layer adds a second of its own. What is in flight when an outage begins
	 * waits no longer than that after its end.
	 */
	LINK_IO_TIMEOUT_MS = 300,
	LINK_ANSWER_WAIT_MS = 3000, /* for an adopted device to answer a read */
	LINK_ANSWER_SHORT_MS = 300,
};

/*
 * Gives the driver the connection of a try: the first configures the device, later ones replace a
 * dead socket. Returns EV_HANDED, or what client_failed() says.
 */
int link_hand(struct client *c, unsigned which);

/* The driver has it (EV_HANDED): from now on it is the link. */
void link_is_up(struct client *c, unsigned which);

/* Whether the link has ever brought an answer, as far as can be known (session_note_use()). */
bool link_was_useful(const struct client *c);

/*
 * Whether an adopted link that is alive can be exchanged for one of our own: its server is known,
 * and ends the other when it lets us in.
 */
bool link_is_exchangeable(const struct client *c);

/*
 * For a device that an earlier instance has left, before anything else is done with it. is_alive:
 * its link answers, though we have no copy of it.
 */
void link_adopt(struct client *c, bool is_alive);

/*
 * The link is lost: shuts our copy of it down, which frees whatever of the driver is stuck in a
 * send on it, and makes the requests that were in flight on it ready for the next one.
 */
void link_cut(struct client *c);

/* Has the driver let go of the device, and ends the program. */
void link_disconnect(struct client *c);

/* Looks after the link, when it is time (link_deadline()): silence, stalls, a lost address. */
void link_watch(struct client *c, uint64_t now_ns);
uint64_t link_deadline(const struct client *c);

/* The prober has answered, or ended. */
void link_on_probe(struct client *c);

/* changes: NETWORK_* */
void link_on_network(struct client *c, unsigned changes);

#endif
