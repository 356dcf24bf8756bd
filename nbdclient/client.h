/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One device and the loop that keeps it alive: waits for events, asks session.h what to do, does
 * it. After the first attach nothing here allocates, opens a file, resolves a name or gives up.
 */
#ifndef NBDCLIENT_CLIENT_H
#define NBDCLIENT_CLIENT_H

#include "dial.h"
#include "kernel.h"
#include "negotiate.h"
#include "session.h"
#include "status.h"

enum {
	CLIENT_WHY_MAX = 600,
	/*
	 * The driver's requests that died with their socket move to the new one at the second tick
	 * of this timer after it: within 2 s. Shorter is not better, for the block layer rounds it
	 * up to whole seconds.
	 */
	CLIENT_IO_TIMEOUT_MS = 1000,
	CLIENT_ALIVE_WAIT_MS = 3000, /* for an adopted device to answer a read */
};

struct client {
	/* set by whoever starts it */
	struct dial_list addresses;
	struct kernel kernel;
	const struct uri *uri;
	struct nbd_session who;       /* with the generation of the last connection */
	int index;                    /* KERNEL_INDEX_ANY until connected */
	uint64_t connect_deadline_ns; /* the first attach has to be done by then; CLOCK_NEVER */
	struct status_page *page;     /* NULL until the device is known */
	char backend[KERNEL_BACKEND_MAX];
	struct identity first; /* what the first session had, when has_first */
	bool has_first;
	bool is_adopted; /* the device was configured by an earlier instance */
	/* Called once, when the device is attached. */
	void (*on_attached)(struct client *c);
	void *on_attached_data;

	/* private */
	struct session session;
	struct negotiate negotiate;
	int fd;      /* the connection that is being made, ours alone; -1 */
	int link_fd; /* our copy of the driver's socket; -1 when adopted or not attached */
	int old_fd;  /* the copy before, for the driver may still be inside recvmsg() on it */
	int signal_fd;
	bool is_known; /* the server of the present link knows sessions */
	const struct dial_address *address;
	uint64_t next_watch_ns;
	uint32_t random;
	int exit_status;          /* -1: go on */
	char why[CLIENT_WHY_MAX]; /* of the last failure */
	struct {
		uint64_t hash, at_ns;
	} said[DIAL_ADDRESSES_MAX]; /* the last failure that was logged, by address */
	char name[16];              /* "nbd0", for log lines; "nbd" before it is known */
};

/* Initialises the private part. 0 or negative errno. */
int client_init(struct client *c) _must_check_;

/*
 * Runs until a person detaches the device (0), or the first attach has failed for good (1, said
 * on the log). is_alive: an adopted device's link answers; else it is connected anew.
 */
int client_run(struct client *c, bool is_alive);

#endif
