/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The transmission phase of one connection: a reader (the caller's thread) and up to eight
 * workers, started as they are needed, so that requests run side by side and are answered in the
 * order in which they are done. What a client can make the server hold is bounded: when that
 * much is in flight no more is read from it, and a client that does not read its replies slows
 * nobody but itself.
 */
#ifndef NBDSERVE_SERVE_H
#define NBDSERVE_SERVE_H

#include "exports.h"

enum {
	SERVE_WORKERS_MAX = 8,
	SERVE_JOBS_MAX = 256,               /* requests in flight */
	SERVE_BYTES_MAX = 64 * 1024 * 1024, /* their payloads; two of the longest */
	SERVE_SEND_TIMEOUT_S = 30,          /* without one byte of a reply being taken */
};

enum { SERVE_REASON_MAX = 128 };

/*
 * Serves until the client leaves, breaks the protocol, is cut off (is_cut, with a shutdown of fd)
 * or the server stops (*stopping, with a shutdown of fd's receiving half). When it returns, no
 * request of this connection is running or will be. reason: why it ended, for the log.
 */
void serve_run(int fd, struct served *served, const atomic_bool *is_cut,
	       const atomic_bool *stopping, char reason[static SERVE_REASON_MAX]);

#endif
