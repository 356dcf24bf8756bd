/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See dial.h. */
#include "dial.h"

#include "base/log.h"

#include <linux/tcp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

/* See dial_is_in_trouble(). */
enum { TROUBLE_MS = 1000 };

static int add(struct dial_list *list, const void *addr, socklen_t size, const char *text)
{
	struct dial_address *a;

	if (list->count == DIAL_ADDRESSES_MAX)
		return -ENOSPC;
	a = &list->address[list->count++];
	memcpy(&a->addr, addr, size);
	a->size = size;
	snprintf(a->text, sizeof(a->text), "%s", text);
	return 0;
}

int dial_resolve(struct dial_list *list, const struct uri *u, const char **why)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC };
	const unsigned before = list->count;
	struct addrinfo *found;
	int r;

	if (u->is_unix) {
		struct sockaddr_un sun = { .sun_family = AF_UNIX };

		memcpy(sun.sun_path, u->socket, strlen(u->socket) + 1);
		return add(list, &sun, sizeof(sun), u->socket);
	}

	r = getaddrinfo(u->host, u->port, &hints, &found);
	if (r != 0) {
		*why = gai_strerror(r);
		return -ENOENT;
	}
	r = 0;
	for (const struct addrinfo *ai = found; ai && r == 0; ai = ai->ai_next) {
		char host[64], port[8], text[DIAL_TEXT_MAX];

		if (getnameinfo(ai->ai_addr, ai->ai_addrlen, host, sizeof(host), port, sizeof(port),
				NI_NUMERICHOST | NI_NUMERICSERV) != 0)
			continue;
		snprintf(text, sizeof(text), ai->ai_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host,
			 port);
		r = add(list, ai->ai_addr, ai->ai_addrlen, text);
	}
	freeaddrinfo(found);
	if (r < 0)
		*why = "more than 16 server addresses";
	if (r == 0 && list->count == before) {
		*why = "it has no address of a kind that we know";
		r = -ENOENT;
	}
	return r;
}

static int set_option(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof(value)) < 0 ? -errno : 0;
}

static int set_tcp_options(int fd)
{
	static const struct {
		int level, option, value;
	} options[] = {
		{ IPPROTO_TCP, TCP_NODELAY, 1 },
		{ SOL_SOCKET, SO_KEEPALIVE, 1 },
		{ IPPROTO_TCP, TCP_KEEPIDLE, DIAL_KEEPALIVE_IDLE_S },
		{ IPPROTO_TCP, TCP_KEEPINTVL, DIAL_KEEPALIVE_INTERVAL_S },
		{ IPPROTO_TCP, TCP_KEEPCNT, DIAL_KEEPALIVE_COUNT },
		{ IPPROTO_TCP, TCP_USER_TIMEOUT, DIAL_USER_TIMEOUT_MS },
	};

	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		int r = set_option(fd, options[i].level, options[i].option, options[i].value);

		if (r < 0)
			return r;
	}
	return 0;
}

int dial_start(const struct dial_address *a)
{
	_cleanup_close_ int fd = -1;
	int r;

	fd = socket(a->addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (a->addr.ss_family != AF_UNIX) {
		r = set_tcp_options(fd);
		if (r < 0)
			return r;
	}
	if (connect(fd, (const struct sockaddr *)&a->addr, a->size) < 0 && errno != EINPROGRESS)
		return -errno;
	return steal_fd(&fd);
}

int dial_finish(int fd)
{
	int error = 0;
	socklen_t size = sizeof(error);

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
		return -errno;
	return -error;
}

/* Of a unix socket: zeroes, which mean an answer just now and nothing sent. */
static struct tcp_info info_of(int fd)
{
	struct tcp_info info = { 0 };
	socklen_t size = sizeof(info);

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0)
		memset(&info, 0, sizeof(info));
	return info;
}

bool dial_is_silent(int fd)
{
	struct tcp_info info = info_of(fd);

	if (info.tcpi_last_ack_recv <= DIAL_SILENT_MS)
		return false;
	/*
	 * With nothing unacknowledged and something unsent, the peer has closed its window and the
	 * kernel probes it at growing intervals: long silence is normal, unanswered probes are not.
	 */
	if (info.tcpi_unacked == 0 && info.tcpi_notsent_bytes > 0)
		return info.tcpi_probes >= DIAL_KEEPALIVE_COUNT;
	return true;
}

bool dial_is_in_trouble(int fd)
{
	struct tcp_info info = info_of(fd);

	return (info.tcpi_retransmits > 0 || info.tcpi_probes > 1) &&
	       info.tcpi_last_ack_recv > TROUBLE_MS;
}

void dial_reset(int fd)
{
	const struct sockaddr nobody = { .sa_family = AF_UNSPEC };
	struct sockaddr_storage own = { 0 };
	socklen_t size = sizeof(own);

	if (getsockname(fd, (struct sockaddr *)&own, &size) == 0 && own.ss_family != AF_UNIX)
		(void)connect(fd, &nobody, sizeof(nobody));
}

bool dial_has_address(int fd)
{
	struct sockaddr_storage own = { 0 };
	socklen_t size = sizeof(own);
	_cleanup_close_ int probe_fd = -1;

	if (getsockname(fd, (struct sockaddr *)&own, &size) < 0 || own.ss_family == AF_UNIX)
		return true;
	/* Any port: only the address is in question. */
	if (own.ss_family == AF_INET)
		((struct sockaddr_in *)&own)->sin_port = 0;
	else if (own.ss_family == AF_INET6)
		((struct sockaddr_in6 *)&own)->sin6_port = 0;
	probe_fd = socket(own.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return probe_fd < 0 || bind(probe_fd, (struct sockaddr *)&own, size) == 0 ||
	       errno != EADDRNOTAVAIL;
}

uint64_t dial_sent(int fd)
{
	return info_of(fd).tcpi_bytes_sent;
}

uint64_t dial_received(int fd)
{
	return info_of(fd).tcpi_bytes_received;
}
