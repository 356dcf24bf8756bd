/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One writer, and the fence before it. A writable export is held by one connection. A newer
 * connection of the same client takes it over: the older one is cut off, and the newer one is
 * let in only when the last request of the older one has ended, so that no stale write can land
 * on a newer one. Connections of other clients are refused while it is held.
 *
 * Clients are told apart by address, nothing more: two machines behind one address translator
 * are one client here.
 */
#ifndef NBDSERVE_LEASE_H
#define NBDSERVE_LEASE_H

#include "address.h"

#include <pthread.h>
#include <stdatomic.h>

/* A connection, as far as a lease cares. */
struct lease_user {
	const struct peer *peer;
	int fd;             /* shut down when the connection is cut off */
	atomic_bool is_cut; /* set then; whoever works for the connection looks at it */
	uint64_t since_ns;  /* when it got the lease or asked for it */
};

struct lease {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct lease_user *holder;
	struct lease_user *waiter; /* who takes over; the newest of several */
};

enum {
	LEASE_E_IN_USE = 1, /* another client has it */
	LEASE_E_SUPERSEDED, /* a still newer connection of the same client came */
	LEASE_E_TIMEOUT,    /* the older connection's requests did not end in time */
	LEASE_E_CANCELLED,  /* *cancel became true */
};

void lease_init(struct lease *l);
void lease_deinit(struct lease *l);

/*
 * Takes the lease for user, waiting up to timeout_ns for the older connection's end. 0 or
 * LEASE_E_*; with LEASE_E_IN_USE text says by whom: "10.0.0.5:4711 since 12 s". *cancel is
 * looked at ten times a second.
 */
int lease_take(struct lease *l, struct lease_user *user, uint64_t timeout_ns,
	       const atomic_bool *cancel, char *text, size_t text_size) _must_check_;

/*
 * Gives it back. No request of the connection may be running any more, its socket must be shut
 * down, and must not be closed before this returns.
 */
void lease_give_back(struct lease *l, struct lease_user *user);

#endif
