/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See stats.h. */
#include "stats.h"

#include <stddef.h>

#define ADD(total, part, member) stats_bump(&(total)->member, stats_get(&(part)->member))

void stats_add(struct stats *total, const struct stats *part)
{
	for (size_t i = 0; i < STATS_OPS; i++)
		ADD(total, part, ops[i]);
	ADD(total, part, bytes_read);
	ADD(total, part, bytes_written);
	ADD(total, part, errors);
}

void stats_latency_add(struct stats_latency *total, const struct stats_latency *part)
{
	for (size_t i = 0; i < STATS_CLASSES; i++) {
		for (size_t j = 0; j < STATS_BUCKETS; j++)
			ADD(total, part, of[i].count[j]);
		ADD(total, part, of[i].sum_ns);
	}
}

uint64_t stats_bound_ns(unsigned bucket)
{
	uint64_t whole = UINT64_C(1) << (STATS_FIRST_BIT + bucket / 2);

	if (bucket >= STATS_BUCKETS - 1)
		return UINT64_MAX;
	return bucket % 2 ? whole + whole / 2 : whole;
}

uint64_t stats_total(const struct stats_histogram *h)
{
	uint64_t total = 0;

	for (size_t i = 0; i < STATS_BUCKETS; i++)
		total += stats_get(&h->count[i]);
	return total;
}

uint64_t stats_percentile_ns(const struct stats_histogram *h, double share)
{
	double wanted = share * (double)stats_total(h), before = 0;
	uint64_t low = 0;

	for (unsigned i = 0; i < STATS_BUCKETS - 1; i++) {
		double here = (double)stats_get(&h->count[i]);
		uint64_t high = stats_bound_ns(i);

		if (here > 0 && before + here >= wanted)
			return low + (uint64_t)((double)(high - low) * (wanted - before) / here);
		before += here;
		low = high;
	}
	return before + (double)stats_get(&h->count[STATS_BUCKETS - 1]) > 0 ? low : 0;
}

const char *stats_op_name(enum stats_op op)
{
	switch (op) {
	case STATS_READ: return "read";
	case STATS_WRITE: return "write";
	case STATS_FLUSH: return "flush";
	case STATS_TRIM: return "trim";
	case STATS_ZERO: return "zero";
	case STATS_CACHE: return "cache";
	case STATS_BLOCK_STATUS: return "block_status";
	case STATS_OPS: break;
	}
	return "other";
}

const char *stats_class_name(enum stats_class what)
{
	switch (what) {
	case STATS_CLASS_READ: return "read";
	case STATS_CLASS_WRITE: return "write";
	case STATS_CLASS_FLUSH: return "flush";
	case STATS_CLASSES: break;
	}
	return "other";
}
