/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See listen.h. */
#include "listen.h"

#include "base/clock.h"
#include "base/log.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* A server that was just killed may still be exiting and have the port. */
#define BIND_WAIT_NS (2 * CLOCK_NS_PER_S)

/*
 * A dead client is dropped in at most 15 s. With TCP_USER_TIMEOUT the count of probes does not
 * matter (net/ipv4/tcp_timer.c, tcp_keepalive_timer): the first probe that finds the time over
 * ends it, and the probes go out after 5, 8, 11 and 14 s.
 */
enum {
	KEEPALIVE_IDLE_S = 5,
	KEEPALIVE_INTERVAL_S = 3,
	KEEPALIVE_PROBES = 3,
	USER_TIMEOUT_MS = 14000,
};

static void set_int(int fd, int level, int option, int value)
{
	/* What a kernel does not know does not keep us from serving. */
	if (setsockopt(fd, level, option, &value, sizeof(value)) < 0)
		log_debug("socket option %d: %s", option, strerror(errno));
}

/* Accepted sockets have the options of the one that listens (net/core/sock.c, sk_clone_lock). */
static void set_options(int fd)
{
	int domain = AF_UNIX;
	socklen_t size = sizeof(domain);

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) < 0 || domain == AF_UNIX)
		return;
	set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
	set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
	set_int(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
	set_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT_MS);
}

static int add(struct listeners *l, int fd, char *unix_path)
{
	if (l->count == LISTEN_MAX) {
		log_error("cannot listen in more than %d places", LISTEN_MAX);
		return -1;
	}
	set_options(fd);
	l->fd[l->count] = fd;
	l->unix_path[l->count++] = unix_path;
	return 0;
}

static void log_listening(int fd)
{
	struct sockaddr_storage ss;
	socklen_t size = sizeof(ss);
	char host[NI_MAXHOST], port[NI_MAXSERV];
	int is_v6;

	if (getsockname(fd, (struct sockaddr *)&ss, &size) < 0 ||
	    getnameinfo((struct sockaddr *)&ss, size, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		return;
	is_v6 = strchr(host, ':') != NULL;
	log_info("listening on %s%s%s:%s", is_v6 ? "[" : "", host, is_v6 ? "]" : "", port);
}

static int bind_patiently(int fd, const struct sockaddr *sa, socklen_t size)
{
	uint64_t deadline_ns = clock_now_ns() + BIND_WAIT_NS;

	while (bind(fd, sa, size) < 0) {
		if (errno != EADDRINUSE || clock_now_ns() >= deadline_ns)
			return -errno;
		nanosleep(&(struct timespec){ .tv_nsec = 20 * 1000 * 1000 }, NULL);
	}
	return 0;
}

/* A listening socket on one address, or negative errno. */
static int open_tcp(const struct addrinfo *ai, bool is_v6_only)
{
	_cleanup_close_ int fd =
		socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int r;

	if (fd < 0)
		return -errno;
	set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (ai->ai_family == AF_INET6)
		set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, is_v6_only);
	r = bind_patiently(fd, ai->ai_addr, ai->ai_addrlen);
	if (r < 0)
		return r;
	if (listen(fd, SOMAXCONN) < 0)
		return -errno;
	return steal_fd(&fd);
}

static void free_addresses(struct addrinfo **ai)
{
	if (*ai)
		freeaddrinfo(*ai);
}

/* All addresses: one socket for both families, or an IPv4 one where IPv6 is switched off. */
static int open_everywhere(const char *port)
{
	uint64_t number = strtoul(port, NULL, 10);
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)number) };
	struct sockaddr_in in4 = { .sin_family = AF_INET, .sin_port = htons((uint16_t)number) };
	struct addrinfo ai = { .ai_family = AF_INET6,
			       .ai_addr = (struct sockaddr *)&in6,
			       .ai_addrlen = sizeof(in6) };
	int fd = open_tcp(&ai, false);

	if (fd != -EAFNOSUPPORT && fd != -EADDRNOTAVAIL)
		return fd;
	ai = (struct addrinfo){ .ai_family = AF_INET,
				.ai_addr = (struct sockaddr *)&in4,
				.ai_addrlen = sizeof(in4) };
	return open_tcp(&ai, false);
}

static int cannot_listen(const char *where, int r)
{
	log_error("cannot listen on %s: %s%s", where, strerror(-r),
		  r == -EADDRINUSE ? "; is another server running there?" : "");
	return -1;
}

static int listen_tcp(struct listeners *l, const char *text)
{
	_cleanup_(free_addresses) struct addrinfo *found = NULL;
	struct addrinfo hints = { .ai_family = AF_UNSPEC,
				  .ai_socktype = SOCK_STREAM,
				  .ai_flags = AI_PASSIVE };
	char host[256], port[8], err[CONFIG_ERROR_MAX];
	int r;

	if (config_split_listen(text, host, sizeof(host), port, sizeof(port), err) < 0) {
		log_error("%s", err);
		return -1;
	}
	if (host[0] == '\0') {
		r = open_everywhere(port);
		if (r < 0)
			return cannot_listen(text, r);
		log_listening(r);
		return add(l, r, NULL);
	}
	r = getaddrinfo(host, port, &hints, &found);
	if (r != 0) {
		log_error("cannot listen on %s: %s", text, gai_strerror(r));
		return -1;
	}
	for (const struct addrinfo *ai = found; ai; ai = ai->ai_next) {
		r = open_tcp(ai, true);
		if (r < 0)
			return cannot_listen(text, r);
		log_listening(r);
		if (add(l, r, NULL) < 0)
			return -1;
	}
	return 0;
}

/* Removes a socket that nobody listens on any more. 0 or negative errno; -EADDRINUSE: it lives. */
static int remove_stale(const struct sockaddr_un *un)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (lstat(un->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST; /* somebody's file: not ours to remove */
	if (connect(fd, (const struct sockaddr *)un, sizeof(*un)) == 0 || errno != ECONNREFUSED)
		return -EADDRINUSE;
	return unlink(un->sun_path) < 0 ? -errno : 0;
}

static int open_unix(const char *path)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	uint64_t deadline_ns = clock_now_ns() + BIND_WAIT_NS;
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int r;

	if (fd < 0)
		return -errno;
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	while ((r = remove_stale(&un)) == -EADDRINUSE && clock_now_ns() < deadline_ns)
		nanosleep(&(struct timespec){ .tv_nsec = 20 * 1000 * 1000 }, NULL);
	if (r < 0)
		return r;
	if (bind(fd, (struct sockaddr *)&un, sizeof(un)) < 0 || listen(fd, SOMAXCONN) < 0)
		return -errno;
	return steal_fd(&fd);
}

static int listen_unix(struct listeners *l, const char *path)
{
	int fd = open_unix(path);
	char *absolute;

	if (fd < 0)
		return cannot_listen(path, fd);
	absolute = realpath(path, NULL); /* a daemon's working directory is / */
	if (!absolute)
		return cannot_listen(path, -errno);
	log_info("listening on %s", absolute);
	return add(l, fd, absolute);
}

int listen_open(struct listeners *l, const struct config *config)
{
	*l = (struct listeners){ 0 };
	for (size_t i = 0; i < config->n_listens; i++)
		if (listen_tcp(l, config->listens[i]) < 0)
			return -1;
	for (size_t i = 0; i < config->n_unix_paths; i++)
		if (listen_unix(l, config->unix_paths[i]) < 0)
			return -1;
	return l->count > 0 ? 0 : listen_tcp(l, "");
}

int listen_accept(int fd)
{
	int conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

	if (conn < 0) {
		/* All others are troubles of the one connection, see accept(2). */
		bool is_ours =
			errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;

		return is_ours ? -errno : -EAGAIN;
	}
	return conn;
}

int listen_adopt(struct listeners *l, int fd)
{
	_cleanup_close_ int owned = fd;
	struct sockaddr_un un = { .sun_family = AF_UNSPEC };
	socklen_t size = sizeof(un) - 1, int_size = sizeof(int);
	int type = 0, is_listening = 0, flags;
	char *path = NULL;

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &int_size) < 0 || type != SOCK_STREAM ||
	    getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &is_listening, &int_size) < 0 ||
	    !is_listening) {
		log_error("the inherited descriptor %d is not a socket that listens for clients",
			  fd);
		return -1;
	}
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
	    fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return -1;
	if (getsockname(fd, (struct sockaddr *)&un, &size) == 0 && un.sun_family == AF_UNIX &&
	    un.sun_path[0] != '\0') {
		path = strdup(un.sun_path);
		log_info("listening on %s (inherited)", un.sun_path);
	} else {
		log_listening(fd);
	}
	return add(l, steal_fd(&owned), path);
}

void listen_close(struct listeners *l, bool is_handed_over)
{
	for (size_t i = 0; i < l->count; i++) {
		close(l->fd[i]);
		if (l->unix_path[i] && !is_handed_over)
			unlink(l->unix_path[i]);
		free(l->unix_path[i]);
	}
	l->count = 0;
}
