/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Threads with a stack that is small enough for many: glibc's default of 8 MiB each is address
 * space that a limit on it (ulimit -v, a container) would count. Conditions whose time only goes
 * forward.
 */
#ifndef NBDSERVE_THREAD_H
#define NBDSERVE_THREAD_H

#include <pthread.h>
#include <stddef.h>
#include <time.h>

/* stack in bytes. Returns 0 or a positive errno, as pthread_create(3) does. */
static inline int thread_start(pthread_t *t, size_t stack, void *(*run)(void *), void *arg)
{
	pthread_attr_t attr;
	int r;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, stack);
	r = pthread_create(t, &attr, run, arg);
	pthread_attr_destroy(&attr);
	return r;
}

/* For pthread_cond_timedwait(3) by CLOCK_MONOTONIC. */
static inline void thread_cond_init(pthread_cond_t *c)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(c, &attr);
	pthread_condattr_destroy(&attr);
}

#endif
