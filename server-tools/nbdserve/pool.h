/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Threads for calls that may block, shared by all loops and started as they are needed. A piece
 * of work runs on one of them and is then handed back to the loop that asked for it. An image
 * gets a share of the threads only: a disk that is stuck would have all of them soon, and every
 * other image would be stuck with it.
 */
#ifndef NBDSERVE_POOL_H
#define NBDSERVE_POOL_H

#include "loop.h"

#include <pthread.h>

enum { POOL_THREADS_MAX = 64, POOL_SHARE = 16, POOL_SHARES = 256 };

STAILQ_HEAD(work_list, work);

struct pool {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct work_list queue;
	/* by descriptor, modulo their number: two images in one share are no harm */
	struct pool_share {
		unsigned n_taken;
		struct work_list waiting;
	} shares[POOL_SHARES];
	unsigned n_queued, n_threads, n_idle;
	bool is_ending;
	pthread_t threads[POOL_THREADS_MAX];
};

void pool_init(struct pool *p);

/* Waits for the work that is running; what is queued is not run any more. */
void pool_deinit(struct pool *p);

/* Runs w->run, then has w->loop run w->done. When no thread can be had, it runs at once. */
void pool_submit(struct pool *p, struct work *w);

#endif
