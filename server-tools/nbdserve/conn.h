/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Connections from accept to close: one thread each, which negotiates, takes the export's lease,
 * serves (serve.h) and gives everything back. Strangers cost little and not for long: ten seconds
 * for the whole negotiation, and when too many are negotiating the one that has been at it
 * longest goes.
 */
#ifndef NBDSERVE_CONN_H
#define NBDSERVE_CONN_H

#include "exports.h"

#include <sys/queue.h>

enum {
	CONN_HANDSHAKE_S = 10,
	CONN_HALF_OPEN_MAX = 1024,
	CONN_TAKEOVER_S = 60,       /* how long a newer connection waits for the older one's end */
	CONN_STOP_S = 10,           /* how long requests in flight may take when the server stops */
	CONN_STRANGERS_LOGGED = 20, /* lines a second about clients that were not let in */
};

struct conn;
TAILQ_HEAD(conn_list, conn);

struct server {
	struct exports *exports;
	atomic_bool stopping;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct conn_list all;
	struct conn_list half_open; /* the oldest first */
	size_t n_half_open;
	/* lines about strangers in this second, and those that were not written */
	uint64_t logging_since_ns;
	unsigned n_logged, n_unlogged;
};

/* The exports must outlive it. */
void server_init(struct server *sv, struct exports *exports);

/* Takes an accepted socket and closes it in the end. Logs its errors. */
void server_add(struct server *sv, int fd);

/* Frees a descriptor by dropping the oldest negotiation. False: there is none. */
bool server_drop_oldest(struct server *sv);

/*
 * Ends all connections after the requests that they have in flight, with no error to anybody.
 * False: some were still running after CONN_STOP_S, so the exports must not be closed.
 */
bool server_stop(struct server *sv) _must_check_;

#endif
