/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See pool.h. */
#include "pool.h"

#include "thread.h"

enum { STACK = 256 * 1024 };

static struct pool_share *share_of(struct pool *p, const struct work *w)
{
	return w->fd < 0 ? NULL : &p->shares[w->fd % POOL_SHARES];
}

/* With the lock held, as in give_back(). */
static void enqueue(struct pool *p, struct work *w)
{
	STAILQ_INSERT_TAIL(&p->queue, w, link);
	p->n_queued++;
}

/* The place goes to what waits for one of this image, behind all that is queued already. */
static void give_back(struct pool *p, struct pool_share *s)
{
	struct work *next = STAILQ_FIRST(&s->waiting);

	if (!next) {
		s->n_taken--;
		return;
	}
	STAILQ_REMOVE_HEAD(&s->waiting, link);
	enqueue(p, next);
}

static void *pool_thread(void *arg)
{
	struct pool *p = arg;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		struct work *w;

		while (STAILQ_EMPTY(&p->queue) && !p->is_ending) {
			p->n_idle++;
			pthread_cond_wait(&p->changed, &p->lock);
			p->n_idle--;
		}
		if (p->is_ending)
			break;
		w = STAILQ_FIRST(&p->queue);
		STAILQ_REMOVE_HEAD(&p->queue, link);
		p->n_queued--;
		pthread_mutex_unlock(&p->lock);
		w->run(w);
		pthread_mutex_lock(&p->lock);
		if (share_of(p, w))
			give_back(p, share_of(p, w));
		pthread_mutex_unlock(&p->lock);
		loop_post(w->loop, &w->done);
		pthread_mutex_lock(&p->lock);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

void pool_init(struct pool *p)
{
	*p = (struct pool){ .queue = STAILQ_HEAD_INITIALIZER(p->queue) };
	for (size_t i = 0; i < POOL_SHARES; i++)
		STAILQ_INIT(&p->shares[i].waiting);
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->changed, NULL);
}

void pool_deinit(struct pool *p)
{
	pthread_mutex_lock(&p->lock);
	p->is_ending = true;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->n_threads; i++)
		pthread_join(p->threads[i], NULL);
	pthread_cond_destroy(&p->changed);
	pthread_mutex_destroy(&p->lock);
}

static void start_another(struct pool *p)
{
	if (p->n_threads < POOL_THREADS_MAX &&
	    thread_start(&p->threads[p->n_threads], STACK, pool_thread, p) == 0)
		p->n_threads++;
}

void pool_submit(struct pool *p, struct work *w)
{
	struct pool_share *share = share_of(p, w);
	bool has_nobody;

	pthread_mutex_lock(&p->lock);
	if (share && share->n_taken == POOL_SHARE) {
		STAILQ_INSERT_TAIL(&share->waiting, w, link);
		pthread_mutex_unlock(&p->lock);
		return;
	}
	if (share)
		share->n_taken++;
	enqueue(p, w);
	/* A thread that was woken counts as idle until it has the lock, and takes one piece. */
	if (p->n_queued > p->n_idle)
		start_another(p);
	has_nobody = p->n_threads == 0;
	if (has_nobody) {
		STAILQ_REMOVE_HEAD(&p->queue, link);
		p->n_queued--;
		if (share)
			share->n_taken--;
	}
	pthread_cond_signal(&p->changed);
	pthread_mutex_unlock(&p->lock);
	if (has_nobody) { /* no thread is to be had: slowly, then */
		w->run(w);
		loop_post(w->loop, &w->done);
	}
}
