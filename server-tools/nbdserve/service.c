/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See service.h. */
#include "service.h"

#include "base/clock.h"

#include <stdio_ext.h>
#include <string.h>
#include <sys/socket.h>

/* How long to leave a listener alone that reports a client whom we have no descriptor for. */
enum { SERVICE_PAUSE_MS = 100 };

static void close_conn(struct service_conn *c)
{
	for (size_t i = 0; i < c->n_fds; i++)
		close(c->fds[i]);
	close(c->fd);
	free(c->in);
	free(c->out);
	memset(c, 0, sizeof(*c));
	c->fd = -1;
}

void service_init(struct service *s, int listener)
{
	memset(s, 0, sizeof(*s));
	s->listener = listener;
	for (size_t i = 0; i < SERVICE_CONNS; i++)
		s->conns[i].fd = -1;
}

void service_deinit(struct service *s)
{
	for (size_t i = 0; i < SERVICE_CONNS; i++)
		if (s->conns[i].fd >= 0)
			close_conn(&s->conns[i]);
	close(s->listener);
}

/* ---- waiting ------------------------------------------------------------------------------- */

/* Element 0 is the listener, 1 + i is connection i; poll(2) skips negative descriptors. */
size_t service_poll(const struct service *s, struct pollfd *pfd)
{
	pfd[0] = (struct pollfd){ .fd = s->paused_until_ns ? -1 : s->listener, .events = POLLIN };
	for (size_t i = 0; i < SERVICE_CONNS; i++)
		pfd[1 + i] = (struct pollfd){
			.fd = s->conns[i].fd,
			.events = s->conns[i].out ? POLLOUT : POLLIN,
		};
	return SERVICE_POLL_MAX;
}

uint64_t service_deadline(const struct service *s)
{
	uint64_t next = s->paused_until_ns ? s->paused_until_ns : CLOCK_NEVER;

	for (size_t i = 0; i < SERVICE_CONNS; i++)
		if (s->conns[i].fd >= 0 && s->conns[i].deadline_ns < next)
			next = s->conns[i].deadline_ns;
	return next;
}

/* ---- replies ------------------------------------------------------------------------------- */

bool service_has_room(const struct service *s, size_t size)
{
	size_t used = 0;

	for (size_t i = 0; i < SERVICE_CONNS; i++)
		used += s->conns[i].out_size;
	return size <= SERVICE_REPLIES_MAX - used;
}

FILE *service_stream(char **text, size_t *size)
{
	FILE *out;

	*text = NULL;
	*size = 0;
	out = open_memstream(text, size);
	if (out)
		__fsetlocking(out, FSETLOCKING_BYCALLER);
	return out;
}

bool service_stream_end(FILE *out, char **text)
{
	bool is_whole = out && !ferror(out);

	if (out && fclose(out) != 0)
		is_whole = false;
	if (is_whole)
		return true;
	free(*text);
	*text = NULL;
	return false;
}

void service_reply(struct service_conn *c, char *text, size_t size)
{
	c->out = text;
	c->out_size = text ? size : 0;
	c->out_sent = 0;
	if (!text)
		c->afterwards = SERVICE_CLOSES;
}

/* One send, with the descriptors if they have not gone yet. Returns as send(2) does. */
static ssize_t send_part(struct service_conn *c)
{
	union {
		char bytes[CMSG_SPACE(sizeof(c->fds))];
		struct cmsghdr aligned;
	} control = { 0 };
	struct iovec iov = { c->out + c->out_sent, c->out_size - c->out_sent };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (c->n_fds > 0) {
		struct cmsghdr *cmsg = &control.aligned;

		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(c->n_fds * sizeof(int));
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(c->n_fds * sizeof(int));
		memcpy(CMSG_DATA(cmsg), c->fds, c->n_fds * sizeof(int));
	}
	n = sendmsg(c->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n > 0) {
		for (size_t i = 0; i < c->n_fds; i++)
			close(c->fds[i]);
		c->n_fds = 0;
	}
	return n;
}

/* Sends what goes. False: the connection is at its end. */
static bool send_reply(struct service_conn *c)
{
	while (c->out_sent < c->out_size) {
		ssize_t n = send_part(c);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		c->out_sent += (size_t)n;
	}
	free(c->out);
	c->out = NULL;
	c->out_size = c->out_sent = 0;
	switch (c->afterwards) {
	case SERVICE_GOES_ON: break;
	case SERVICE_CLOSES:
		/* Not close(): with something unread that would reset, and the reply be lost. */
		return shutdown(c->fd, SHUT_WR) == 0;
	case SERVICE_STAYS:
		c->is_at_rest = true;
		c->deadline_ns = CLOCK_NEVER;
		break;
	}
	return true;
}

/* ---- requests ------------------------------------------------------------------------------ */

/* Answers what has come, as long as answers go out at once. False: the connection is at its end. */
static bool answer(struct service *s, struct service_conn *c, uint64_t now_ns)
{
	while (c->in_size > 0 && !c->out && c->afterwards == SERVICE_GOES_ON) {
		size_t used = s->request(s->ctx, c);

		if (used == 0)
			return c->in_size < s->request_max;
		c->in_size -= used;
		memmove(c->in, c->in + used, c->in_size);
		c->deadline_ns = now_ns + s->timeout_ns;
		if (!send_reply(c))
			return false;
	}
	return true;
}

/* False: the connection is at its end. */
static bool receive(struct service *s, struct service_conn *c, uint64_t now_ns)
{
	char scrap[256];
	ssize_t n;

	if (c->afterwards != SERVICE_GOES_ON) /* nothing more is answered: only the end matters */
		n = recv(c->fd, scrap, sizeof(scrap), MSG_DONTWAIT);
	else
		n = recv(c->fd, c->in + c->in_size, s->request_max - c->in_size, MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n == 0)
		return false;
	if (c->afterwards != SERVICE_GOES_ON)
		return true;
	c->in_size += (size_t)n;
	return answer(s, c, now_ns);
}

static bool handle_conn(struct service *s, struct service_conn *c, short events, uint64_t now_ns)
{
	if (now_ns >= c->deadline_ns || events & (POLLERR | POLLNVAL))
		return false;
	if (c->out)
		return !(events & (POLLOUT | POLLHUP)) || (send_reply(c) && answer(s, c, now_ns));
	return !(events & (POLLIN | POLLHUP)) || receive(s, c, now_ns);
}

/* ---- new connections ----------------------------------------------------------------------- */

/* A free place; when there is none, that of whoever has taken longest over a request. */
static struct service_conn *free_place(struct service *s)
{
	struct service_conn *slowest = NULL;

	for (size_t i = 0; i < SERVICE_CONNS; i++) {
		struct service_conn *c = &s->conns[i];

		if (c->fd < 0)
			return c;
		if (!c->out && !c->is_at_rest &&
		    (!slowest || c->deadline_ns < slowest->deadline_ns))
			slowest = c;
	}
	if (slowest)
		close_conn(slowest);
	return slowest;
}

static void accept_one(struct service *s, int new_fd, uint64_t now_ns)
{
	_cleanup_close_ int fd = new_fd;
	struct service_conn *c;

	if (s->refuses && s->refuses(fd))
		return;
	c = free_place(s);
	if (!c)
		return;
	c->in = malloc(s->request_max);
	if (!c->in)
		return;
	c->fd = steal_fd(&fd);
	c->deadline_ns = now_ns + s->timeout_ns;
}

static void accept_all(struct service *s, uint64_t now_ns)
{
	for (int i = 0; i < SERVICE_CONNS; i++) {
		int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			accept_one(s, fd, now_ns);
		} else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
			   errno == ENOMEM) {
			s->paused_until_ns = now_ns + SERVICE_PAUSE_MS * CLOCK_NS_PER_MS;
			return;
		} else if (errno == EAGAIN) {
			return;
		}
	}
}

void service_handle(struct service *s, const struct pollfd *pfd, uint64_t now_ns)
{
	for (size_t i = 0; i < SERVICE_CONNS; i++) {
		struct service_conn *c = &s->conns[i];

		if (c->fd >= 0 && c->fd == pfd[1 + i].fd &&
		    !handle_conn(s, c, pfd[1 + i].revents, now_ns))
			close_conn(c);
	}
	if (s->paused_until_ns && now_ns >= s->paused_until_ns)
		s->paused_until_ns = 0;
	/* after the connections: their elements of pfd are of no use once a place has a new one */
	if (pfd[0].revents & POLLIN)
		accept_all(s, now_ns);
}
