/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The engine for where io_uring is missing or forbidden (see loop.h): epoll for the sockets, the
 * pool's threads for files. Sockets do not block; they are watched level-triggered, so nothing is
 * lost when a turn ends with bytes unread.
 */
#include "conn.h"
#include "loop.h"
#include "pool.h"

#include "base/fd.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

enum { EVENTS = 128 };

/* In c->events: it is not watched any more. */
#define NOT_WATCHED UINT32_MAX

struct poll {
	int epoll;
};

static int poll_open(struct loop *l)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = NULL };
	_cleanup_free_ struct poll *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (p->epoll < 0)
		return -errno;
	if (epoll_ctl(p->epoll, EPOLL_CTL_ADD, l->wake_fd, &ev) < 0) {
		int r = -errno;

		close(p->epoll);
		return r;
	}
	l->ring = steal_ptr(&p);
	return 0;
}

static void poll_close(struct loop *l)
{
	struct poll *p = l->ring;

	close(p->epoll);
	free(p);
	l->ring = NULL;
}

static int poll_add(struct loop *l, struct conn *c)
{
	struct poll *p = l->ring;
	struct epoll_event ev = { .data.ptr = c };
	int flags = fcntl(c->fd, F_GETFL);

	if (flags < 0 || fcntl(c->fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
	    epoll_ctl(p->epoll, EPOLL_CTL_ADD, c->fd, &ev) < 0)
		return -errno;
	return 0;
}

static void poll_remove(struct loop *l, struct conn *c)
{
	struct poll *p = l->ring;

	(void)epoll_ctl(p->epoll, EPOLL_CTL_DEL, c->fd, NULL);
}

static void watch(struct loop *l, struct conn *c)
{
	struct poll *p = l->ring;
	struct epoll_event ev = { .data.ptr = c };

	if (c->is_receiving)
		ev.events |= EPOLLIN;
	if (c->is_awaiting_room)
		ev.events |= EPOLLOUT;
	if (ev.events == c->events || c->events == NOT_WATCHED)
		return;
	c->events = ev.events;
	(void)epoll_ctl(p->epoll, EPOLL_CTL_MOD, c->fd, &ev);
}

static void poll_receive(struct loop *l, struct conn *c)
{
	c->is_receiving = true;
	watch(l, c);
}

static void poll_await_room(struct loop *l, struct conn *c)
{
	c->is_awaiting_room = true;
	watch(l, c);
}

/* ---- files -------------------------------------------------------------------------------- */

static void run(struct work *w)
{
	struct disk_op *op = container_of(w, struct disk_op, work);

	if (atomic_load(&op->is_cancelled)) {
		op->result = -ECANCELED;
		return;
	}
	switch (op->kind) {
	case DISK_READ:
		op->result = fd_pread_all(op->fd, op->data, op->size, (off_t)op->offset);
		return;
	case DISK_WRITE:
		op->result = fd_pwrite_all(op->fd, op->data, op->size, (off_t)op->offset);
		return;
	case DISK_SYNC:
		do
			op->result = fdatasync(op->fd) < 0 ? -errno : 0;
		while (op->result == -EINTR);
		return;
	}
}

static void done(struct task *t)
{
	struct disk_op *op = container_of(t, struct disk_op, work.done);

	op->done(op);
}

static void poll_submit(struct loop *l, struct disk_op *op)
{
	op->work = (struct work){ .run = run, .fd = op->fd, .done.run = done, .loop = l };
	pool_submit(l->pool, &op->work);
}

static void poll_cancel(struct loop *l, struct disk_op *op)
{
	(void)l;
	atomic_store(&op->is_cancelled, true);
}

/* ---- waiting ------------------------------------------------------------------------------ */

static int socket_error(int fd)
{
	int error = 0;
	socklen_t size = sizeof(error);

	(void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
	return error > 0 ? -error : -ECONNRESET;
}

static void on_event(struct loop *l, struct conn *c, uint32_t events)
{
	struct poll *p = l->ring;

	if (c->is_finished)
		return;
	if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP) && c->is_awaiting_room) {
		c->is_awaiting_room = false;
		conn_has_room(c);
		if (!c->is_finished)
			watch(l, c);
	}
	if (c->is_finished)
		return;
	if (c->is_receiving && events & (EPOLLIN | EPOLLERR | EPOLLHUP)) {
		c->is_receiving = false;
		if (c->state >= CONN_LEAVING)
			conn_flush(c);
		else if (!conn_receive(c))
			c->is_receiving = true; /* it is watched on */
		if (!c->is_finished)
			watch(l, c); /* no system call when it goes on receiving */
	} else if (events & (EPOLLERR | EPOLLHUP)) {
		/* Both directions are gone, and epoll would say so again and again. */
		(void)epoll_ctl(p->epoll, EPOLL_CTL_DEL, c->fd, NULL);
		c->events = NOT_WATCHED;
		conn_ended(c, socket_error(c->fd));
	}
}

static bool poll_wait(struct loop *l, uint64_t deadline_ns)
{
	struct poll *p = l->ring;
	struct epoll_event ev[EVENTS];
	int timeout_ms = deadline_ns == 0 ? 0 : clock_poll_ms(clock_now_ns(), deadline_ns);
	int n = epoll_wait(p->epoll, ev, EVENTS, timeout_ms);

	l->now_ns = clock_now_ns();
	for (int i = 0; i < n; i++) {
		eventfd_t count;

		if (ev[i].data.ptr) {
			on_event(l, ev[i].data.ptr, ev[i].events);
		} else {
			(void)eventfd_read(l->wake_fd, &count);
			loop_run_tasks(l);
		}
	}
	return n > 0;
}

const struct engine engine_epoll = {
	.name = "epoll",
	.open = poll_open,
	.close = poll_close,
	.add = poll_add,
	.remove = poll_remove,
	.receive = poll_receive,
	.await_room = poll_await_room,
	.submit = poll_submit,
	.cancel = poll_cancel,
	.wait = poll_wait,
};
