/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Counters and latency histograms. Each struct has one writing thread, and any may read: an
 * increment is a relaxed load and a relaxed store, which is an ordinary add without a locked
 * instruction. Readers see each number whole, and no two of them at the same instant.
 *
 * A connection has counters (struct stats, 80 bytes); an export has histograms (struct
 * stats_latency, 1.3 KiB), one for each loop thread that serves it, so that threads share no
 * cache line and an idle connection stays small. Nothing here allocates, locks or reads a clock.
 */
#ifndef NBDSERVE_STATS_H
#define NBDSERVE_STATS_H

#include <stdatomic.h>
#include <stdint.h>

enum stats_op {
	STATS_READ,
	STATS_WRITE,
	STATS_FLUSH,
	STATS_TRIM,
	STATS_ZERO,
	STATS_CACHE,
	STATS_BLOCK_STATUS,
	STATS_OPS,
};

/* What a latency is measured of: a trim or a zero counts as a write, all else as a read. */
enum stats_class {
	STATS_CLASS_READ,
	STATS_CLASS_WRITE,
	STATS_CLASS_FLUSH,
	STATS_CLASSES,
};

struct stats {
	_Atomic uint64_t ops[STATS_OPS]; /* answered, with or without an error */
	_Atomic uint64_t bytes_read, bytes_written;
	_Atomic uint64_t errors; /* answers with an error */
};

/*
 * Two buckets to each power of two: the bounds, which belong to their bucket, are 1024 ns, 1.5 *
 * 1024 ns, 2048 ns, ... 2^36 ns (69 s); the last bucket has no bound.
 */
enum { STATS_FIRST_BIT = 10, STATS_LAST_BIT = 36 };
enum { STATS_BUCKETS = 2 * (STATS_LAST_BIT - STATS_FIRST_BIT) + 2 };

struct stats_histogram {
	_Atomic uint64_t count[STATS_BUCKETS];
	_Atomic uint64_t sum_ns;
};

struct stats_latency {
	struct stats_histogram of[STATS_CLASSES];
};

/* One writer: see above. */
static inline void stats_bump(_Atomic uint64_t *counter, uint64_t by)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by,
			      memory_order_relaxed);
}

static inline uint64_t stats_get(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

/* A request was carried out; bytes matter for STATS_READ and STATS_WRITE. */
static inline void stats_count(struct stats *s, enum stats_op op, uint64_t bytes)
{
	stats_bump(&s->ops[op], 1);
	if (op == STATS_READ)
		stats_bump(&s->bytes_read, bytes);
	else if (op == STATS_WRITE)
		stats_bump(&s->bytes_written, bytes);
}

/* A request was answered with an error. */
static inline void stats_count_error(struct stats *s, enum stats_op op)
{
	stats_bump(&s->ops[op], 1);
	stats_bump(&s->errors, 1);
}

static inline enum stats_class stats_class_of(enum stats_op op)
{
	if (op == STATS_FLUSH)
		return STATS_CLASS_FLUSH;
	return op == STATS_WRITE || op == STATS_TRIM || op == STATS_ZERO ? STATS_CLASS_WRITE
									 : STATS_CLASS_READ;
}

static inline unsigned stats_bucket(uint64_t ns)
{
	uint64_t below = ns ? ns - 1 : 0; /* a bound belongs to the bucket that it ends */
	unsigned bit;

	if (below < UINT64_C(1) << STATS_FIRST_BIT)
		return 0;
	if (below >= UINT64_C(1) << STATS_LAST_BIT)
		return STATS_BUCKETS - 1;
	bit = 63 - (unsigned)__builtin_clzll(below);
	return 1 + 2 * (bit - STATS_FIRST_BIT) + (unsigned)(below >> (bit - 1) & 1);
}

/* From a request's last byte to its reply's handing over to the socket, say. */
static inline void stats_latency(struct stats_latency *l, enum stats_class what, uint64_t ns)
{
	struct stats_histogram *h = &l->of[what];

	stats_bump(&h->count[stats_bucket(ns)], 1);
	stats_bump(&h->sum_ns, ns);
}

/*
 * Adds one's figures to another's: a closed connection's to its export's, threads' to a report.
 * Only one thread may add to total at a time (the caller's lock).
 */
void stats_add(struct stats *total, const struct stats *part);
void stats_latency_add(struct stats_latency *total, const struct stats_latency *part);

/* The bucket's upper bound, which it includes; UINT64_MAX for the last. */
uint64_t stats_bound_ns(unsigned bucket);

/* All that were measured. */
uint64_t stats_total(const struct stats_histogram *h);

/*
 * The latency that this share of the requests (0 to 1) did not exceed, interpolated within its
 * bucket; 0 when there were none. Beyond the last bound it is that bound.
 */
uint64_t stats_percentile_ns(const struct stats_histogram *h, double share);

/* The word for reports: "read", "block_status", ... */
const char *stats_op_name(enum stats_op op);
const char *stats_class_name(enum stats_class what);

#endif
