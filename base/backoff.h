/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long to wait before the next try. The first retry is at once; then 10 ms, doubling to
 * 50 ms; once the outage is over a minute old, on to 1 s. Each wait is jittered to between a
 * half and the whole of itself, so that a room full of clients does not knock in step.
 * Pure: time and chance are arguments.
 */
#ifndef BASE_BACKOFF_H
#define BASE_BACKOFF_H

#include <stdint.h>

struct backoff {
	uint64_t started_ns; /* when the outage began */
	uint64_t wait_ns;    /* the last wait before jitter; 0: none yet */
	uint32_t tries;      /* since the outage began; stays at its maximum */
};

/* A new outage began at now_ns. */
void backoff_start(struct backoff *b, uint64_t now_ns);

/* A try failed at now_ns: the time of the next one. chance is any number, uniform at best. */
uint64_t backoff_next(struct backoff *b, uint64_t now_ns, uint32_t chance);

#endif
