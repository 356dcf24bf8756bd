/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * All connections and the loops that they are spread over. Strangers cost little and not for
 * long: ten seconds for a negotiation, and when too many are negotiating the one that has been at
 * it longest goes. Safe to use from the main thread while the loops run.
 */
#ifndef NBDSERVE_SERVER_H
#define NBDSERVE_SERVER_H

#include "conn.h"
#include "pool.h"

enum {
	SERVER_STOP_S = 10, /* how long requests in flight may take at a stop */
	SERVER_ADDRESS_BUCKETS = 1024,
	SERVER_STRANGERS_LOGGED = 20, /* lines a second about clients that were not let in */
};

struct server {
	struct exports *exports;
	struct memory memory;
	struct pool pool;
	const struct engine *engine;
	struct loop *loops;
	unsigned n_loops, n_started;
	unsigned half_open_max, half_open_address_max, per_address_max;
	uint8_t boot_id[16]; /* of this machine, since its last start */

	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct conn_list all;
	struct conn_list half_open; /* the oldest first */
	unsigned n_half_open;
	/* half-open ones by a hash of the address: who shares a bucket shares the limit */
	unsigned n_half_open_of[SERVER_ADDRESS_BUCKETS];
	uint64_t next_id;
	/* since the start; under lock */
	uint64_t accepted, refused, dropped_half_open, dropped_deaf, dropped_dead;
	/* lines about strangers in this second, and those that were not written */
	uint64_t logging_since_ns;
	unsigned n_logged, n_unlogged;
};

/*
 * Chooses the engine and the number of loops, as config says. The exports, which are opened
 * afterwards with sv->n_loops, must outlive the server. Logs. 0 or -1.
 */
int server_init(struct server *sv, struct exports *exports,
		const struct config *config) _must_check_;

/* Starts the threads; nobody may be added before. Logs. 0 or -1. */
int server_start(struct server *sv) _must_check_;

/* Takes an accepted socket and closes it in the end. Logs its errors. */
void server_add(struct server *sv, int fd);

/* Frees a descriptor by dropping the oldest negotiation. False: there is none. */
bool server_drop_oldest(struct server *sv);

/* Cuts connections off: one by its id, or all of an export. Returns how many there were. */
unsigned server_disconnect(struct server *sv, uint64_t id, const char *reason);
unsigned server_disconnect_export(struct server *sv, const struct served *s, const char *reason);

/*
 * Ends all connections after the requests that they have in flight, with no error to anybody, and
 * the loops. False: some were still running after SERVER_STOP_S, so nothing may be freed.
 */
bool server_stop(struct server *sv) _must_check_;

/* ---- for conn.c --------------------------------------------------------------------------- */

/* The client has said what it wants, or goes back to choosing. */
void server_set_half_open(struct server *sv, struct conn *c, bool is_half_open);

/* It serves: reports and disconnections find it from here on. */
void server_publish(struct server *sv, struct conn *c);

/* It is gone: after this nobody finds it any more, and its fd is closed. */
void server_remove(struct server *sv, struct conn *c);

/* One more of what is counted since the start. */
void server_count(struct server *sv, uint64_t *counter);

/* One line about a client that was not let in; a flood of them is counted instead. */
_printf_(3, 4) void server_log_stranger(struct server *sv, const struct conn *c, const char *fmt,
					...);

#endif
