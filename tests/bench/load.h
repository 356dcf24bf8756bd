/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The load itself: one thread keeps a fixed number of requests in flight on each connection and
 * measures how long each takes. It is to cost as little as possible, for it shares a core with
 * the server that it measures: requests leave in batches, replies are read into one large buffer
 * and parsed there, payloads are received but not looked at. Any error of the server ends it.
 */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include "histogram.h"

#include "base/cleanup.h"

#include <stdbool.h>

enum load_kind { LOAD_READ, LOAD_WRITE, LOAD_WRITE_FLUSH };

enum { LOAD_DEPTH_MAX = 256, LOAD_BLOCK_MAX = 1024 * 1024 };

struct load_plan {
	enum load_kind
		kind; /* LOAD_WRITE_FLUSH: a write, then a flush; the pair is one operation */
	bool is_random;
	unsigned block; /* bytes of a request */
	unsigned depth; /* requests in flight on each connection */
	uint64_t span;  /* offsets are below that */
	uint64_t seed;
	uint64_t warmup_ns, duration_ns;
};

struct load_result {
	uint64_t ops;     /* finished in the measured time */
	uint64_t ops_all; /* with those of the warm-up and after the end */
	uint64_t elapsed_ns;
	struct histogram latency;
};

/* Runs the plan on n connected sockets that block. 0, or -1 after a log line. */
int load_run(const struct load_plan *plan, const int *fds, unsigned n,
	     struct load_result *result) _must_check_;

#endif
