/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See backoff.h. */
#include "backoff.h"

#include "clock.h"

#define BACKOFF_FIRST_NS (10 * CLOCK_NS_PER_MS)
#define BACKOFF_SHORT_MAX_NS (50 * CLOCK_NS_PER_MS)
#define BACKOFF_LONG_MAX_NS (1 * CLOCK_NS_PER_S)
#define BACKOFF_LONG_AFTER_NS (60 * CLOCK_NS_PER_S)

void backoff_start(struct backoff *b, uint64_t now_ns)
{
	b->started_ns = now_ns;
	b->wait_ns = 0;
	b->tries = 0;
}

uint64_t backoff_next(struct backoff *b, uint64_t now_ns, uint32_t chance)
{
	uint64_t max_ns = now_ns - b->started_ns >= BACKOFF_LONG_AFTER_NS ? BACKOFF_LONG_MAX_NS
									  : BACKOFF_SHORT_MAX_NS;
	uint64_t half;

	if (b->tries < UINT32_MAX)
		b->tries++;
	if (b->tries == 1)
		return now_ns;
	b->wait_ns = b->wait_ns == 0 ? BACKOFF_FIRST_NS : b->wait_ns * 2;
	if (b->wait_ns > max_ns)
		b->wait_ns = max_ns;
	half = b->wait_ns / 2;
	return now_ns + half + half * chance / UINT32_MAX;
}
