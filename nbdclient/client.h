/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One device and the loop that keeps it alive: waits for events, asks session.h what to do, has
 * it done (try.h: towards a server; link.h: at the driver). After the first attach nothing here
 * allocates, opens a file, resolves a name or gives up.
 */
#ifndef NBDCLIENT_CLIENT_H
#define NBDCLIENT_CLIENT_H

#include "dial.h"
#include "epoch.h"
#include "kernel.h"
#include "negotiate.h"
#include "probe.h"
#include "session.h"
#include "status.h"
#include "way-down.h"

_Static_assert((int)DIAL_ADDRESSES_MAX == (int)SESSION_TRIES_MAX, "a try for each address");

enum { CLIENT_WHY_MAX = 600 };

/* How the failure begins that is the same one whatever its reason is. */
#define CLIENT_UNREACHABLE "cannot reach server "

/* No event of the session; there is nothing to tell it now. */
enum { EV_NONE = -1 };

struct client {
	/* set by whoever starts it */
	struct dial_list addresses;
	struct kernel kernel;
	struct probe probe;
	const struct uri *uri;
	struct nbd_session who;       /* with the generation of the last connection */
	int index;                    /* KERNEL_INDEX_ANY until connected */
	uint64_t connect_deadline_ns; /* the first attach has to be done by then; CLOCK_NEVER */
	struct status_page *page;     /* NULL until the device is known */
	char backend[KERNEL_BACKEND_MAX];
	struct identity first; /* what was attached, as its superblock was last seen */
	bool has_first;
	struct epoch epoch;      /* of the present or last link */
	struct epoch last_epoch; /* of the one before */
	bool is_adopted;         /* the device was configured by an earlier instance */
	/* Called once, when the device is attached. */
	void (*on_attached)(struct client *c);

	/* private */
	struct way_down down;
	struct session session;
	struct negotiate negotiate;        /* of the session's active try */
	int fds[DIAL_ADDRESSES_MAX];       /* the connections of the tries, ours alone; -1 */
	const struct dial_address *was_at; /* where an adopted device's server was; NULL: unknown */
	const struct dial_address *address; /* of the link, or else last tried; NULL */
	int signal_fd, network_fd;
	uint32_t random;
	int exit_status;          /* -1: go on */
	unsigned final_tries;     /* a bit for each address from which nothing better is to come */
	bool takes_risk;          /* a person has said that what is held shall go on */
	char why[CLIENT_WHY_MAX]; /* of the last failure */
	char verdict[CLIENT_WHY_MAX]; /* of the last export that was held or refused */
	struct {
		uint64_t hash, at_ns;
	} said[DIAL_ADDRESSES_MAX][2]; /* the last failures that were logged, by address */
	char name[16];                 /* "nbd0", for log lines; "nbd" before it is known */

	/* link.c's */
	struct kernel_files files;
	int link_fd;     /* our copy of the driver's socket; -1 when adopted or not attached */
	int old_fd;      /* the copy before, for the driver may still be inside recvmsg() on it */
	bool is_alive;   /* the link that was adopted */
	bool has_warned; /* of a driver that is not as we know it */
	bool is_unverified;       /* whether the driver uses link_fd is not known yet ... */
	uint64_t verify_by_ns;    /* ... and this is how long we wait for a sign of it */
	uint64_t received_before; /* dial_received() then */
	uint64_t sent_before;     /* dial_sent() when the driver got it */
	uint64_t next_watch_ns;
	uint64_t check_address_ns; /* when to see whether a lost address is back; CLOCK_NEVER */
	uint64_t completed, progress_ns; /* requests, and when there was one more */
	uint64_t looked_at;              /* `completed` when the superblock was last looked at */
	uint64_t next_look_ns;
};

/* Initialises the private part. 0 or negative errno. */
int client_init(struct client *c) _must_check_;

/*
 * Runs until a person detaches the device (0), or the first attach has failed for good (1, said
 * on the log). is_alive: an adopted device's link answers; else it is connected anew.
 */
int client_run(struct client *c, bool is_alive);

/* Brings the status page up to date, if there is one. */
void client_publish(struct client *c);

/* ---- for try.c and link.c ----------------------------------------------------------------- */

/* The link is dead, how for a person to read. */
void client_link_dead(struct client *c, const char *how);

/* An event that none of the tries has caused. */
void client_step(struct client *c, enum session_event ev);

/* Closes the connection of a try, if it has one. */
void client_drop(struct client *c, unsigned which);

/* ---- words (say.c) ------------------------------------------------------------------------ */

/* What is wrong; it is shown by status, too. */
void client_set_why(struct client *c, const char *fmt, ...) _printf_(2, 3);

/* The text of c->address. */
const char *client_server(const struct client *c);

/*
 * Whether c->why is news. The same failure of the same address again is not, until a minute has
 * passed.
 */
bool client_is_news(struct client *c, uint64_t now_ns);

/*
 * c->why is the failure of one try: says it, if it is news. Before the first attach, what will not
 * get better by waiting (is_final) ends the program; after it, nothing does. Returns EV_FAILED.
 */
int client_failed(struct client *c, bool is_final);

#endif
