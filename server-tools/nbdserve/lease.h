/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One writer, and the fence before it. A writable export is held by one client. A newer
 * connection of the same client takes it over: the older one is cut off, and the newer one is
 * let in only when the last request of the older one has ended, so that no stale write can land
 * on a newer one. Connections of other clients are refused while it is held.
 *
 * Who is the same client: with the session option (docs/extension.md) the same session, or the
 * same machine, which has then been started anew; two without it the same address. Connections of
 * one session and generation with different slots hold the export together; a connection of a newer
 * generation waits for the end of all of the older ones, and one of an older is refused.
 */
#ifndef NBDSERVE_LEASE_H
#define NBDSERVE_LEASE_H

#include "address.h"
#include "loop.h"
#include "proto/session.h"

/* A connection, as far as a lease cares. */
struct lease_user {
	TAILQ_ENTRY(lease_user) link; /* of the holders, or of those who wait */
	const struct peer *peer;
	const struct nbd_session *session; /* NULL: the client sent none */
	struct loop *loop;
	int fd;                 /* shut down when the connection is cut off */
	atomic_bool is_cut;     /* set then; nothing is begun for it any more */
	struct task cut;        /* posted to the loop then, once */
	const char *cut_reason; /* for people; set before the task is posted */
	/* posted when a wait has ended; then result is 0 or LEASE_E_SUPERSEDED */
	struct task answered;
	int result;
	uint64_t since_ns; /* when it got the lease or asked for it */
};

TAILQ_HEAD(lease_users, lease_user);

enum { LEASE_REPLACED_MAX = 8 };

struct lease {
	pthread_mutex_t lock;
	struct lease_users holders;
	struct lease_users waiters;
	/* of the last session that held it, so that an older generation is recognised */
	uint8_t session_id[NBD_SESSION_ID_SIZE];
	uint64_t generation;
	char machine[NBD_SESSION_MACHINE_MAX + 1];
	/* sessions of a machine that has been started anew since; the newest first */
	uint8_t replaced[LEASE_REPLACED_MAX][NBD_SESSION_ID_SIZE];
	uint64_t takeovers;
};

enum {
	LEASE_WAIT = 1,    /* user->answered will be posted */
	LEASE_E_IN_USE,    /* another client has it */
	LEASE_E_STALE,     /* a newer generation or session of the same machine has been here */
	LEASE_E_SUPERSEDED /* a still newer connection of the same client came */
};

enum { LEASE_TEXT_MAX = 256 };

void lease_init(struct lease *l);
void lease_deinit(struct lease *l);

/*
 * Asks for the lease. 0: it is the user's now. LEASE_WAIT, or LEASE_E_*; with LEASE_E_IN_USE text
 * says by whom: "10.0.0.5:4711 since 12 s".
 */
int lease_ask(struct lease *l, struct lease_user *user,
	      char text[static LEASE_TEXT_MAX]) _must_check_;

/* What lease_ask() would say now: 0 for both of its good answers, LEASE_E_IN_USE or _STALE. */
int lease_look(struct lease *l, const struct lease_user *user,
	       char text[static LEASE_TEXT_MAX]) _must_check_;

/* Cuts one connection off, for a reason that stays valid. The user must not go meanwhile. */
void lease_user_cut(struct lease_user *user, const char *reason);

/* Stops waiting. False: the answer has been posted already. */
bool lease_stop_waiting(struct lease *l, struct lease_user *user);

/*
 * Gives it back. No request of the connection may be running any more. Afterwards user->cut is
 * not posted any more, but it may have been just before: is_cut tells.
 */
void lease_give_back(struct lease *l, struct lease_user *user);

/* How often it was taken over since the server's start. */
uint64_t lease_takeovers(struct lease *l);

/* "10.0.0.5:4711 (machine 52-54-00-12-34-56)" or "" */
void lease_holder(struct lease *l, char text[static LEASE_TEXT_MAX]);

#endif
