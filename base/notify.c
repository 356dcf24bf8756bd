/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See notify.h. */
#include "notify.h"

#include "log.h"
#include "parse.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>

enum {
	FIRST_FD = 3, /* SD_LISTEN_FDS_START */
	MESSAGE_MAX = 512,
	NAMES_MAX = 4096,
};

static struct {
	int fd; /* connected to the manager; -1: there is none */
	uint64_t watchdog_ns;
	size_t n_fds;
	char names[NAMES_MAX]; /* each with a NUL behind it, then an empty one */
} manager = { .fd = -1 };

/* The variable's number from 1 to max; 0: it is not there or not that. Removes it. */
static uint64_t take_number(const char *name, uint64_t max)
{
	const char *text = getenv(name);
	uint64_t number = 0;

	if (text && parse_u64(text, max, &number) < 0) {
		log_warn("%s=%.100s is not a number from 1 to %llu (ignored)", name, text,
			 (unsigned long long)max);
		number = 0;
	}
	unsetenv(name);
	return number;
}

/* Connected now, so that it works from inside the sandbox as well. */
static int connect_to(const char *path)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	size_t size = strlen(path);
	struct timeval patience = { .tv_sec = 1 };
	_cleanup_close_ int fd = -1;

	if ((*path != '/' && *path != '@') || size < 2 || size >= sizeof(un.sun_path))
		return -EINVAL;
	memcpy(un.sun_path, path, size);
	if (*path == '@')
		un.sun_path[0] = '\0'; /* an abstract name, which ends where its length says */
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&un,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size + (*path == '/'))) <
	    0)
		return -errno;
	return steal_fd(&fd);
}

static void take_fds(void)
{
	uint64_t pid = take_number("LISTEN_PID", INT32_MAX);
	uint64_t count = take_number("LISTEN_FDS", NOTIFY_FDS_MAX);
	const char *names = getenv("LISTEN_FDNAMES");

	manager.n_fds = pid == (uint64_t)getpid() ? (size_t)count : 0;
	for (size_t i = 0; i < manager.n_fds; i++) {
		int flags = fcntl(FIRST_FD + (int)i, F_GETFD);

		if (flags < 0) { /* not what was promised: believe nothing */
			log_warn("LISTEN_FDS promises %zu sockets, but descriptor %d is not open "
				 "(going on without them)",
				 manager.n_fds, FIRST_FD + (int)i);
			manager.n_fds = 0;
			break;
		}
		(void)fcntl(FIRST_FD + (int)i, F_SETFD, flags | FD_CLOEXEC);
	}
	if (manager.n_fds > 0 && names && strlen(names) < NAMES_MAX - 1) {
		memcpy(manager.names, names, strlen(names));
		for (char *p = manager.names; (p = strchr(p, ':')); p++)
			*p = '\0';
	}
	unsetenv("LISTEN_FDNAMES");
}

int notify_init(void)
{
	const char *path = getenv("NOTIFY_SOCKET"), *watched = getenv("WATCHDOG_PID");
	bool is_watched = !watched;
	uint64_t usec;
	int r = 0;

	if (watched)
		is_watched = take_number("WATCHDOG_PID", INT32_MAX) == (uint64_t)getpid();
	usec = take_number("WATCHDOG_USEC", UINT64_MAX / 1000);
	manager.watchdog_ns = is_watched ? usec * 1000 / 2 : 0;
	take_fds();
	if (path) {
		r = connect_to(path);
		manager.fd = r;
		unsetenv("NOTIFY_SOCKET");
	}
	if (manager.fd < 0)
		manager.watchdog_ns = 0;
	return r < 0 ? r : 0;
}

_printf_(1, 2) static void tell(const char *fmt, ...)
{
	char text[MESSAGE_MAX];
	va_list ap;
	int n;

	if (manager.fd < 0)
		return;
	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	if ((size_t)n >= sizeof(text))
		n = sizeof(text) - 1;
	if (send(manager.fd, text, (size_t)n, MSG_NOSIGNAL) < 0)
		log_debug("service manager: %s", strerror(errno));
}

/* The status is the last variable, and one line: what follows a newline would be another. */
static void tell_status(const char *before, const char *status)
{
	tell("%sSTATUS=%.*s", before, (int)strcspn(status, "\n"), status);
}

void notify_ready(const char *status)
{
	tell_status("READY=1\n", status);
}

void notify_reloading(void)
{
	struct timespec now = { 0 };

	clock_gettime(CLOCK_MONOTONIC, &now);
	tell("RELOADING=1\nMONOTONIC_USEC=%llu",
	     (unsigned long long)now.tv_sec * 1000000 + (unsigned long long)now.tv_nsec / 1000);
}

void notify_stopping(const char *status)
{
	tell_status("STOPPING=1\n", status);
}

void notify_status(const char *status)
{
	tell_status("", status);
}

void notify_watchdog(void)
{
	if (manager.watchdog_ns > 0)
		tell("WATCHDOG=1");
}

uint64_t notify_watchdog_ns(void)
{
	return manager.watchdog_ns;
}

size_t notify_listen_fds(int *first)
{
	*first = FIRST_FD;
	return manager.n_fds;
}

const char *notify_listen_name(size_t i)
{
	const char *name = manager.names;

	while (i-- > 0 && name < manager.names + NAMES_MAX - 1)
		name += strlen(name) + 1;
	return name < manager.names + NAMES_MAX ? name : "";
}

void notify_deinit(void)
{
	if (manager.fd >= 0)
		close(manager.fd);
	manager.fd = -1;
	manager.watchdog_ns = 0;
	manager.n_fds = 0;
	memset(manager.names, 0, sizeof(manager.names));
}
