/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The generator's negotiations: one epoll set, one struct pending for each that is under way.
 * Sockets block, and every call here says MSG_DONTWAIT: the load loop may want to sleep in
 * recv(2).
 */
#include "dial.h"

#include "base/clock.h"
#include "base/log.h"
#include "proto/handshake-client.h"
#include "proto/names.h"
#include "proto/request.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/un.h>

struct pending {
	int fd;
	bool is_connected;
	struct nbd_hsc *hsc; /* large: only while it negotiates */
};

int dial_parse(struct dial_target *t, const char *text)
{
	const char *colon = strrchr(text, ':');
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list;
	char host[256];
	int r;

	if (strchr(text, '/') != NULL) {
		struct sockaddr_un *sun = (struct sockaddr_un *)&t->address;

		if (strlen(text) >= sizeof(sun->sun_path)) {
			log_error("%s: the path is too long for a unix socket", text);
			return -1;
		}
		sun->sun_family = AF_UNIX;
		memcpy(sun->sun_path, text, strlen(text) + 1);
		t->address_size = sizeof(*sun);
		return 0;
	}
	if (colon == NULL || (size_t)(colon - text) >= sizeof(host)) {
		log_error("%s: neither HOST:PORT nor a path", text);
		return -1;
	}
	snprintf(host, sizeof(host), "%.*s", (int)(colon - text), text);
	r = getaddrinfo(host, colon + 1, &hints, &list);
	if (r != 0) {
		log_error("%s: %s", text, gai_strerror(r));
		return -1;
	}
	memcpy(&t->address, list->ai_addr, list->ai_addrlen);
	t->address_size = list->ai_addrlen;
	freeaddrinfo(list);
	return 0;
}

/* A socket that is bound where it has to come from. */
static int new_socket(const struct dial_target *t, unsigned index)
{
	_cleanup_close_ int fd = socket(t->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* An unanswered unix connect and a reply that never comes must end too. */
	struct timeval limit = { .tv_sec = t->timeout_s };
	int on = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0)
		return -errno;
	if (t->address.ss_family == AF_UNIX)
		return steal_fd(&fd);
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0)
		return -errno;
	if (t->sources > 0) {
		struct sockaddr_in from = {
			.sin_family = AF_INET,
			.sin_addr.s_addr = htonl(0x7f010000 + index % t->sources),
		};

		/* The port is chosen at connect, where many may share it. */
		if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on)) < 0 ||
		    bind(fd, (struct sockaddr *)&from, sizeof(from)) < 0)
			return -errno;
	}
	return steal_fd(&fd);
}

int dial_socket(const struct dial_target *t, unsigned index)
{
	_cleanup_close_ int fd = new_socket(t, index);

	if (fd < 0)
		return fd;
	if (connect(fd, (const struct sockaddr *)&t->address, t->address_size) < 0)
		return -errno;
	return steal_fd(&fd);
}

static int set_blocking(int fd, bool is_blocking)
{
	return fcntl(fd, F_SETFL, is_blocking ? 0 : O_NONBLOCK);
}

/*
 * Starts a connection. A unix connect never is "in progress": on a full backlog it says EAGAIN,
 * so it is left to block.
 */
static int begin(const struct dial_target *t, unsigned index, struct pending *p)
{
	bool is_tcp = t->address.ss_family != AF_UNIX;
	char name[NBD_STRING_MAX + 1];

	if (t->is_numbered)
		snprintf(name, sizeof(name), "%s%u", t->name, index);
	else
		snprintf(name, sizeof(name), "%s", t->name);
	p->hsc = malloc(sizeof(*p->hsc));
	if (p->hsc == NULL)
		return -ENOMEM;
	if (!nbd_hsc_init(p->hsc, NBD_HSC_GOAL_GO, name))
		return -EINVAL;
	p->is_connected = !is_tcp;
	p->fd = new_socket(t, index);
	if (p->fd < 0)
		return p->fd;
	if (is_tcp && set_blocking(p->fd, false) < 0)
		return -errno;
	if (connect(p->fd, (const struct sockaddr *)&t->address, t->address_size) < 0 &&
	    errno != EINPROGRESS)
		return -errno;
	return 0;
}

/* 1: done, 0: has to wait, -1: failed and logged. */
static int advance(struct pending *p, unsigned index)
{
	enum nbd_hsc_result result;
	const uint8_t *out;
	uint8_t in[512];
	size_t size;
	ssize_t n;

	for (;;) {
		out = nbd_hsc_output(p->hsc, &size);
		if (size > 0) {
			/* A few dozen bytes into an empty socket buffer: all or an error. */
			n = send(p->fd, out, size, MSG_DONTWAIT | MSG_NOSIGNAL);
			if (n != (ssize_t)size)
				break;
			nbd_hsc_sent(p->hsc, size);
		}
		size = nbd_hsc_want(p->hsc);
		n = recv(p->fd, in, size < sizeof(in) ? size : sizeof(in), MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n == 0)
			errno = ECONNRESET;
		if (n <= 0)
			break;
		result = nbd_hsc_feed(p->hsc, in, (size_t)n);
		if (result == NBD_HSC_DONE)
			return 1;
		if (result != NBD_HSC_MORE) {
			log_error("connection %u: negotiation failed: %s%s%s", index,
				  nbd_hsc_result_text(result),
				  result == NBD_HSC_E_REFUSED ? ": " : "",
				  result == NBD_HSC_E_REFUSED ? p->hsc->text : "");
			return -1;
		}
	}
	log_error("connection %u: the server went away during the negotiation: %s", index,
		  strerror(errno));
	return -1;
}

static int connected(struct pending *p, unsigned index)
{
	socklen_t size = sizeof(int);
	int error = 0;

	if (getsockopt(p->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
		error = errno;
	if (error != 0) {
		log_error("connection %u: cannot connect: %s", index, strerror(error));
		return -1;
	}
	p->is_connected = true;
	return 0;
}

/* One connection moved: 1 done, 0 not yet, -1. What is registered follows its state. */
static int moved(int epoll, struct pending *p, unsigned index)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = index };

	if (!p->is_connected &&
	    (connected(p, index) < 0 || epoll_ctl(epoll, EPOLL_CTL_MOD, p->fd, &event) < 0))
		return -1;
	return advance(p, index);
}

int dial_many(const struct dial_target *t, unsigned count, unsigned at_once, int *fds,
	      struct nbd_export_info *info)
{
	_cleanup_free_ struct pending *pending = calloc(count, sizeof(*pending));
	_cleanup_close_ int epoll = epoll_create1(EPOLL_CLOEXEC);
	uint64_t deadline_ns = clock_now_ns() + t->timeout_s * CLOCK_NS_PER_S;
	unsigned begun = 0, done = 0, failed = 0;
	struct epoll_event events[64];
	int r = -1;

	if (pending == NULL || epoll < 0) {
		log_error("cannot prepare %u connections: %s", count, strerror(errno));
		return -1;
	}
	for (unsigned i = 0; i < count; i++)
		fds[i] = pending[i].fd = -1;
	while (done < count && failed == 0) {
		while (begun < count && begun - done < at_once) {
			struct pending *p = &pending[begun];
			struct epoll_event event = { .data.u32 = begun };

			r = begin(t, begun, p);
			if (r < 0) {
				log_error("connection %u: cannot connect: %s", begun, strerror(-r));
				goto out;
			}
			event.events = p->is_connected ? EPOLLIN : EPOLLOUT;
			if (epoll_ctl(epoll, EPOLL_CTL_ADD, p->fd, &event) < 0) {
				log_error("connection %u: epoll: %s", begun, strerror(errno));
				r = -1;
				goto out;
			}
			begun++;
		}
		r = epoll_wait(epoll, events, ARRAY_SIZE(events),
			       clock_poll_ms(clock_now_ns(), deadline_ns));
		if (r == 0 && clock_now_ns() >= deadline_ns)
			break;
		for (int i = 0; i < r; i++) {
			unsigned index = events[i].data.u32;
			struct pending *p = &pending[index];
			int state = moved(epoll, p, index);

			if (state < 0)
				failed++;
			if (state <= 0)
				continue;
			if (epoll_ctl(epoll, EPOLL_CTL_DEL, p->fd, NULL) < 0 ||
			    set_blocking(p->fd, true) < 0)
				failed++;
			fds[index] = steal_fd(&p->fd);
			*info = p->hsc->info;
			free(p->hsc);
			p->hsc = NULL;
			done++;
		}
	}
	r = failed > 0 ? -1 : (int)done;
out:
	for (unsigned i = 0; i < count; i++) {
		if (pending[i].fd >= 0)
			close(pending[i].fd);
		free(pending[i].hsc);
		if (r < 0 && fds[i] >= 0)
			close(fds[i]);
	}
	return r < 0 ? -1 : r;
}

void dial_hang_up(int fd)
{
	struct nbd_request bye = { .type = NBD_CMD_DISC };
	uint8_t head[NBD_REQUEST_SIZE];

	nbd_request_encode(&bye, head);
	if (send(fd, head, sizeof(head), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		log_debug("goodbye: %s", strerror(errno)); /* it is gone, which is as good */
	close(fd);
}
