/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See conn.h. */
#include "conn.h"

#include "negotiate.h"
#include "serve.h"
#include "server.h"

#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static void try_to_finish(struct conn *c);

/* ---- lists -------------------------------------------------------------------------------- */

void conn_set_ready(struct conn *c)
{
	if (!c->is_ready)
		TAILQ_INSERT_TAIL(&c->loop->ready, c, ready_link);
	c->is_ready = true;
}

void conn_set_dirty(struct conn *c)
{
	if (!c->is_dirty)
		TAILQ_INSERT_TAIL(&c->loop->dirty, c, dirty_link);
	c->is_dirty = true;
}

void conn_set_timed(struct conn *c)
{
	if (!c->is_timed)
		TAILQ_INSERT_TAIL(&c->loop->timed, c, timed_link);
	c->is_timed = true;
}

static void drop_stash(struct conn *c)
{
	if (c->stash)
		memory_give(c->loop->chunks.memory, c->stash_size);
	free(c->stash);
	c->stash = NULL;
}

static void leave_lists(struct conn *c)
{
	struct loop *l = c->loop;

	if (c->is_ready)
		TAILQ_REMOVE(&l->ready, c, ready_link);
	if (c->is_dirty)
		TAILQ_REMOVE(&l->dirty, c, dirty_link);
	if (c->is_timed)
		TAILQ_REMOVE(&l->timed, c, timed_link);
	c->is_ready = c->is_dirty = c->is_timed = false;
}

/* ---- the end ------------------------------------------------------------------------------ */

_printf_(2, 0) static void set_reason(struct conn *c, const char *fmt, va_list ap)
{
	if (!c->said_reason)
		vsnprintf(c->reason, sizeof(c->reason), fmt, ap);
	c->said_reason = true;
}

/* Nothing is received any more. */
static void stop_receiving(struct conn *c)
{
	if (c->is_receiving)
		shutdown(c->fd, SHUT_RD); /* c->target may be the kernel's until that has ended */
	else
		serve_abandon(c);
	drop_stash(c);
	c->is_paused = false;
}

void conn_leave(struct conn *c, const char *fmt, ...)
{
	struct job *j;
	va_list ap;

	va_start(ap, fmt);
	set_reason(c, fmt, ap);
	va_end(ap);
	if (c->state >= CONN_LEAVING)
		return;
	negotiate_stop_waiting(c);
	c->state = CONN_LEAVING;
	stop_receiving(c);
	TAILQ_FOREACH (j, &c->jobs, link)
		if (j->is_held) /* nobody knows when there will be room: who comes back asks again
				 */
			job_cancel(j);
	conn_set_dirty(c); /* sends what there is, then sees whether that was all */
}

void conn_close(struct conn *c, const char *fmt, ...)
{
	struct job *j;
	va_list ap;

	va_start(ap, fmt);
	set_reason(c, fmt, ap);
	va_end(ap);
	if (c->state == CONN_CLOSING)
		return;
	negotiate_stop_waiting(c);
	c->state = CONN_CLOSING;
	shutdown(c->fd, SHUT_RDWR); /* ends what the engine has */
	stop_receiving(c);
	TAILQ_FOREACH (j, &c->jobs, link)
		job_cancel(j);
	out_deinit(&c->out, &c->loop->chunks);
	conn_set_dirty(c);
}

static void log_end(const struct conn *c)
{
	if (c->since_ns == 0)
		return; /* it was never in, and that was said */
	log_info("%s: disconnected from export \"%s\" after %llu s: %s", c->peer.text,
		 c->served->config.name,
		 (unsigned long long)((c->loop->now_ns - c->since_ns) / CLOCK_NS_PER_S), c->reason);
}

/* Nothing is in flight any more, and nobody waits for anything of it. */
static void finish(struct conn *c)
{
	struct loop *l = c->loop;

	c->is_finished = true;
	serve_abandon(c);
	log_end(c);
	l->engine->remove(l, c);
	leave_lists(c);
	out_deinit(&c->out, &l->chunks);
	free(c->hss);
	c->hss = NULL;
	shutdown(c->fd, SHUT_RDWR); /* the client hears of it before anybody else gets the export */
	if (c->has_lease)
		lease_give_back(&c->served->lease, &c->user);
	server_remove(c->server, c);
	if (c->served)
		served_put(c->served);
	c->served = NULL;
	/* From here on nobody can post its task any more; one that was posted still has to run. */
	if (!atomic_load(&c->user.is_cut) || c->cut_seen)
		TAILQ_INSERT_TAIL(&l->dead, c, ready_link);
}

void conn_bury(struct loop *l)
{
	struct conn *c;

	while ((c = TAILQ_FIRST(&l->dead))) {
		TAILQ_REMOVE(&l->dead, c, ready_link);
		TAILQ_REMOVE(&l->conns, c, link);
		atomic_fetch_sub(&l->n_conns, 1);
		free(c->session);
		free(c);
	}
}

static void try_to_finish(struct conn *c)
{
	if (c->is_finished || c->n_jobs > 0)
		return;
	if (c->state == CONN_LEAVING && out_is_empty(&c->out))
		conn_close(c, "%s", c->reason);
	if (c->state == CONN_CLOSING && c->n_ops == 0)
		finish(c);
}

/* Another connection of its client, or an administrator, has cut it off. */
static void on_cut(struct task *t)
{
	struct conn *c = container_of(t, struct conn, user.cut);

	c->cut_seen = true;
	if (c->is_finished) {
		TAILQ_INSERT_TAIL(&c->loop->dead, c, ready_link);
		return;
	}
	conn_close(c, "%s", c->user.cut_reason);
	try_to_finish(c);
}

/* ---- output ------------------------------------------------------------------------------- */

/* TCP_USER_TIMEOUT has run out: of a silent network, or of a client that takes nothing. */
static void timed_out(struct conn *c)
{
	if (out_is_empty(&c->out)) {
		conn_close(c, "the client has vanished: its machine or the network is down, or it "
			      "reads nothing");
		server_count(c->server, &c->server->dropped_dead);
	} else {
		conn_close(c, "the client does not read its replies");
		server_count(c->server, &c->server->dropped_deaf);
	}
}

/* on_cut() is about to be called, and knows why. */
static bool is_being_cut(const struct conn *c)
{
	return atomic_load(&c->user.is_cut) && !c->cut_seen;
}

static void could_not_send(struct conn *c, int error)
{
	if (is_being_cut(c))
		return;
	if (error == -ETIMEDOUT) {
		timed_out(c);
		return;
	}
	if (out_is_file(&c->out) && error != -EPIPE && error != -ECONNRESET)
		serve_distrust_file(c);
	conn_close(c, "a reply could not be sent: %s", strerror(-error));
}

static void resume(struct conn *c)
{
	bool has_room = c->state == CONN_SERVING ? serve_has_room(c) : out_is_empty(&c->out);

	if (c->is_paused && has_room) {
		c->is_paused = false;
		conn_set_ready(c);
	}
}

static void show(struct conn *c)
{
	const struct job *oldest = TAILQ_FIRST(&c->jobs);

	atomic_store_explicit(&c->shown_jobs, c->n_jobs, memory_order_relaxed);
	atomic_store_explicit(&c->shown_unsent, c->out.bytes, memory_order_relaxed);
	if (oldest)
		atomic_store_explicit(&c->oldest_ns, oldest->start_ns, memory_order_relaxed);
}

void conn_flush(struct conn *c)
{
	struct loop *l = c->loop;
	bool moved;
	int r;

	if (c->is_finished)
		return;
	if (c->state != CONN_CLOSING && !c->is_awaiting_room && !out_is_empty(&c->out)) {
		r = out_send(&c->out, &l->chunks, c->fd, l->engine->is_blocking, &moved);
		/* A wait begins once: that there is room, and then not, is no progress. */
		if (moved || (r == 1 && !c->is_stalled))
			c->output_ns = l->now_ns;
		c->is_stalled = r == 1;
		if (r == 1) {
			l->engine->await_room(l, c);
			conn_set_timed(c);
		} else if (r < 0) {
			could_not_send(c, r);
		}
	}
	show(c);
	resume(c);
	if (c->state >= CONN_LEAVING) {
		if (!c->is_receiving)
			serve_abandon(c);
		try_to_finish(c);
	}
}

void conn_has_room(struct conn *c)
{
	conn_flush(c);
}

/* ---- input -------------------------------------------------------------------------------- */

/* Looks at bytes; returns how many it has used. */
static size_t consume(struct conn *c, const uint8_t *data, size_t size)
{
	size_t used = 0;

	if (c->state == CONN_NEGOTIATING)
		used = negotiate_input(c, data, size);
	if (c->state == CONN_SERVING)
		used += serve_input(c, data + used, size - used);
	return c->state >= CONN_LEAVING ? size : used;
}

/* What comes next: more of the stash, more from the network, or a wait for something. */
static void go_on(struct conn *c)
{
	struct loop *l = c->loop;

	conn_flush(c);
	if (c->state == CONN_SERVING)
		serve_measure(c);
	if (c->state >= CONN_LEAVING || c->state == CONN_WAITING || c->is_receiving)
		return;
	if (c->is_paused) {
		conn_set_timed(c); /* memory may be freed by others */
		return;
	}
	if (c->stash)
		conn_set_ready(c);
	else
		l->engine->receive(l, c);
}

static void keep_rest(struct conn *c, const uint8_t *data, size_t size)
{
	c->stash = malloc(size);
	if (!c->stash) {
		conn_close(c, "out of memory");
		return;
	}
	memory_take(c->loop->chunks.memory, size);
	memcpy(c->stash, data, size);
	c->stash_pos = 0;
	c->stash_size = size;
}

static void take_input(struct conn *c, const uint8_t *data, size_t size)
{
	size_t used = consume(c, data, size);

	if (used < size)
		keep_rest(c, data + used, size - used);
}

static void take_filled(struct conn *c, size_t size)
{
	struct chunk *ahead = c->ahead;

	if (c->state != CONN_SERVING)
		return;
	if (!ahead) {
		serve_filled(c, size);
		return;
	}
	c->target_size = 0;
	take_input(c, c->target, size);
	if (c->ahead) { /* it has not become a job's */
		chunk_free(&c->loop->chunks, ahead);
		c->ahead = NULL;
	}
}

/* Receives once. Returns whether there may be more for now. */
static bool receive_once(struct conn *c, size_t *moved)
{
	struct loop *l = c->loop;
	bool is_direct;
	size_t size;
	ssize_t n;

	if (c->state == CONN_SERVING && c->target_size == 0)
		serve_prepare(c);
	is_direct = c->target_size > 0;
	size = is_direct ? c->target_size : LOOP_INPUT_SIZE;
	do
		n = recv(c->fd, is_direct ? c->target : l->input, size, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN) {
		if (c->ahead) { /* nothing follows: whoever is idle holds nothing */
			chunk_free(&l->chunks, c->ahead);
			c->ahead = NULL;
			c->target_size = 0;
		}
		c->is_drained = true;
		return false;
	}
	c->is_drained = n < (ssize_t)size;
	if (n <= 0) {
		*moved += 1;
		conn_ended(c, n < 0 ? -errno : 0);
		return false;
	}
	*moved += (size_t)n;
	if (is_direct)
		take_filled(c, (size_t)n);
	else
		take_input(c, l->input, (size_t)n);
	/* Of a payload that is being received in place the rest may have come meanwhile. */
	return c->target_size > 0 || !c->is_drained;
}

/* Whether it wants to receive now. */
static bool is_open(const struct conn *c)
{
	return c->state < CONN_LEAVING && c->state != CONN_WAITING && !c->stash && !c->is_paused;
}

bool conn_receive(struct conn *c)
{
	size_t moved = 0;

	while (is_open(c) && moved < SERVE_TURN_BYTES && receive_once(c, &moved))
		;
	if (moved > 0)
		go_on(c);
	return moved > 0;
}

/* The engine has received: what came with it is answered with it. */
static void received(struct conn *c)
{
	size_t moved = 0;

	while (!c->is_drained && is_open(c) && moved < SERVE_TURN_BYTES && receive_once(c, &moved))
		;
	go_on(c);
}

void conn_input(struct conn *c, const uint8_t *data, size_t size)
{
	take_input(c, data, size);
	received(c);
}

void conn_filled(struct conn *c, size_t size)
{
	take_filled(c, size);
	received(c);
}

void conn_continue(struct conn *c)
{
	if (c->stash && c->state < CONN_LEAVING) {
		c->stash_pos += consume(c, c->stash + c->stash_pos, c->stash_size - c->stash_pos);
		if (c->stash && c->stash_pos >= c->stash_size)
			drop_stash(c);
	}
	go_on(c);
}

void conn_ended(struct conn *c, int error)
{
	if (is_being_cut(c))
		return;
	if (c->state == CONN_NEGOTIATING)
		negotiate_ended(c, error);
	else if (error == -ETIMEDOUT && c->state < CONN_CLOSING)
		timed_out(c);
	else if (error < 0 && c->state < CONN_CLOSING)
		conn_close(c, "the connection broke: %s", strerror(-error));
	else
		conn_leave(c, "the client closed the connection%s",
			   serve_is_inside(c) ? " in the middle of a request"
					      : " without a goodbye");
	conn_flush(c);
}

void conn_job_done(struct conn *c, struct job *j)
{
	serve_job_done(c, j);
	conn_set_dirty(c);
}

/* ---- time --------------------------------------------------------------------------------- */

static bool has_waited(const struct conn *c, uint64_t since_ns, uint64_t seconds)
{
	return c->loop->now_ns > since_ns + seconds * CLOCK_NS_PER_S;
}

/* Returns whether it has to be looked at again. */
static bool look_at(struct conn *c)
{
	bool is_scarce = memory_is_scarce(c->loop->chunks.memory);
	uint64_t limit_s = is_scarce ? CONN_STALL_SCARCE_S : CONN_STALL_S;

	if (c->state == CONN_NEGOTIATING || c->state == CONN_WAITING)
		return negotiate_tick(c);
	if (c->state == CONN_CLOSING)
		return false;
	if (!out_is_empty(&c->out) && has_waited(c, c->output_ns, limit_s)) {
		conn_close(c, "the client does not read its replies");
		server_count(c->server, &c->server->dropped_deaf);
		return false;
	}
	if (c->filling && has_waited(c, c->input_ns, limit_s)) {
		conn_close(c, "the client stopped in the middle of a request");
		return false;
	}
	resume(c);
	return !out_is_empty(&c->out) || c->filling || c->is_paused;
}

void conn_tick(struct loop *l)
{
	struct conn *c, *next;

	for (c = TAILQ_FIRST(&l->timed); c; c = next) {
		next = TAILQ_NEXT(c, timed_link);
		if (look_at(c))
			continue;
		TAILQ_REMOVE(&l->timed, c, timed_link);
		c->is_timed = false;
	}
}

void conn_start(struct conn *c)
{
	struct loop *l = c->loop;

	TAILQ_INSERT_TAIL(&l->conns, c, link);
	TAILQ_INIT(&c->jobs);
	out_init(&c->out);
	c->user.cut.run = on_cut;
	if (l->engine->add(l, c) < 0) {
		conn_close(c, "out of memory");
		return;
	}
	negotiate_start(c);
	go_on(c);
}
