/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Figures for Prometheus: GET /metrics over HTTP/1.0 or 1.1 on an address that is off by
 * default, for anybody who can reach it; nothing can be changed through it. Not a web server:
 * one request for each connection, no body, no other path. Bounds: see service.h.
 */
#ifndef NBDSERVE_METRICS_H
#define NBDSERVE_METRICS_H

#include "report.h"
#include "service.h"

enum {
	METRICS_HEAD_MAX = 8 * 1024,
	METRICS_TIMEOUT_S = 5,
	METRICS_ERROR_MAX = 512,
};

struct metrics;

/*
 * Listens on "10.0.0.1:9109", "[::1]:9109" or ":9109" (all addresses). report fills a zeroed
 * report, or returns -1 for want of memory. Returns NULL with words in err (of METRICS_ERROR_MAX
 * bytes).
 */
struct metrics *metrics_open(const char *address, int (*report)(void *ctx, struct report *out),
			     void *ctx, char *err) _must_check_;
void metrics_close(struct metrics *m);

/* Where it listens, "127.0.0.1:9109", for the log. */
const char *metrics_address(const struct metrics *m);

/* As those of control.h. */
size_t metrics_poll(const struct metrics *m, struct pollfd *pfd);
uint64_t metrics_deadline(const struct metrics *m);
void metrics_handle(struct metrics *m, const struct pollfd *pfd, uint64_t now_ns);

#endif
