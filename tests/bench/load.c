/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The load loop. A connection has as many slots as requests may be in flight; a slot's request
 * waits in the connection's send queue, then for its reply, whose cookie names the slot. With one
 * connection the thread sleeps in recv(2), else in epoll_wait(2).
 */
#include "load.h"

#include "base/clock.h"
#include "base/log.h"
#include "proto/names.h"
#include "proto/reply.h"

#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum {
	/* All of 32 read replies of 4 KiB, and still in the second-level cache. */
	RECEIVE_SIZE = 256 * 1024,
	PAYLOAD_SIZE = 2 * LOAD_BLOCK_MAX,
	SILENCE_MAX_S = 30,
};

struct slot {
	uint64_t cookie, started_ns;
	bool is_in_flight, is_flush;
};

struct queued {
	uint8_t head[NBD_REQUEST_SIZE];
	const uint8_t *payload; /* NULL: none */
};

struct conn {
	int fd;
	bool waits_for_room; /* the socket is full */
	unsigned in_flight;
	uint64_t next_offset, next_number;
	struct slot *slots;

	/* requests to send: a ring of depth entries, the first of them sent in part */
	struct queued *queue;
	unsigned queue_first, queue_count;
	size_t first_sent;

	/* the reply that is being received */
	uint8_t head[NBD_SIMPLE_REPLY_SIZE];
	size_t head_have;
	struct slot *receiving; /* its payload is coming */
	size_t payload_left;

	/* whose reply came with the last receive, to be used again */
	unsigned *finished;
	unsigned n_finished;
};

struct load {
	const struct load_plan *plan;
	struct load_result *result;
	uint64_t now_ns, begin_ns, end_ns;
	uint64_t random;
	unsigned in_flight;
	int epoll; /* -1 with a single connection */
	uint8_t *payload, *buffer;
	struct conn *conns;
	unsigned n;
};

/* xorshift64*: good enough for offsets, and free. */
static uint64_t next_random(struct load *l)
{
	l->random ^= l->random >> 12;
	l->random ^= l->random << 25;
	l->random ^= l->random >> 27;
	return l->random * UINT64_C(0x2545f4914f6cdd1d);
}

/* ---- sending ------------------------------------------------------------------------------ */

static void submit(struct load *l, struct conn *c, unsigned index, bool is_flush)
{
	const struct load_plan *plan = l->plan;
	unsigned place = c->queue_first + c->queue_count++;
	struct queued *q = &c->queue[place < plan->depth ? place : place - plan->depth];
	struct slot *slot = &c->slots[index];
	struct nbd_request req = { .cookie = c->next_number++ << 16 | index };

	slot->cookie = req.cookie;
	slot->is_in_flight = true;
	slot->is_flush = is_flush;
	c->in_flight++;
	l->in_flight++;
	q->payload = NULL;
	if (is_flush) {
		req.type = NBD_CMD_FLUSH;
	} else {
		slot->started_ns = l->now_ns;
		req.type = plan->kind == LOAD_READ ? NBD_CMD_READ : NBD_CMD_WRITE;
		req.length = plan->block;
		if (plan->is_random) {
			uint64_t blocks = plan->span / plan->block;

			req.offset = (uint64_t)((unsigned __int128)next_random(l) * blocks >> 64) *
				     plan->block;
		} else {
			req.offset = c->next_offset;
			c->next_offset += plan->block;
			if (c->next_offset + plan->block > plan->span)
				c->next_offset = 0;
		}
		/* Data that differs from write to write, and costs nothing to make. */
		if (plan->kind != LOAD_READ)
			q->payload = l->payload + req.cookie % (LOAD_BLOCK_MAX / 64) * 64;
	}
	nbd_request_encode(&req, q->head);
}

/* What is queued as a vector; heads that lie side by side are one piece. */
static unsigned gather(const struct load *l, const struct conn *c, struct iovec *iov)
{
	size_t skip = c->first_sent;
	unsigned n = 0, place = c->queue_first;

	for (unsigned i = 0; i < c->queue_count; i++) {
		struct queued *q = &c->queue[place];
		size_t head_skip = skip < NBD_REQUEST_SIZE ? skip : NBD_REQUEST_SIZE;

		if (head_skip < NBD_REQUEST_SIZE)
			iov[n++] =
				(struct iovec){ q->head + head_skip, NBD_REQUEST_SIZE - head_skip };
		skip -= head_skip;
		if (q->payload != NULL)
			iov[n++] = (struct iovec){ (void *)(q->payload + skip),
						   l->plan->block - skip };
		skip = 0;
		if (++place == l->plan->depth)
			place = 0;
	}
	return n;
}

static int set_waits_for_room(struct load *l, struct conn *c, bool waits)
{
	struct epoll_event event = {
		.events = EPOLLIN | (waits ? EPOLLOUT : 0),
		.data.ptr = c,
	};

	if (c->waits_for_room == waits)
		return 0;
	c->waits_for_room = waits;
	if (l->epoll >= 0 && epoll_ctl(l->epoll, EPOLL_CTL_MOD, c->fd, &event) < 0) {
		log_error("epoll: %s", strerror(errno));
		return -1;
	}
	return 0;
}

static int send_queued(struct load *l, struct conn *c)
{
	struct iovec iov[2 * LOAD_DEPTH_MAX];
	struct msghdr msg = { .msg_iov = iov };
	ssize_t n;

	while (c->queue_count > 0) {
		msg.msg_iovlen = gather(l, c, iov);
		n = sendmsg(c->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN)
			return set_waits_for_room(l, c, true);
		if (n < 0) {
			log_error("send: %s", strerror(errno));
			return -1;
		}
		c->first_sent += (size_t)n;
		while (c->queue_count > 0) {
			struct queued *q = &c->queue[c->queue_first];
			size_t size = NBD_REQUEST_SIZE + (q->payload ? l->plan->block : 0);

			if (c->first_sent < size)
				break;
			c->first_sent -= size;
			c->queue_count--;
			if (++c->queue_first == l->plan->depth)
				c->queue_first = 0;
		}
	}
	return set_waits_for_room(l, c, false);
}

/* ---- receiving ---------------------------------------------------------------------------- */

static void finish(struct load *l, struct conn *c, struct slot *slot)
{
	slot->is_in_flight = false;
	c->in_flight--;
	l->in_flight--;
	c->finished[c->n_finished++] = (unsigned)(slot - c->slots);
	if (l->plan->kind == LOAD_WRITE_FLUSH && !slot->is_flush)
		return;
	l->result->ops_all++;
	if (l->now_ns >= l->begin_ns && l->now_ns < l->end_ns)
		histogram_add(&l->result->latency, l->now_ns - slot->started_ns);
}

static int reply_head(struct load *l, struct conn *c, const uint8_t *head)
{
	struct nbd_simple_reply rep;
	struct slot *slot;

	if (!nbd_simple_reply_decode(&rep, head)) {
		log_error("the stream is out of step: a reply without NBD_SIMPLE_REPLY_MAGIC");
		return -1;
	}
	slot = &c->slots[rep.cookie & 0xffff];
	if ((rep.cookie & 0xffff) >= l->plan->depth || !slot->is_in_flight ||
	    slot->cookie != rep.cookie) {
		log_error("a reply to cookie %#llx, which is not in flight",
			  (unsigned long long)rep.cookie);
		return -1;
	}
	if (rep.error != NBD_OK) {
		log_error("the server answered a %s with error %u",
			  slot->is_flush               ? "flush"
			  : l->plan->kind == LOAD_READ ? "read"
						       : "write",
			  rep.error);
		return -1;
	}
	if (l->plan->kind == LOAD_READ) {
		c->receiving = slot;
		c->payload_left = l->plan->block;
	} else {
		finish(l, c, slot);
	}
	return 0;
}

static int parse(struct load *l, struct conn *c, size_t size)
{
	const uint8_t *p = l->buffer, *end = p + size;

	while (p < end) {
		size_t left = (size_t)(end - p), take;

		if (c->receiving != NULL) {
			take = left < c->payload_left ? left : c->payload_left;
			p += take;
			c->payload_left -= take;
			if (c->payload_left == 0) {
				finish(l, c, c->receiving);
				c->receiving = NULL;
			}
		} else if (c->head_have == 0 && left >= NBD_SIMPLE_REPLY_SIZE) {
			if (reply_head(l, c, p) < 0)
				return -1;
			p += NBD_SIMPLE_REPLY_SIZE;
		} else {
			take = NBD_SIMPLE_REPLY_SIZE - c->head_have;
			if (take > left)
				take = left;
			memcpy(c->head + c->head_have, p, take);
			p += take;
			c->head_have += take;
			if (c->head_have == NBD_SIMPLE_REPLY_SIZE) {
				c->head_have = 0;
				if (reply_head(l, c, c->head) < 0)
					return -1;
			}
		}
	}
	return 0;
}

/* One receive, and new requests in the place of those that it ended. */
static int receive(struct load *l, struct conn *c, int flags)
{
	ssize_t n = recv(c->fd, l->buffer, RECEIVE_SIZE, flags);

	l->now_ns = clock_now_ns();
	if (n < 0 && errno == EAGAIN && flags != 0)
		return 0;
	if (n <= 0) {
		log_error("receive, with %u requests in flight: %s", c->in_flight,
			  n == 0            ? "the server closed the connection"
			  : errno == EAGAIN ? "no reply for 30 s"
					    : strerror(errno));
		return -1;
	}
	c->n_finished = 0;
	if (parse(l, c, (size_t)n) < 0)
		return -1;
	for (unsigned i = 0; i < c->n_finished; i++) {
		unsigned index = c->finished[i];
		bool was_write = !c->slots[index].is_flush;

		/* A pair that has begun is ended even when the time is over. */
		if (l->plan->kind == LOAD_WRITE_FLUSH && was_write)
			submit(l, c, index, true);
		else if (l->now_ns < l->end_ns)
			submit(l, c, index, false);
	}
	return send_queued(l, c);
}

/* ---- the loop ----------------------------------------------------------------------------- */

static int loop_one(struct load *l)
{
	struct conn *c = &l->conns[0];

	while (l->in_flight > 0) {
		if (c->waits_for_room) {
			struct pollfd pfd = { .fd = c->fd, .events = POLLIN | POLLOUT };

			if (poll(&pfd, 1, SILENCE_MAX_S * 1000) <= 0) {
				log_error("the server took nothing for 30 s");
				return -1;
			}
			if ((pfd.revents & POLLOUT) && send_queued(l, c) < 0)
				return -1;
			if ((pfd.revents & ~POLLOUT) && receive(l, c, MSG_DONTWAIT) < 0)
				return -1;
		} else if (receive(l, c, 0) < 0) {
			return -1;
		}
	}
	return 0;
}

static int loop_many(struct load *l)
{
	struct epoll_event events[64];
	int n;

	while (l->in_flight > 0) {
		n = epoll_wait(l->epoll, events, ARRAY_SIZE(events), SILENCE_MAX_S * 1000);
		if (n <= 0) {
			log_error("epoll: %s", n == 0 ? "no reply for 30 s" : strerror(errno));
			return -1;
		}
		for (int i = 0; i < n; i++) {
			struct conn *c = events[i].data.ptr;

			if ((events[i].events & EPOLLOUT) && send_queued(l, c) < 0)
				return -1;
			if ((events[i].events & ~(unsigned)EPOLLOUT) &&
			    receive(l, c, MSG_DONTWAIT) < 0)
				return -1;
		}
	}
	return 0;
}

static int prepare(struct load *l, const int *fds)
{
	const struct load_plan *plan = l->plan;
	uint64_t blocks = plan->span / plan->block;

	l->payload = malloc(PAYLOAD_SIZE);
	l->buffer = malloc(RECEIVE_SIZE);
	l->conns = calloc(l->n, sizeof(*l->conns));
	if (l->payload == NULL || l->buffer == NULL || l->conns == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < PAYLOAD_SIZE; i += 8) {
		uint64_t word = next_random(l);

		memcpy(l->payload + i, &word, 8);
	}
	if (l->n > 1 && (l->epoll = epoll_create1(EPOLL_CLOEXEC)) < 0)
		return -errno;
	for (unsigned i = 0; i < l->n; i++) {
		struct conn *c = &l->conns[i];
		struct timeval limit = { .tv_sec = SILENCE_MAX_S };
		struct epoll_event event = { .events = EPOLLIN, .data.ptr = c };

		c->fd = fds[i];
		c->next_offset = blocks * i / l->n * plan->block;
		c->slots = calloc(plan->depth, sizeof(*c->slots));
		c->queue = calloc(plan->depth, sizeof(*c->queue));
		c->finished = calloc(plan->depth, sizeof(*c->finished));
		if (c->slots == NULL || c->queue == NULL || c->finished == NULL)
			return -ENOMEM;
		if (setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0)
			return -errno;
		if (l->epoll >= 0 && epoll_ctl(l->epoll, EPOLL_CTL_ADD, c->fd, &event) < 0)
			return -errno;
	}
	return 0;
}

static int start(struct load *l)
{
	l->now_ns = clock_now_ns();
	l->begin_ns = l->now_ns + l->plan->warmup_ns;
	l->end_ns = l->begin_ns + l->plan->duration_ns;
	for (unsigned i = 0; i < l->n; i++) {
		struct conn *c = &l->conns[i];

		l->now_ns = clock_now_ns();
		for (unsigned slot = 0; slot < l->plan->depth; slot++)
			submit(l, c, slot, false);
		if (send_queued(l, c) < 0)
			return -1;
	}
	return 0;
}

int load_run(const struct load_plan *plan, const int *fds, unsigned n, struct load_result *result)
{
	struct load l = {
		.plan = plan, .result = result, .n = n, .epoll = -1, .random = plan->seed | 1
	};
	int r = prepare(&l, fds);

	if (r < 0)
		log_error("cannot prepare the load: %s", strerror(-r));
	else if (start(&l) < 0 || (n > 1 ? loop_many(&l) : loop_one(&l)) < 0)
		r = -1;
	result->ops = result->latency.count;
	result->elapsed_ns = plan->duration_ns;
	for (unsigned i = 0; l.conns != NULL && i < n; i++) {
		free(l.conns[i].slots);
		free(l.conns[i].queue);
		free(l.conns[i].finished);
	}
	free(l.conns);
	free(l.payload);
	free(l.buffer);
	if (l.epoll >= 0)
		close(l.epoll);
	return r < 0 ? -1 : 0;
}
