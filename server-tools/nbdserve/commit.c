/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See commit.h. */
#include "commit.h"

#include "store.h"

void commit_init(struct commit *c, struct store *store)
{
	*c = (struct commit){ .store = store };
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->done, NULL);
}

void commit_deinit(struct commit *c)
{
	pthread_cond_destroy(&c->done);
	pthread_mutex_destroy(&c->lock);
}

/* With the lock held, which is given back while the disk works. */
static void run_sync(struct commit *c, bool *is_first)
{
	uint64_t number = ++c->started;
	int r;

	c->is_running = true;
	pthread_mutex_unlock(&c->lock);
	r = store_sync(c->store);
	pthread_mutex_lock(&c->lock);
	c->is_running = false;
	if (r == 0) {
		c->finished = number;
	} else {
		c->error = r;
		*is_first = true;
	}
	pthread_cond_broadcast(&c->done);
}

int commit_wait(struct commit *c, bool *is_first)
{
	uint64_t wanted;
	int r;

	*is_first = false;
	pthread_mutex_lock(&c->lock);
	wanted = c->started + 1;
	while (c->finished < wanted && c->error == 0) {
		if (c->is_running)
			pthread_cond_wait(&c->done, &c->lock);
		else
			run_sync(c, is_first);
	}
	/* A sync that covered this thread's writes counts even when a later one has failed. */
	r = c->finished >= wanted ? 0 : c->error;
	pthread_mutex_unlock(&c->lock);
	return r;
}

int commit_error(struct commit *c)
{
	int r;

	pthread_mutex_lock(&c->lock);
	r = c->error;
	pthread_mutex_unlock(&c->lock);
	return r;
}
