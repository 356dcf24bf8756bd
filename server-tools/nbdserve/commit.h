/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Group commit: many writers share one fdatasync. A writer whose write has finished asks for the
 * first sync that starts after that; whoever finds no sync running runs it for all who wait. A
 * sync that was already running does not count: it may have passed over the writer's pages.
 *
 * A failed sync latches. The kernel marks pages clean after reporting an error once (fsyncgate,
 * 2018), so a later sync that succeeds proves nothing about what the failed one left behind:
 * from then on every commit fails until the server is started again.
 */
#ifndef NBDSERVE_COMMIT_H
#define NBDSERVE_COMMIT_H

#include "base/cleanup.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct store;

struct commit {
	struct store *store;
	pthread_mutex_t lock;
	pthread_cond_t done;
	uint64_t started, finished; /* syncs so far; they differ by one while one is running */
	bool is_running;
	int error; /* negative errno of the sync that failed; 0: none has */
};

/* The store must outlive it. */
void commit_init(struct commit *c, struct store *store);
void commit_deinit(struct commit *c);

/*
 * Returns 0 when all that this thread has written is on stable storage; else the latched error.
 * *is_first is set to whether this call is the one that met it.
 */
int commit_wait(struct commit *c, bool *is_first) _must_check_;

/* The latched error, or 0. */
int commit_error(struct commit *c) _must_check_;

#endif
