/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A request that is not answered at once: its data is not in memory, or it has to be on stable
 * storage first, or the disk may take its time. From its start to its end it is the disk's; then
 * its reply is put into the connection's queue. A request that a full disk refuses is held and
 * tried again until there is room, unless on-full=error.
 */
#ifndef NBDSERVE_JOB_H
#define NBDSERVE_JOB_H

#include "exports.h"
#include "pool.h"

struct job {
	TAILQ_ENTRY(job) link;      /* of the connection's jobs */
	TAILQ_ENTRY(job) held_link; /* of the loop's held ones */
	struct conn *conn;
	struct nbd_request req;
	uint64_t start_ns, held_ns;
	bool is_held;   /* a full disk has refused it */
	bool is_parked; /* and it waits on the loop's list until it is tried again */
	enum job_place { JOB_FILLING, JOB_ON_DISK, JOB_IN_POOL, JOB_IN_COMMIT } where;
	atomic_bool is_cancelled; /* nobody wants its outcome any more: it may end early */
	int result;
	struct disk_op op;
	struct work work;
	struct commit_wait wait;
	struct chunk *reply; /* of a read: the head, and where the data goes */
	uint8_t *data;       /* a write's payload: in `payload`, or behind the job itself */
	struct chunk *payload;
	struct served_extents extents;
	size_t taken; /* of the memory that all share */
};

TAILQ_HEAD(job_list, job);

/* How many bytes a request makes us hold, about. */
static inline size_t job_weight(const struct nbd_request *req)
{
	if (req->type == NBD_CMD_BLOCK_STATUS)
		return SERVED_EXTENTS_MAX * sizeof(struct nbd_extent);
	return req->type == NBD_CMD_READ || req->type == NBD_CMD_WRITE ? req->length : 0;
}

/* A job of the connection, with room for a write's payload; NULL without memory. */
struct job *job_new(struct conn *c, const struct nbd_request *req) _must_check_;

/* The same for a write whose payload is in a chunk at an offset; the chunk is the job's then. */
struct job *job_new_in(struct conn *c, const struct nbd_request *req, struct chunk *chunk,
		       size_t offset) _must_check_;

/* Starts it; its data is complete. conn_job_done() follows, never from within this call. */
void job_start(struct job *j);

/* A write that was carried out already and has to be made durable. */
void job_start_commit(struct job *j);

/* Asks for an early end; conn_job_done() follows still. */
void job_cancel(struct job *j);

/* For conn.c, in conn_job_done(); for a job that was never started, too. */
void job_free(struct job *j);

/* For loop.c, now and then: tries again what a full disk refused. */
void job_retry_held(struct loop *l);

#endif
