/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The reconnect machine: (state, event, now) -> what to do. Pure: it reads no clock, owns no
 * descriptor and logs nothing; main loop and tests drive it alike.
 *
 *	        +--------------------- DO_DIAL ----------------------+
 *	        v                                                    |
 *	    DIALLING -> NEGOTIATING -> CHECKING -> READY -> ATTACHED |
 *	        |            |            |          |         |     |
 *	        +------------+------------+----------+         | loss: DO_CUT
 *	             a try failed: back-off                    |
 *	                    v                                  |
 *	                 WAITING -------------- deadline ------+
 *
 * A loss leads straight to DIALLING; READY holds the checked socket until the driver may have it:
 * never within SESSION_SETTLE_NS of the old socket's death, for a late receive worker of the
 * driver would mark the new socket dead (docs/reconnect.md).
 */
#ifndef NBDCLIENT_SESSION_H
#define NBDCLIENT_SESSION_H

#include "base/backoff.h"
#include "base/clock.h"

#include <stdbool.h>
#include <stdint.h>

enum session_state {
	SESSION_WAITING,     /* until the next try */
	SESSION_DIALLING,    /* a TCP connection is being made */
	SESSION_NEGOTIATING, /* the NBD handshake */
	SESSION_CHECKING,    /* reading the file system's UUID on the new connection */
	SESSION_READY,       /* checked; waiting until the driver may be given the socket */
	SESSION_ATTACHED,    /* the driver has a live socket */
	SESSION_REFUSED,     /* what was offered is not the same export; tried again slowly */
	SESSION_DETACHING,   /* asked to let go of the device */
};

enum session_event {
	EV_START,     /* begin: nothing is attached, or an adopted device has lost its link */
	EV_ADOPTED,   /* begin: the device is attached and its link is alive */
	EV_CONNECTED, /* the TCP connection stands */
	EV_AGREED,    /* the handshake is done */
	EV_SAME,      /* it is the export that we want */
	EV_DIFFERENT, /* it is another one */
	EV_FAILED,    /* the try failed: refused, broken, malformed, turned away */
	EV_HANDED,    /* the driver took the socket */
	EV_LINK_DEAD, /* the driver, or our own copy of the socket, says that the link is dead */
	EV_DEADLINE,  /* session.deadline_ns has come */
	EV_DETACH,    /* a person wants the device back */
};

enum session_todo {
	DO_NOTHING,
	DO_DIAL,       /* open a connection to the next address */
	DO_NEGOTIATE,  /* on the connection */
	DO_CHECK,      /* read the head of the export and compare */
	DO_HAND,       /* give the socket to the driver: connect the first time, else reconfigure */
	DO_DROP,       /* close the connection that is not the driver's, if there is one */
	DO_CUT_DIAL,   /* shut the driver's socket down on our copy, then as DO_DIAL */
	DO_DISCONNECT, /* tell the driver to let go, then end */
};

#define SESSION_DIAL_NS (2 * CLOCK_NS_PER_S)       /* two SYNs: at 0 and 1 s */
#define SESSION_NEGOTIATE_NS (10 * CLOCK_NS_PER_S) /* handshake and check, each */
#define SESSION_SETTLE_NS (120 * CLOCK_NS_PER_MS)
#define SESSION_REFUSED_NS (5 * CLOCK_NS_PER_S) /* between tries of what was refused */

struct session {
	enum session_state state;
	uint64_t since_ns;      /* when the state was entered */
	uint64_t deadline_ns;   /* when EV_DEADLINE is due; CLOCK_NEVER */
	uint64_t not_before_ns; /* the driver gets no socket before */
	struct backoff backoff;
	bool was_attached;
	uint64_t lost_ns;      /* when the present outage began, while not attached */
	uint32_t losses;       /* links lost so far */
	uint64_t longest_ns;   /* the longest outage so far */
	uint64_t last_back_ns; /* when the last outage ended; 0: none yet */
};

void session_init(struct session *s, uint64_t now_ns);

/* chance: any number, for the jitter of the back-off. */
enum session_todo session_step(struct session *s, enum session_event ev, uint64_t now_ns,
			       uint32_t chance);

/* The state's name in status and log: "attached". */
const char *session_state_name(enum session_state state);

#endif
