/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The transmission phase: takes requests out of the stream, answers at once what needs no disk,
 * hands the rest to jobs. What can be had without waiting is done here and now: a read of what is
 * in the page cache, a write into it when the export promises durability only at a flush.
 *
 * What a client can make the server hold is bounded: when that much is in flight no more is read
 * from it, and a client that does not read its replies slows nobody but itself.
 */
#ifndef NBDSERVE_SERVE_H
#define NBDSERVE_SERVE_H

#include "conn.h"

enum {
	SERVE_JOBS_MAX = 256, /* requests in flight of one connection */
	SERVE_BYTES_MAX =
		64 * 1024 * 1024, /* their payloads and unsent replies; two of the longest */
	SERVE_TURN_REQUESTS = 64, /* then it is another connection's turn */
	SERVE_TURN_BYTES = 2 * 1024 * 1024,
	/* A payload of which more than this is missing is received where it will be used. */
	SERVE_DIRECT_MIN = 16 * 1024,
	/* After a write of this size another one is expected. */
	SERVE_AHEAD_MIN = 64 * 1024,
};

/*
 * Looks at size bytes of input and returns how many it has used up: all, unless it is another
 * connection's turn, or c->is_paused, or the connection does not serve any more.
 */
size_t serve_input(struct conn *c, const uint8_t *data, size_t size);

/* The next input may go to a place where a long write's payload can stay: sets c->target. */
void serve_prepare(struct conn *c);

/* size bytes of the payload that is being received have arrived in place. */
void serve_filled(struct conn *c, size_t size);

/*
 * A chunk that begins with the head of a read's reply; its data goes to *data. NULL without
 * memory. After the head the read must not fail any more, so it is sent when the data is there.
 */
struct chunk *serve_new_read_reply(struct conn *c, const struct nbd_request *req,
				   uint8_t **data) _must_check_;

/* A job has ended: puts its reply into the queue and frees it. */
void serve_job_done(struct conn *c, struct job *j);

/* For the end of a turn: how long it took what was answered in it. */
void serve_measure(struct conn *c);

/*
 * A range of the image could not be sent, when it was too late to say so. From now on data is read
 * before its head is sent: the client comes again, and is told an error then if there is one.
 */
void serve_distrust_file(struct conn *c);

/* Whether there is room for more after a pause. */
bool serve_has_room(const struct conn *c);

/* Whether it is in the middle of a request, for the log. */
bool serve_is_inside(const struct conn *c);

/* Drops what it is in the middle of. */
void serve_abandon(struct conn *c);

#endif
