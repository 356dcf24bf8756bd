/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Time that only goes forward, in nanoseconds, and its units. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define CLOCK_NS_PER_MS UINT64_C(1000000)
#define CLOCK_NS_PER_S UINT64_C(1000000000)
#define CLOCK_NEVER UINT64_MAX

/* CLOCK_BOOTTIME: a machine that slept through an outage has waited through it. */
static inline uint64_t clock_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * CLOCK_NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* What to pass to poll(2) in order to wake at the deadline: rounded up, -1 for never. */
static inline int clock_poll_ms(uint64_t now_ns, uint64_t deadline_ns)
{
	uint64_t left_ns, ms;

	if (deadline_ns == CLOCK_NEVER)
		return -1;
	if (deadline_ns <= now_ns)
		return 0;
	left_ns = deadline_ns - now_ns;
	ms = left_ns / CLOCK_NS_PER_MS + (left_ns % CLOCK_NS_PER_MS != 0);
	return ms > 3600000 ? 3600000 : (int)ms;
}

#endif
