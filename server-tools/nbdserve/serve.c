/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See serve.h. */
#include "serve.h"

#include "base/log.h"

#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#ifndef SYS_cachestat
#define SYS_cachestat 451 /* Linux 6.5, the same everywhere */
#endif

enum {
	/* From this size on a read of what is in the page cache is not copied (sendfile). */
	SENDFILE_MIN = 32 * 1024,
	/* Replies are sent when so much is ready, though more requests are there. */
	SEND_AT = 192 * 1024,
	/* A read up to this size shares a chunk with other replies. */
	INLINE_READ_MAX = 32 * 1024,
	PAGE = 4096,
};

/* A write that took so long makes its export's next ones go to the engine for a while. */
#define SLOW_NS (50 * CLOCK_NS_PER_MS)
#define SLOW_FOR_NS CLOCK_NS_PER_S

/* ---- replies ------------------------------------------------------------------------------ */

static enum stats_op op_of(uint16_t type)
{
	switch (type) {
	case NBD_CMD_WRITE: return STATS_WRITE;
	case NBD_CMD_FLUSH: return STATS_FLUSH;
	case NBD_CMD_TRIM: return STATS_TRIM;
	case NBD_CMD_WRITE_ZEROES: return STATS_ZERO;
	case NBD_CMD_CACHE: return STATS_CACHE;
	case NBD_CMD_BLOCK_STATUS: return STATS_BLOCK_STATUS;
	default: return STATS_READ;
	}
}

static void count(struct conn *c, const struct nbd_request *req, uint32_t error)
{
	enum stats_op op = op_of(req->type);

	if (error != NBD_OK)
		stats_count_error(&c->stats, op);
	else
		stats_count(&c->stats, op, req->length);
}

static void measure(struct conn *c, const struct nbd_request *req, uint64_t start_ns)
{
	stats_latency(&c->served->latency[c->loop->index], stats_class_of(op_of(req->type)),
		      c->loop->now_ns - start_ns);
}

/* What is answered in the turn in which it came is measured at the end of the turn, all at once. */
static void answered_now(struct conn *c, const struct nbd_request *req, uint32_t error)
{
	count(c, req, error);
	c->now_answered[stats_class_of(op_of(req->type))]++;
	c->has_answered = true;
}

void serve_measure(struct conn *c)
{
	struct stats_latency *latency = &c->served->latency[c->loop->index];
	uint64_t ns;

	if (!c->has_answered)
		return;
	c->has_answered = false;
	ns = clock_now_ns() - c->loop->now_ns;
	for (unsigned i = 0; i < STATS_CLASSES; i++)
		if (c->now_answered[i] > 0) {
			stats_bump(&latency->of[i].count[stats_bucket(ns)], c->now_answered[i]);
			stats_bump(&latency->of[i].sum_ns, ns * c->now_answered[i]);
			c->now_answered[i] = 0;
		}
}

static void reply(struct conn *c, const struct nbd_request *req, uint32_t error)
{
	uint8_t *to = out_reserve(&c->out, &c->loop->chunks, NBD_REPLY_MAX);

	if (!to) {
		conn_close(c, "out of memory");
		return;
	}
	out_commit(&c->out, nbd_reply_encode(to, req, &c->mode, error));
}

static void reply_now(struct conn *c, const struct nbd_request *req, uint32_t error)
{
	answered_now(c, req, error);
	reply(c, req, error);
}

/* ---- reads -------------------------------------------------------------------------------- */

/* Whether all of a range is in the page cache. See cachestat(2), Linux 6.5. */
static bool is_cached(struct served *s, uint64_t offset, uint64_t size)
{
	struct {
		uint64_t offset, size;
	} range = { offset & ~(uint64_t)(PAGE - 1), 0 };
	struct {
		uint64_t cached, dirty, writeback, evicted, recently_evicted;
	} stat;

	if (atomic_load_explicit(&s->has_no_cachestat, memory_order_relaxed))
		return false;
	range.size = ((offset + size + PAGE - 1) & ~(uint64_t)(PAGE - 1)) - range.offset;
	if (syscall(SYS_cachestat, store_fd(s->store), &range, &stat, 0) < 0) {
		atomic_store(&s->has_no_cachestat, true);
		return false;
	}
	/* The cache may hold more than there is: a large folio across the end of the file. */
	return stat.cached >= range.size / PAGE && store_reaches(s->store, offset + size);
}

void serve_distrust_file(struct conn *c)
{
	atomic_store(&c->served->has_no_cachestat, true);
}

static bool read_by_sendfile(struct conn *c, const struct nbd_request *req)
{
	struct chunk *chunk;

	if (!is_cached(c->served, req->offset, req->length))
		return false;
	chunk = chunk_new_file(&c->loop->chunks, NBD_REPLY_MAX, store_fd(c->served->store),
			       req->offset, req->length);
	if (!chunk)
		return false;
	chunk->used = nbd_read_head_encode(chunk->data, req, &c->mode);
	out_add_chunk(&c->out, chunk);
	return true;
}

/* What is in the page cache, or -EAGAIN. Shorter than asked for counts as not there. */
static int read_without_waiting(struct served *s, uint8_t *to, const struct nbd_request *req)
{
	struct iovec iov = { .iov_base = to, .iov_len = req->length };
	ssize_t n;

	if (atomic_load_explicit(&s->has_no_nowait, memory_order_relaxed))
		return -EAGAIN;
	n = preadv2(store_fd(s->store), &iov, 1, (off_t)req->offset, RWF_NOWAIT);
	if (n < 0 && errno == EOPNOTSUPP)
		atomic_store(&s->has_no_nowait, true);
	return n == (ssize_t)req->length ? 0 : -EAGAIN;
}

struct chunk *serve_new_read_reply(struct conn *c, const struct nbd_request *req, uint8_t **data)
{
	struct chunk *chunk = chunk_new(&c->loop->chunks, NBD_REPLY_MAX + req->length);

	if (!chunk)
		return NULL;
	chunk->used = nbd_read_head_encode(chunk->data, req, &c->mode);
	*data = chunk->data + chunk->used;
	chunk->used += req->length;
	return chunk;
}

static bool read_large(struct conn *c, const struct nbd_request *req)
{
	struct chunk *chunk;
	uint8_t *data;

	if (atomic_load_explicit(&c->served->has_no_nowait, memory_order_relaxed))
		return false;
	chunk = serve_new_read_reply(c, req, &data);
	if (!chunk)
		return false;
	if (read_without_waiting(c->served, data, req) < 0) {
		chunk_free(&c->loop->chunks, chunk);
		return false;
	}
	out_add_chunk(&c->out, chunk);
	return true;
}

/* Whether it could be answered without waiting for the disk. */
static bool read_now(struct conn *c, const struct nbd_request *req)
{
	uint8_t head[NBD_REPLY_MAX];
	size_t head_size;
	uint8_t *to;

	/*
	 * Over TCP to this machine what is not copied here is copied there, out of pages that are
	 * in no processor's cache: measured, that is slower. (Over a unix socket it is not.)
	 */
	if (req->length >= SENDFILE_MIN && !c->peer.is_here && read_by_sendfile(c, req))
		return true;
	if (req->length > INLINE_READ_MAX)
		return read_large(c, req);
	head_size = nbd_read_head_encode(head, req, &c->mode);
	to = out_reserve(&c->out, &c->loop->chunks, head_size + req->length);
	if (!to || (req->length > 0 && read_without_waiting(c->served, to + head_size, req) < 0))
		return false;
	memcpy(to, head, head_size);
	out_commit(&c->out, head_size + req->length);
	return true;
}

/* ---- writes ------------------------------------------------------------------------------- */

static bool may_write_now(const struct conn *c, const struct nbd_request *req)
{
	return !served_is_durable(c->served, req) &&
	       c->loop->now_ns >=
		       atomic_load_explicit(&c->served->slow_until_ns, memory_order_relaxed);
}

/* Into the page cache, which takes no time as a rule. */
static int write_now(struct conn *c, const struct nbd_request *req, const uint8_t *data)
{
	struct served *s = c->served;
	uint64_t start_ns = clock_now_ns(), end_ns;
	int r = store_write(s->store, data, req->length, req->offset);

	end_ns = clock_now_ns();
	if (end_ns - start_ns > SLOW_NS)
		atomic_store(&s->slow_until_ns, end_ns + SLOW_FOR_NS);
	if (r == 0)
		commit_wrote(&s->commit);
	return r;
}

/* Whether a write could be answered at once; if not, it is a job's. */
static bool answer_write_now(struct conn *c, const struct nbd_request *req, const uint8_t *data)
{
	uint32_t error = NBD_OK;

	if (commit_error(&c->served->commit) < 0)
		error = NBD_EIO;
	else if (!may_write_now(c, req) || write_now(c, req, data) < 0)
		return false;
	reply_now(c, req, error);
	return true;
}

/* A job for a write of which size bytes are at data; NULL without memory. */
static struct job *new_write(struct conn *c, const struct nbd_request *req, const uint8_t *data,
			     size_t size)
{
	struct chunk *ahead = c->ahead;
	struct job *j;

	/* In the chunk that was meant for it: it stays where it is. */
	if (ahead && size >= SERVE_DIRECT_MIN && data >= ahead->data &&
	    (size_t)(data - ahead->data) + req->length <= ahead->capacity && ahead->used == 0) {
		j = job_new_in(c, req, ahead, (size_t)(data - ahead->data));
		if (j)
			c->ahead = NULL;
		return j;
	}
	j = job_new(c, req);
	if (j)
		memcpy(j->data, data, size);
	return j;
}

void serve_prepare(struct conn *c)
{
	size_t head_size = nbd_request_head_size(&c->mode);

	if (c->is_drained || c->last_write < SERVE_AHEAD_MIN || serve_is_inside(c) ||
	    memory_is_scarce(c->loop->chunks.memory))
		return;
	c->ahead = chunk_new(&c->loop->chunks, CHUNK_ALIGN + c->last_write);
	if (!c->ahead)
		return;
	/* So that the payload begins a cache line. */
	c->target = c->ahead->data + CHUNK_ALIGN - head_size;
	c->target_size = head_size + c->last_write;
}

/* A write whose whole payload is at data. */
static void take_write(struct conn *c, const struct nbd_request *req, const uint8_t *data)
{
	struct job *j;

	if (answer_write_now(c, req, data))
		return;
	j = new_write(c, req, data, req->length); /* if it failed: tries again, and says why */
	if (j)
		job_start(j);
	else
		reply_now(c, req, NBD_ENOMEM);
}

/* ---- requests ----------------------------------------------------------------------------- */

static void begin_job(struct conn *c, const struct nbd_request *req)
{
	struct job *j = job_new(c, req);

	if (j)
		job_start(j);
	else
		reply_now(c, req, NBD_ENOMEM);
}

/* A request that nbd_request_check() has passed and that has no payload. */
static void carry_out(struct conn *c, const struct nbd_request *req)
{
	bool is_change = req->type == NBD_CMD_TRIM || req->type == NBD_CMD_WRITE_ZEROES;
	bool has_nothing_to_do =
		req->type == NBD_CMD_FLUSH
			? c->info.flags & NBD_FLAG_READ_ONLY || commit_is_clean(&c->served->commit)
			: req->length == 0;

	if (req->type == NBD_CMD_READ && read_now(c, req))
		answered_now(c, req, NBD_OK);
	else if (is_change && commit_error(&c->served->commit) < 0)
		reply_now(c, req, NBD_EIO);
	else if (has_nothing_to_do)
		reply_now(c, req, NBD_OK);
	else
		begin_job(c, req);
}

/* The payload of a write begins to arrive: size bytes of it are at data. */
static void begin_payload(struct conn *c, const struct nbd_request *req, const uint8_t *data,
			  size_t size)
{
	c->filling = new_write(c, req, data, size);
	c->filled = size;
	if (c->filling) {
		c->input_ns = c->loop->now_ns;
		conn_set_timed(c);
		return;
	}
	c->discard = req->length - size;
	c->refused = *req;
	c->refused_error = NBD_ENOMEM;
}

static void payload_is_complete(struct conn *c)
{
	struct job *j = c->filling;

	c->filling = NULL;
	c->target_size = 0;
	if (answer_write_now(c, &j->req, j->data))
		job_free(j);
	else
		job_start(j);
}

/* Whether a request of so many bytes may be taken on now. */
static bool may_take(const struct conn *c, size_t bytes)
{
	const struct memory *m = c->loop->chunks.memory;
	size_t held = c->job_bytes + c->out.bytes;
	bool is_idle = c->n_jobs == 0 && out_is_empty(&c->out);

	if (c->n_jobs >= SERVE_JOBS_MAX || held + bytes > SERVE_BYTES_MAX)
		return false;
	/*
	 * When memory is scarce, whoever has nothing in flight may still do one thing at a time, up
	 * to twice the limit: so the clients of a full disk, who wait, do not stop the others.
	 */
	return !memory_is_scarce(m) || (is_idle && atomic_load(&m->used) < 2 * m->limit);
}

bool serve_has_room(const struct conn *c)
{
	/* Half, so that it does not go back and forth with each request. */
	return c->n_jobs < SERVE_JOBS_MAX / 2 &&
	       c->job_bytes + c->out.bytes < SERVE_BYTES_MAX / 2 && may_take(c, c->wanted);
}

/*
 * A request's head is at hand, and behind it `left` bytes of input. Returns how many of those it
 * has used, or -1 when it has to wait (c->is_paused) or the connection ends.
 */
static ssize_t take_request(struct conn *c, const uint8_t *head, const uint8_t *data, size_t left)
{
	struct nbd_request req;
	uint64_t payload;
	uint32_t error;

	if (!(c->mode.extended ? nbd_extended_request_decode(&req, head)
			       : nbd_request_decode(&req, head))) {
		conn_close(c, "a request does not begin with the request magic");
		return -1;
	}
	if (req.type == NBD_CMD_DISC) {
		conn_leave(c, "the client said goodbye");
		return -1;
	}
	payload = nbd_request_payload(&req, &c->mode);
	if (payload > c->info.block_max) {
		conn_close(c, "a payload of %llu bytes; the longest allowed has %u",
			   (unsigned long long)payload, c->info.block_max);
		return -1;
	}
	error = nbd_request_check(&req, &c->info, &c->mode);
	if (!may_take(c, error == NBD_OK ? job_weight(&req) : 0)) {
		c->is_paused = true;
		c->wanted = error == NBD_OK ? job_weight(&req) : 0;
		return -1;
	}
	if (error != NBD_OK) {
		if (payload <= left) {
			reply_now(c, &req, error);
			return (ssize_t)payload;
		}
		c->discard = payload - left;
		c->refused = req;
		c->refused_error = error;
		return (ssize_t)left;
	}
	if (payload == 0) {
		carry_out(c, &req);
		return 0;
	}
	c->last_write = payload;
	if (payload <= left) {
		take_write(c, &req, data);
		return (ssize_t)payload;
	}
	begin_payload(c, &req, data, left);
	return (ssize_t)left;
}

static size_t smaller(uint64_t a, size_t b)
{
	return a < b ? (size_t)a : b;
}

/* Bytes for what it is in the middle of. */
static size_t continue_payload(struct conn *c, const uint8_t *data, size_t size)
{
	size_t n;

	if (c->discard > 0) {
		n = smaller(c->discard, size);
		c->discard -= n;
		if (c->discard == 0)
			reply_now(c, &c->refused, c->refused_error);
		return n;
	}
	n = smaller(c->filling->req.length - c->filled, size);
	memcpy(c->filling->data + c->filled, data, n);
	c->filled += n;
	c->input_ns = c->loop->now_ns;
	if (c->filled == c->filling->req.length)
		payload_is_complete(c);
	return n;
}

/* A head of which a part came before. */
static size_t continue_head(struct conn *c, const uint8_t *data, size_t size)
{
	size_t want = nbd_request_head_size(&c->mode);
	size_t n = smaller(want - c->head_have, size);
	ssize_t used;

	memcpy(c->head + c->head_have, data, n);
	c->head_have += (unsigned)n;
	if (c->head_have < want)
		return n;
	used = take_request(c, c->head, data + n, size - n);
	if (used >= 0 || !c->is_paused)
		c->head_have = 0;
	else
		c->head_have -= (unsigned)n; /* it will be given again */
	return used >= 0 ? n + (size_t)used : c->is_paused ? 0 : n;
}

size_t serve_input(struct conn *c, const uint8_t *data, size_t size)
{
	size_t head_size = nbd_request_head_size(&c->mode);
	unsigned requests = 0;
	size_t pos = 0;

	while (pos < size && c->state == CONN_SERVING) {
		if (c->discard > 0 || c->filling) {
			pos += continue_payload(c, data + pos, size - pos);
			continue;
		}
		if (requests == SERVE_TURN_REQUESTS || pos >= SERVE_TURN_BYTES)
			break;
		requests++;
		if (c->head_have > 0 || size - pos < head_size) {
			pos += continue_head(c, data + pos, size - pos);
		} else {
			ssize_t used = take_request(c, data + pos, data + pos + head_size,
						    size - pos - head_size);

			if (used < 0)
				break;
			pos += head_size + (size_t)used;
		}
		if (c->is_paused)
			break;
		if (c->out.bytes >= SEND_AT)
			conn_flush(c);
	}
	/* What is missing of a long payload is received in place. */
	c->target_size = 0;
	if (c->state == CONN_SERVING && c->filling &&
	    c->filling->req.length - c->filled >= SERVE_DIRECT_MIN) {
		c->target = c->filling->data + c->filled;
		c->target_size = c->filling->req.length - c->filled;
	}
	return pos;
}

void serve_filled(struct conn *c, size_t size)
{
	c->filled += size;
	c->target += size;
	c->target_size -= size;
	c->input_ns = c->loop->now_ns;
	if (c->target_size == 0)
		payload_is_complete(c);
}

/* ---- the ends of jobs --------------------------------------------------------------------- */

static void reply_extents(struct conn *c, struct job *j)
{
	size_t n = nbd_extents_fit(j->extents.list, j->extents.count, &j->req, &c->mode);
	uint8_t *to;

	if (n == 0) {
		reply(c, &j->req, NBD_EIO);
		return;
	}
	to = out_reserve(&c->out, &c->loop->chunks, NBD_REPLY_MAX);
	if (to)
		out_commit(&c->out, nbd_block_status_head_encode(to, &j->req, &c->mode, n));
	for (size_t i = 0; to && i < n; i++) {
		to = out_reserve(&c->out, &c->loop->chunks, NBD_EXTENT_MAX);
		if (to)
			out_commit(&c->out, nbd_extent_encode(to, &j->extents.list[i], &c->mode));
	}
	if (!to)
		conn_close(c, "out of memory");
}

void serve_job_done(struct conn *c, struct job *j)
{
	uint32_t error = NBD_OK;

	if (j->result < 0)
		error = served_failed(c->served, &j->req, j->result);
	count(c, &j->req, error);
	measure(c, &j->req, j->start_ns);
	if (c->state == CONN_CLOSING || (j->result == -ECANCELED && c->state != CONN_SERVING)) {
		job_free(j);
		return;
	}
	if (error != NBD_OK ||
	    (j->req.type != NBD_CMD_READ && j->req.type != NBD_CMD_BLOCK_STATUS)) {
		reply(c, &j->req, error);
	} else if (j->req.type == NBD_CMD_BLOCK_STATUS) {
		reply_extents(c, j);
	} else {
		out_add_chunk(&c->out, j->reply);
		j->reply = NULL;
	}
	job_free(j);
}

bool serve_is_inside(const struct conn *c)
{
	return c->head_have > 0 || c->filling || c->discard > 0;
}

void serve_abandon(struct conn *c)
{
	if (c->filling)
		job_free(c->filling);
	c->filling = NULL;
	chunk_free(&c->loop->chunks, c->ahead);
	c->ahead = NULL;
	c->discard = 0;
	c->head_have = 0;
	c->target_size = 0;
}
