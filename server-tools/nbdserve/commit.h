/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Group commit: many requests share one fdatasync. A request whose write has finished asks for
 * the first sync that starts after that; the sync is started at the end of the loop's turn, for
 * all that have asked until then, whichever loop they belong to. A sync that is running already
 * does not count: it may have passed over the request's pages.
 *
 * A failed sync latches. The kernel marks pages clean after reporting an error once (fsyncgate,
 * 2018), so a later sync that succeeds proves nothing about what the failed one left behind:
 * from then on every commit fails until an operator acts.
 */
#ifndef NBDSERVE_COMMIT_H
#define NBDSERVE_COMMIT_H

#include "loop.h"

/* One request that waits. */
struct commit_wait {
	STAILQ_ENTRY(commit_wait) link;
	struct loop *loop;
	struct task task; /* task.run is called on the loop when result is known */
	int result;       /* 0, or the latched error */
};

STAILQ_HEAD(commit_list, commit_wait);

struct commit {
	STAILQ_ENTRY(commit) link; /* in a loop's list of those to start */
	int fd;
	void *owner; /* whose it is, for on_error */
	void (*on_error)(void *owner, int error);
	pthread_mutex_t lock;
	struct commit_list waiting; /* for a sync that has not started */
	struct commit_list covered; /* by the one that runs */
	bool is_scheduled, is_running;
	atomic_int error; /* negative errno of the sync that failed; 0: none has */
	struct loop *loop;
	struct disk_op op;
	/* something was written since the last sync began, or may have been: see commit_is_clean()
	 */
	atomic_bool is_dirty;
};

/* on_error is called once for each sync that fails, on a loop's thread. */
void commit_init(struct commit *c, int fd, void *owner, void (*on_error)(void *, int));
void commit_deinit(struct commit *c);

/*
 * Asks for everything that was written before this call to be on stable storage; w->task follows,
 * never from within this call. w->loop is the caller's loop.
 */
void commit_add(struct commit *c, struct commit_wait *w);

/* To be called after each write, before it is acknowledged to anybody. */
static inline void commit_wrote(struct commit *c)
{
	if (!atomic_load(&c->is_dirty))
		atomic_store(&c->is_dirty, true);
}

/* Whether all that was acknowledged is on stable storage already. */
bool commit_is_clean(struct commit *c);

/* The latched error, or 0. */
static inline int commit_error(const struct commit *c)
{
	return atomic_load_explicit(&c->error, memory_order_relaxed);
}

/* An operator has acted. */
void commit_clear_error(struct commit *c);

/* For loop.c: the end of the turn. */
void commit_start(struct commit *c, struct loop *l);

#endif
