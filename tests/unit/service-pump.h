/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Both ends of a service in one thread: the client's socket is real and non-blocking, the server
 * is turned by hand, and time is what the test says.
 */
#ifndef TESTS_UNIT_SERVICE_PUMP_H
#define TESTS_UNIT_SERVICE_PUMP_H

#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

static uint64_t pump_now_ns = 1000 * CLOCK_NS_PER_S;

/* Lets the server do what it can: the test's file says what is turned. */
static void pump(void);

/* Reads until the end, or (to_newline) the end of a line; the server is turned meanwhile. */
static ssize_t pump_read(int fd, char *out, size_t out_size, bool to_newline)
{
	size_t used = 0;

	for (int idle = 0; idle < 200;) {
		ssize_t n = recv(fd, out + used, out_size - 1 - used, MSG_DONTWAIT);

		if (n < 0 && errno == EAGAIN) {
			pump();
			idle++;
			continue;
		}
		if (n <= 0) {
			out[used] = '\0';
			return n < 0 ? -errno : (ssize_t)used;
		}
		idle = 0;
		used += (size_t)n;
		out[used] = '\0';
		if ((to_newline && out[used - 1] == '\n') || used == out_size - 1)
			return (ssize_t)used;
	}
	out[used] = '\0';
	return -ETIMEDOUT;
}

/* Whether the server has closed the connection; what it sent before is thrown away. */
static bool pump_is_closed(int fd)
{
	char scrap[4096];
	ssize_t n;

	for (int i = 0; i < 20; i++) {
		pump();
		while ((n = recv(fd, scrap, sizeof(scrap), MSG_DONTWAIT)) > 0)
			;
		if (n == 0 || errno == ECONNRESET)
			return true;
	}
	return false;
}

static int pump_send(int fd, const char *text)
{
	return send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text) ? 0 : -1;
}

#endif
