/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See job.h. */
#include "job.h"

#include "serve.h"

#include <string.h>

/* A payload up to this size is one allocation with its job. */
enum { SMALL_PAYLOAD = 16 * 1024 };

/* How often a held request is tried again. */
#define RETRY_NS CLOCK_NS_PER_S

static void run_in_pool(struct work *w);
static void pool_done(struct task *t);
static void disk_done(struct disk_op *op);
static void commit_done(struct task *t);

static struct job *new_job(struct conn *c, const struct nbd_request *req, size_t extra)
{
	struct loop *l = c->loop;
	struct job *j = malloc(sizeof(*j) + extra);

	if (!j)
		return NULL;
	memset(j, 0, sizeof(*j));
	j->conn = c;
	j->req = *req;
	j->start_ns = l->now_ns;
	j->work.run = run_in_pool;
	j->work.done.run = pool_done;
	j->work.loop = l;
	j->wait.loop = l;
	j->wait.task.run = commit_done;
	j->taken = req->type == NBD_CMD_BLOCK_STATUS ? job_weight(req) : extra;
	memory_take(l->chunks.memory, j->taken);
	TAILQ_INSERT_TAIL(&c->jobs, j, link);
	c->n_jobs++;
	c->job_bytes += job_weight(req);
	return j;
}

struct job *job_new_in(struct conn *c, const struct nbd_request *req, struct chunk *chunk,
		       size_t offset)
{
	struct job *j = new_job(c, req, 0);

	if (j) {
		j->payload = chunk;
		j->data = chunk->data + offset;
	}
	return j;
}

struct job *job_new(struct conn *c, const struct nbd_request *req)
{
	size_t size = req->type == NBD_CMD_WRITE ? req->length : 0;
	struct chunk *chunk;
	struct job *j;

	if (size <= SMALL_PAYLOAD) {
		j = new_job(c, req, size);
		if (j)
			j->data = (uint8_t *)(j + 1);
		return j;
	}
	chunk = chunk_new(&c->loop->chunks, size);
	j = chunk ? job_new_in(c, req, chunk, 0) : NULL;
	if (!j)
		chunk_free(&c->loop->chunks, chunk);
	return j;
}

void job_free(struct job *j)
{
	struct conn *c = j->conn;

	TAILQ_REMOVE(&c->jobs, j, link);
	c->n_jobs--;
	if (j->where != JOB_FILLING)
		c->loop->n_jobs--;
	c->job_bytes -= job_weight(&j->req);
	memory_give(c->loop->chunks.memory, j->taken);
	chunk_free(&c->loop->chunks, j->reply);
	free(j->extents.list);
	chunk_free(&c->loop->chunks, j->payload);
	free(j);
}

/* ---- the end ------------------------------------------------------------------------------ */

static bool is_about_space(int r)
{
	return r == -ENOSPC || r == -EDQUOT;
}

/* A write that fails for any reason is worth waiting for a better disk: what it would write is
 * here, and nowhere else. What cannot be read is not made readable by waiting. */
static bool may_hold(const struct job *j, int r)
{
	return nbd_request_is_change(&j->req) && (is_about_space(r) || r == -EIO) &&
	       !atomic_load(&j->is_cancelled) && served_holds(j->conn->served);
}

static void end(struct job *j, int result)
{
	if (j->is_held) {
		served_unhold(j->conn->served, result == 0);
		j->is_held = false;
	}
	j->result = result;
	conn_job_done(j->conn, j);
}

/* The disk is through with it. */
static void carried_out(struct job *j, int r)
{
	struct conn *c = j->conn;

	if (r < 0 && may_hold(j, r)) {
		if (!j->is_held)
			served_hold(c->served, r);
		j->is_held = true;
		j->is_parked = true;
		j->held_ns = c->loop->now_ns;
		TAILQ_INSERT_TAIL(&c->loop->held, j, held_link);
		return;
	}
	if (r == 0 && nbd_request_is_change(&j->req)) {
		commit_wrote(&c->served->commit);
		if (served_is_durable(c->served, &j->req)) {
			job_start_commit(j);
			return;
		}
	}
	end(j, r);
}

static void disk_done(struct disk_op *op)
{
	struct job *j = container_of(op, struct job, op);

	carried_out(j, op->result);
}

static void pool_done(struct task *t)
{
	struct job *j = container_of(t, struct job, work.done);

	carried_out(j, j->result);
}

static void commit_done(struct task *t)
{
	struct job *j = container_of(t, struct job, wait.task);

	/* Whatever the sync's error was, its meaning is that nobody knows what is on the disk. */
	end(j, j->wait.result < 0 && j->wait.result != -ENOMEM ? -EIO : j->wait.result);
}

/* ---- the start ---------------------------------------------------------------------------- */

static void run_in_pool(struct work *w)
{
	struct job *j = container_of(w, struct job, work);

	j->result = atomic_load(&j->is_cancelled) ? -ECANCELED
						  : served_carry_out(j->conn->served, &j->req,
								     &j->is_cancelled, &j->extents);
}

/* Its loop counts what others are busy with, and not what the client is still sending. */
static void goes(struct job *j, enum job_place where)
{
	if (j->where == JOB_FILLING)
		j->conn->loop->n_jobs++;
	j->where = where;
}

static void in_pool(struct job *j)
{
	goes(j, JOB_IN_POOL);
	j->work.fd = store_fd(j->conn->served->store);
	pool_submit(j->conn->loop->pool, &j->work);
}

static void on_disk(struct job *j, enum disk_kind kind, uint8_t *data)
{
	goes(j, JOB_ON_DISK);
	j->op = (struct disk_op){
		.kind = kind,
		.fd = store_fd(j->conn->served->store),
		.data = data,
		.size = j->req.length,
		.offset = j->req.offset,
		.done = disk_done,
	};
	j->conn->loop->engine->submit(j->conn->loop, &j->op);
}

void job_start_commit(struct job *j)
{
	goes(j, JOB_IN_COMMIT);
	commit_add(&j->conn->served->commit, &j->wait);
}

static void fail_soon(struct job *j, int r)
{
	/* Through the loop's tasks: the caller may not see it end from within its call. */
	goes(j, JOB_IN_COMMIT);
	j->wait.result = r;
	loop_post(j->conn->loop, &j->wait.task);
}

void job_start(struct job *j)
{
	uint8_t *data;

	switch (j->req.type) {
	case NBD_CMD_READ:
		j->reply = serve_new_read_reply(j->conn, &j->req, &data);
		if (j->reply)
			on_disk(j, DISK_READ, data);
		else
			fail_soon(j, -ENOMEM);
		return;
	case NBD_CMD_WRITE: on_disk(j, DISK_WRITE, j->data); return;
	case NBD_CMD_FLUSH: job_start_commit(j); return;
	default: in_pool(j);
	}
}

void job_cancel(struct job *j)
{
	struct loop *l = j->conn->loop;

	if (atomic_exchange(&j->is_cancelled, true))
		return;
	if (j->where == JOB_ON_DISK && !j->is_parked)
		l->engine->cancel(l, &j->op);
	/* A parked one is ended by the next look at it. */
}

static void retry(struct job *j)
{
	if (atomic_load(&j->is_cancelled))
		end(j, -ECANCELED);
	else
		job_start(j);
}

void job_retry_held(struct loop *l)
{
	struct job *j, *next;

	for (j = TAILQ_FIRST(&l->held); j; j = next) {
		next = TAILQ_NEXT(j, held_link);
		if (l->now_ns - j->held_ns < RETRY_NS && !atomic_load(&j->is_cancelled))
			continue;
		TAILQ_REMOVE(&l->held, j, held_link);
		j->is_parked = false;
		retry(j);
	}
}
