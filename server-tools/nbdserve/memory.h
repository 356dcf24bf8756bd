/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What all connections together may hold: payloads of requests and replies that wait to be sent.
 * One counter for the whole server. When it is used up no more is read from clients until some
 * of it is given back; nothing that was begun is ever given up for it, so the counter may run
 * over by what is in progress.
 */
#ifndef NBDSERVE_MEMORY_H
#define NBDSERVE_MEMORY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct memory {
	atomic_size_t used; /* bytes */
	size_t limit;
};

static inline void memory_take(struct memory *m, size_t bytes)
{
	atomic_fetch_add_explicit(&m->used, bytes, memory_order_relaxed);
}

static inline void memory_give(struct memory *m, size_t bytes)
{
	atomic_fetch_sub_explicit(&m->used, bytes, memory_order_relaxed);
}

static inline bool memory_is_scarce(const struct memory *m)
{
	return atomic_load_explicit(&m->used, memory_order_relaxed) >= m->limit;
}

#endif
