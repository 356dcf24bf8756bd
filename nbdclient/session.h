/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The reconnect machine: (state, event, now) -> what to do. Pure: it reads no clock, owns no
 * descriptor and logs nothing; main loop and tests drive it alike.
 *
 * It has two halves. The link is the socket that the driver has: none, up, or suspect, when it
 * answers nothing though its TCP lives; it is kept then, for nobody can tell from here that a
 * server which still has the image will not write to it any more. While there is none, each address
 *has a try of its own:
 *
 *	idle -> dialling -> [connected] -> negotiating -> checking -> ready -> the driver's
 *
 * Connections are made side by side, the preferred address first, but only one try at a time is
 * further than that: each handshake that a server admits cuts off the one before, so two of them
 * would take the export from each other for ever. A try that fails waits (back-off) and begins
 * anew. Ready holds the checked socket until the driver may have it: never within
 * SESSION_SETTLE_NS of the old socket's death (docs/reconnect.md).
 */
#ifndef NBDCLIENT_SESSION_H
#define NBDCLIENT_SESSION_H

#include "base/backoff.h"
#include "base/clock.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	SESSION_TRIES_MAX = 16, /* addresses */
	SESSION_NOBODY = -1,
};

/* What status and log call it: the link's state, or the farthest try's. */
enum session_state {
	SESSION_RESOLVING,   /* the server's name; only before the first try */
	SESSION_LOST,        /* no connection; the next try is due at its time */
	SESSION_DIALLING,    /* TCP connections are being made */
	SESSION_NEGOTIATING, /* the NBD handshake */
	SESSION_CHECKING,    /* reading the head of the export on the new connection */
	SESSION_READY,       /* checked; waiting until the driver may be given the socket */
	SESSION_ATTACHED,    /* the driver has a live socket */
	SESSION_SUSPECT,     /* it has, but nothing was answered for long */
	SESSION_HELD,        /* going on might lose data without a word: a person decides */
	SESSION_REFUSED,     /* what is offered is not the same export; tried again slowly */
	SESSION_DETACHING,   /* asked to let go of the device */
};

enum session_event {
	/* of the device; the try does not matter */
	EV_START,     /* begin: nothing is attached, or an adopted device has lost its link */
	EV_ADOPTED,   /* begin: the device is attached and its link is alive */
	EV_EXCHANGE,  /* begin: the same, and its server is to give us another link for it */
	EV_LINK_DEAD, /* the driver, or our own copy of the socket, says that the link is dead */
	EV_STALLED,   /* nothing was answered for long, over a connection that lives */
	EV_ANSWERED,  /* something was, after all */
	EV_NETWORK,   /* a link or an address has come: worth a try at once */
	EV_RESUME,    /* a person has decided about what was held or refused: so is this */
	EV_DETACH,    /* a person wants the device back */
	/* of one try */
	EV_DUE,       /* session_due() has named it */
	EV_CONNECTED, /* the TCP connection stands */
	EV_AGREED,    /* the handshake is done */
	EV_SAME,      /* it is the export that we want */
	EV_DIFFERENT, /* it is another one */
	EV_UNSAFE,    /* it is, but written data may be missing in it */
	EV_FAILED,    /* refused, broken, malformed, turned away */
	EV_HANDED,    /* the driver took the socket */
};

enum session_todo {
	DO_NOTHING,
	/* of the try of the event */
	DO_DIAL,      /* open a connection to its address */
	DO_NEGOTIATE, /* on its connection */
	DO_CHECK,     /* read the head of the export and compare */
	DO_SETTLE,    /* close the others' connections */
	DO_HAND,      /* the same, and give the socket to the driver */
	DO_DROP,      /* close its connection */
	/* of the device */
	DO_CUT,        /* shut the driver's socket down on our copy */
	DO_DISCONNECT, /* close all connections, tell the driver to let go, then end */
};

/* A SYN that got no answer is repeated soon, for its server may just have come back ... */
#define SESSION_DIAL_NS (300 * CLOCK_NS_PER_MS)
/* ... and each fourth waits as long as a slow way needs: two SYNs of one connection. */
#define SESSION_DIAL_LONG_NS (2 * CLOCK_NS_PER_S)
#define SESSION_NEGOTIATE_NS (10 * CLOCK_NS_PER_S) /* handshake and check, each */
#define SESSION_IMPATIENT_NS (2 * CLOCK_NS_PER_S)  /* when another address is waiting; doubles */
#define SESSION_SETTLE_NS (120 * CLOCK_NS_PER_MS)
#define SESSION_STAGGER_NS (50 * CLOCK_NS_PER_MS) /* from one address to the next */
#define SESSION_FUTILE_NS (100 * CLOCK_NS_PER_MS) /* after a link of no use; doubles, to 3.2 s */
#define SESSION_EXCHANGE_NS                                                                        \
	(10 * CLOCK_NS_PER_S)                   /* for the same server, before others are tried    \
						 */
#define SESSION_REFUSED_NS (5 * CLOCK_NS_PER_S) /* between tries of what was refused */

struct session_try {
	enum {
		TRY_IDLE,
		TRY_DIALLING,
		TRY_CONNECTED, /* waiting for its turn */
		TRY_NEGOTIATING,
		TRY_CHECKING,
		TRY_READY,
	} state;
	uint64_t due_ns; /* idle: of the next dial; else the state's deadline; CLOCK_NEVER */
	struct backoff backoff;
	unsigned silences;     /* how often it was too slow in this outage */
	uint64_t last_turn_ns; /* when it began to negotiate last; 0: not in this outage */
	enum { VERDICT_NONE, VERDICT_REFUSED, VERDICT_UNSAFE } verdict; /* of the last try */
};

struct session {
	enum { LINK_NONE, LINK_UP, LINK_SUSPECT, LINK_DETACHING } link;
	unsigned tries_count, preferred;
	int active; /* the try beyond its connection; SESSION_NOBODY */
	struct session_try tries[SESSION_TRIES_MAX];

	enum session_state shown;
	uint64_t since_ns;      /* when that state was entered */
	uint64_t settled_ns;    /* the driver gets no socket before */
	uint64_t quiet_ns;      /* nor before this, see session_quiet() */
	uint64_t quiet_time_ns; /* how long that is after the next loss */
	uint64_t quiet_left_ns; /* of this one, from the first connection on */
	unsigned futile;        /* links in a row that were of no use */
	bool was_attached;
	uint64_t lost_ns;      /* when the present outage began, while there is no link */
	uint32_t losses;       /* links lost so far */
	uint64_t longest_ns;   /* the longest outage so far */
	uint64_t last_back_ns; /* when the last outage ended; 0: none yet */
};

/* addresses: how many there are, at most SESSION_TRIES_MAX; the first is preferred. */
void session_init(struct session *s, unsigned addresses, uint64_t now_ns);

/* which: the try that the event is of; any for the device's. chance: any number, for jitter. */
enum session_todo session_step(struct session *s, enum session_event ev, unsigned which,
			       uint64_t now_ns, uint32_t chance);

/* The try for which EV_DUE is due now, or SESSION_NOBODY. */
int session_due(const struct session *s, uint64_t now_ns);

/* When to ask session_due() again; CLOCK_NEVER. */
uint64_t session_deadline(const struct session *s);

/*
 * After the next loss (or EV_START), the driver gets no new socket until a connection has stood
 * for so long: the server of the link cannot fence, and what it has received may still be on its
 * way to the disk. Counted from the connection, for its host may have been asleep. 0 for a server
 * that can.
 */
void session_quiet(struct session *s, uint64_t ns);

/*
 * Before EV_LINK_DEAD: whether anything was answered over the link. A server that lets us in and
 * then drops the connection, again and again, is not asked at once each time.
 */
void session_note_use(struct session *s, bool was_useful);

/* How often addresses were tried in this outage. */
uint32_t session_tries(const struct session *s);

/* Whether the driver has a live socket in this state. */
bool session_state_is_up(enum session_state state);

/* The state's name in status and log: "attached". */
const char *session_state_name(enum session_state state);

#endif
