/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The engine on io_uring (see loop.h), the only file that knows liburing. Sockets are received
 * into buffers that the kernel picks from a ring of them when there is something to receive, so
 * an idle connection has none; what is missing of a long payload is received where it will be
 * used. Files are read, written and synced by the ring. Replies are sent with sendmsg(2) and
 * sendfile(2) directly: a socket takes them at once as a rule, and then their memory is free.
 *
 * The descriptors of sockets are blocking, for io_uring does not wait for one that is not.
 */
#include "conn.h"
#include "loop.h"

#include <liburing.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

enum {
	ENTRIES = 256,
	BUFFERS = 64, /* a power of two */
	BUFFER_SIZE = 64 * 1024,
	GROUP = 0,
};

/* What a completion is of: the low bits of its user_data, whose rest is a pointer. */
enum tag {
	TAG_RECEIVE, /* a conn */
	TAG_ROOM,    /* a conn */
	TAG_DISK,    /* a disk_op */
	TAG_WAKE,
	TAG_NOTHING, /* a cancellation: nobody waits for it */
	TAG_MASK = 7,
};

struct ring {
	struct io_uring uring;
	struct io_uring_buf_ring *group;
	size_t group_size;
	uint8_t *buffers;
};

static void *with_tag(void *p, enum tag tag)
{
	return (void *)((uintptr_t)p | tag);
}

static void give_buffer(struct ring *r, unsigned id)
{
	io_uring_buf_ring_add(r->group, r->buffers + (size_t)id * BUFFER_SIZE, BUFFER_SIZE,
			      (unsigned short)id, io_uring_buf_ring_mask(BUFFERS), 0);
	io_uring_buf_ring_advance(r->group, 1);
}

static void destroy(struct ring *r)
{
	io_uring_queue_exit(&r->uring);
	if (r->group)
		munmap(r->group, r->group_size);
	free(r->buffers);
	free(r);
}

/* A ring with its buffers, or NULL with errno. */
static struct ring *create(void)
{
	struct ring *r = calloc(1, sizeof(*r));
	struct io_uring_params params = {
		.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
			 IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL,
		.cq_entries = 16 * ENTRIES,
	};
	struct io_uring_buf_reg reg = { .ring_entries = BUFFERS, .bgid = GROUP };
	int e;

	if (!r)
		return NULL;
	e = io_uring_queue_init_params(ENTRIES, &r->uring, &params);
	if (e < 0) {
		free(r);
		errno = -e;
		return NULL;
	}
	r->group_size = BUFFERS * sizeof(struct io_uring_buf);
	r->group = mmap(NULL, r->group_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			-1, 0);
	r->buffers = aligned_alloc(4096, (size_t)BUFFERS * BUFFER_SIZE);
	if (r->group == MAP_FAILED || !r->buffers) {
		r->group = NULL;
		destroy(r);
		errno = ENOMEM;
		return NULL;
	}
	io_uring_buf_ring_init(r->group);
	reg.ring_addr = (uintptr_t)r->group;
	e = io_uring_register_buf_ring(&r->uring, &reg, 0);
	if (e < 0) {
		destroy(r);
		errno = -e;
		return NULL;
	}
	for (unsigned i = 0; i < BUFFERS; i++)
		give_buffer(r, i);
	return r;
}

bool ring_is_usable(char *why, size_t why_size)
{
	struct ring *r = create();

	if (r) {
		destroy(r);
		return true;
	}
	if (errno == EPERM)
		snprintf(why, why_size, "it is forbidden (kernel.io_uring_disabled, or seccomp)");
	else if (errno == ENOSYS)
		snprintf(why, why_size, "this kernel has none");
	else if (errno == EINVAL)
		snprintf(why, why_size, "this kernel's is older than that of Linux 6.1");
	else
		snprintf(why, why_size, "%s", strerror(errno));
	return false;
}

/* ---- submission --------------------------------------------------------------------------- */

/* Never NULL: when the queue is full, the kernel takes what is in it. */
static struct io_uring_sqe *next_sqe(struct loop *l)
{
	struct ring *r = l->ring;
	struct io_uring_sqe *sqe;

	while (!(sqe = io_uring_get_sqe(&r->uring)))
		(void)io_uring_submit(&r->uring);
	return sqe;
}

static void watch_wake_fd(struct loop *l)
{
	struct io_uring_sqe *sqe = next_sqe(l);

	io_uring_prep_poll_add(sqe, l->wake_fd, POLLIN);
	io_uring_sqe_set_data(sqe, with_tag(NULL, TAG_WAKE));
}

static int ring_open(struct loop *l)
{
	l->ring = create();
	if (!l->ring)
		return -errno;
	watch_wake_fd(l);
	return 0;
}

static void ring_close(struct loop *l)
{
	destroy(l->ring);
	l->ring = NULL;
}

static int ring_add(struct loop *l, struct conn *c)
{
	(void)l;
	(void)c;
	return 0;
}

static void ring_remove(struct loop *l, struct conn *c)
{
	(void)l; /* nothing of it is in flight any more: c->n_ops is 0 */
	(void)c;
}

static void ring_receive(struct loop *l, struct conn *c)
{
	struct io_uring_sqe *sqe = next_sqe(l);

	if (c->target_size > 0) {
		io_uring_prep_recv(sqe, c->fd, c->target, c->target_size, 0);
	} else {
		io_uring_prep_recv(sqe, c->fd, NULL, BUFFER_SIZE, 0);
		sqe->flags |= IOSQE_BUFFER_SELECT;
		sqe->buf_group = GROUP;
	}
	if (c->is_drained) /* there was no more a moment ago: do not look, wait */
		sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
	io_uring_sqe_set_data(sqe, with_tag(c, TAG_RECEIVE));
	c->is_receiving = true;
	c->n_ops++;
}

static void ring_await_room(struct loop *l, struct conn *c)
{
	struct io_uring_sqe *sqe = next_sqe(l);

	io_uring_prep_poll_add(sqe, c->fd, POLLOUT);
	io_uring_sqe_set_data(sqe, with_tag(c, TAG_ROOM));
	c->is_awaiting_room = true;
	c->n_ops++;
}

static void ring_submit(struct loop *l, struct disk_op *op)
{
	struct io_uring_sqe *sqe = next_sqe(l);
	/* What the kernel takes in one call; more follows by itself. */
	unsigned n =
		(unsigned)(op->size - op->moved < (1u << 30) ? op->size - op->moved : 1u << 30);

	op->loop = l;
	switch (op->kind) {
	case DISK_READ:
		io_uring_prep_read(sqe, op->fd, op->data + op->moved, n, op->offset + op->moved);
		break;
	case DISK_WRITE:
		io_uring_prep_write(sqe, op->fd, op->data + op->moved, n, op->offset + op->moved);
		break;
	case DISK_SYNC: io_uring_prep_fsync(sqe, op->fd, IORING_FSYNC_DATASYNC); break;
	}
	io_uring_sqe_set_data(sqe, with_tag(op, TAG_DISK));
}

static void ring_cancel(struct loop *l, struct disk_op *op)
{
	struct io_uring_sqe *sqe = next_sqe(l);

	atomic_store(&op->is_cancelled, true);
	io_uring_prep_cancel(sqe, with_tag(op, TAG_DISK), 0);
	io_uring_sqe_set_data(sqe, with_tag(NULL, TAG_NOTHING));
}

/* ---- completion --------------------------------------------------------------------------- */

static void received(struct loop *l, struct conn *c, int n, unsigned flags)
{
	struct ring *r = l->ring;
	unsigned id = flags >> IORING_CQE_BUFFER_SHIFT;

	c->n_ops--;
	c->is_receiving = false;
	if (n > 0 && flags & IORING_CQE_F_BUFFER) {
		c->is_drained = n < BUFFER_SIZE;
		conn_input(c, r->buffers + (size_t)id * BUFFER_SIZE, (size_t)n);
	} else if (n > 0) {
		c->is_drained = (size_t)n < c->target_size;
		conn_filled(c, (size_t)n);
	} else if (n == -ENOBUFS || n == -EAGAIN || n == -EINTR) {
		/* All buffers are in use in this very turn: they are back when it ends. */
		c->is_drained = false;
		if (c->state < CONN_LEAVING)
			ring_receive(l, c);
		else
			conn_flush(c);
	} else {
		conn_ended(c, n);
	}
	if (flags & IORING_CQE_F_BUFFER)
		give_buffer(r, id);
}

static void disk_done(struct disk_op *op, int n)
{
	if (n == -EINTR || n == -EAGAIN || (n >= 0 && op->kind != DISK_SYNC)) {
		op->moved += n > 0 ? (size_t)n : 0;
		op->result = atomic_load(&op->is_cancelled)     ? -ECANCELED
			     : n == 0 && op->kind == DISK_READ  ? -ENODATA
			     : n == 0 && op->kind == DISK_WRITE ? -EIO
								: 0;
		if (op->result == 0 && (op->kind == DISK_SYNC || op->moved < op->size)) {
			ring_submit(op->loop, op);
			return;
		}
		if (op->moved == op->size && op->kind != DISK_SYNC)
			op->result = 0; /* done after all */
	} else {
		op->result = n;
	}
	op->done(op);
}

static void on_completion(struct loop *l, const struct io_uring_cqe *cqe)
{
	uintptr_t data = (uintptr_t)io_uring_cqe_get_data(cqe);
	void *p = (void *)(data & ~(uintptr_t)TAG_MASK);
	struct conn *c = p;
	eventfd_t count;

	switch ((enum tag)(data & TAG_MASK)) {
	case TAG_RECEIVE: received(l, c, cqe->res, cqe->flags); return;
	case TAG_ROOM:
		c->n_ops--;
		c->is_awaiting_room = false;
		conn_has_room(c);
		return;
	case TAG_DISK: disk_done(p, cqe->res); return;
	case TAG_WAKE:
		(void)eventfd_read(l->wake_fd, &count);
		watch_wake_fd(l);
		loop_run_tasks(l);
		return;
	case TAG_NOTHING:
	case TAG_MASK: return;
	}
}

static bool ring_wait(struct loop *l, uint64_t deadline_ns)
{
	struct ring *r = l->ring;
	struct io_uring_cqe *cqe;
	uint64_t now = deadline_ns == CLOCK_NEVER || deadline_ns == 0 ? 0 : clock_now_ns();
	unsigned head, n = 0;

	if (deadline_ns <= now) {
		(void)io_uring_submit_and_get_events(&r->uring);
	} else {
		uint64_t left_ns = deadline_ns - now;
		struct __kernel_timespec ts = {
			.tv_sec = (long long)(left_ns / CLOCK_NS_PER_S),
			.tv_nsec = (long long)(left_ns % CLOCK_NS_PER_S),
		};

		(void)io_uring_submit_and_wait_timeout(
			&r->uring, &cqe, 1, deadline_ns == CLOCK_NEVER ? NULL : &ts, NULL);
	}
	l->now_ns = clock_now_ns();
	io_uring_for_each_cqe (&r->uring, head, cqe) {
		on_completion(l, cqe);
		n++;
	}
	io_uring_cq_advance(&r->uring, n);
	return n > 0;
}

const struct engine engine_io_uring = {
	.name = "io_uring",
	.is_blocking = true,
	.open = ring_open,
	.close = ring_close,
	.add = ring_add,
	.remove = ring_remove,
	.receive = ring_receive,
	.await_room = ring_await_room,
	.submit = ring_submit,
	.cancel = ring_cancel,
	.wait = ring_wait,
};
