/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Threads with a stack that is small enough for thousands of connections: glibc's default of
 * 8 MiB each is address space that a limit on it (ulimit -v, a container) would count.
 */
#ifndef NBDSERVE_THREAD_H
#define NBDSERVE_THREAD_H

#include "base/cleanup.h"

#include <pthread.h>

/* Room for the reader's scrap buffer and for what libc's resolver and printf take. */
enum { THREAD_STACK = 256 * 1024 };

/* Returns 0 or a positive errno, as pthread_create(3) does. */
static inline int thread_start(pthread_t *t, void *(*run)(void *), void *arg)
{
	pthread_attr_t attr;
	int r;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, THREAD_STACK);
	r = pthread_create(t, &attr, run, arg);
	pthread_attr_destroy(&attr);
	return r;
}

#endif
