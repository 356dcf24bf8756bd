/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A log-linear histogram of nanoseconds: 64 steps to each power of two, so that a percentile is
 * right to 1.6 %, at the cost of one increment. It keeps no samples and never allocates.
 */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_STEP_BITS = 6, HISTOGRAM_STEPS = 1 << HISTOGRAM_STEP_BITS };

struct histogram {
	uint64_t count, max_ns;
	uint64_t bucket[(64 - HISTOGRAM_STEP_BITS + 1) * HISTOGRAM_STEPS];
};

static inline void histogram_add(struct histogram *h, uint64_t ns)
{
	unsigned shift = 0, index = (unsigned)ns;

	if (ns >= HISTOGRAM_STEPS) {
		shift = 63 - (unsigned)__builtin_clzll(ns) - HISTOGRAM_STEP_BITS;
		index = shift * HISTOGRAM_STEPS + (unsigned)(ns >> shift);
	}
	h->bucket[index]++;
	h->count++;
	if (ns > h->max_ns)
		h->max_ns = ns;
}

/* The smallest value that per_mille of all are not above; 0 when there are none. */
static inline uint64_t histogram_quantile_ns(const struct histogram *h, unsigned per_mille)
{
	uint64_t wanted = (h->count * per_mille + 999) / 1000, seen = 0;

	for (unsigned i = 0; i < sizeof(h->bucket) / sizeof(h->bucket[0]); i++) {
		unsigned shift = i < 2 * HISTOGRAM_STEPS ? 0 : i / HISTOGRAM_STEPS - 1;

		seen += h->bucket[i];
		if (seen >= wanted && seen > 0)
			return (uint64_t)(i - shift * HISTOGRAM_STEPS) << shift;
	}
	return 0;
}

#endif
