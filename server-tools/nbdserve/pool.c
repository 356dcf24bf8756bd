/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See pool.h. */
#include "pool.h"

/* Small: glibc's default of 8 MiB each is address space that a limit on it would count. */
enum { STACK = 256 * 1024 };

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
		loop_post(w->loop, &w->done);
		pthread_mutex_lock(&p->lock);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

void pool_init(struct pool *p)
{
	*p = (struct pool){ .queue = STAILQ_HEAD_INITIALIZER(p->queue) };
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

static bool start_thread(struct pool *p)
{
	pthread_attr_t attr;
	int r;

	if (p->n_threads == POOL_THREADS_MAX)
		return false;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	r = pthread_create(&p->threads[p->n_threads], &attr, pool_thread, p);
	pthread_attr_destroy(&attr);
	if (r == 0)
		p->n_threads++;
	return r == 0;
}

void pool_submit(struct pool *p, struct work *w)
{
	bool has_nobody;

	pthread_mutex_lock(&p->lock);
	STAILQ_INSERT_TAIL(&p->queue, w, link);
	p->n_queued++;
	/* A thread that was woken counts as idle until it has the lock, and takes one piece. */
	if (p->n_queued > p->n_idle)
		start_thread(p);
	has_nobody = p->n_threads == 0;
	if (has_nobody) {
		STAILQ_REMOVE_HEAD(&p->queue, link);
		p->n_queued--;
	}
	pthread_cond_signal(&p->changed);
	pthread_mutex_unlock(&p->lock);
	if (has_nobody) { /* no thread is to be had: slowly, then */
		w->run(w);
		loop_post(w->loop, &w->done);
	}
}
