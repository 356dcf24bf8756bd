/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The successor's side of the control socket's "handover": one conversation that blocks, for at
 * most CONTROL_TIMEOUT_S a step, before the new server serves anybody. Takes sockets from root or
 * from our own user only.
 */
#include "control.h"

#include "base/fd.h"
#include "base/json.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { TAKEOVER_ANSWER_MAX = 2048, TAKEOVER_TOKENS_MAX = 16 };

struct answer {
	char text[TAKEOVER_ANSWER_MAX];
	size_t size;
	int *fds;
	size_t n_fds;
};

static int fail(const char *path, const char *what, const char *why, char *err)
{
	snprintf(err, CONTROL_ERROR_MAX, "take-over from the server at %.200s: %s: %s", path, what,
		 why);
	return -1;
}

/* Whatever is sent is kept, or closed when there is no room: nothing may leak. */
static void keep_fds(struct answer *a, struct msghdr *msg)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (a->n_fds < CONTROL_FDS_MAX)
				a->fds[a->n_fds++] = fd;
			else
				close(fd);
		}
	}
}

/* Reads up to the newline, which is not kept. 0, or -1 with the reason. */
static int read_answer(int fd, struct answer *a, const char **why)
{
	union {
		char bytes[CMSG_SPACE(CONTROL_FDS_MAX * sizeof(int))];
		struct cmsghdr aligned;
	} control;

	while (a->size == 0 || a->text[a->size - 1] != '\n') {
		struct iovec iov = { a->text + a->size, sizeof(a->text) - a->size };
		struct msghdr msg = {
			.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = control.bytes,
			.msg_controllen = sizeof(control.bytes),
		};
		ssize_t n = iov.iov_len > 0 ? recvmsg(fd, &msg, MSG_CMSG_CLOEXEC) : 0;

		if (n < 0 && errno == EINTR)
			continue;
		*why = n == 0            ? "it closed the connection without an answer"
		       : errno == EAGAIN ? "it does not answer"
					 : strerror(errno);
		if (n <= 0)
			return -1;
		keep_fds(a, &msg);
		if (msg.msg_flags & MSG_CTRUNC) {
			*why = "sockets were lost on the way (too few descriptors are allowed)";
			return -1;
		}
		a->size += (size_t)n;
	}
	a->size--;
	return 0;
}

/* Whether it is {"ok":true,"sockets":N} with that many; else the reason is in why. */
static bool is_good(const struct answer *a, char *why, size_t why_size)
{
	struct json_token tokens[TAKEOVER_TOKENS_MAX];
	ssize_t n = json_parse(a->text, a->size, tokens, ARRAY_SIZE(tokens));
	const struct json_token *ok;
	uint64_t count;

	snprintf(why, why_size, "its answer makes no sense");
	if (n < 0 || n > TAKEOVER_TOKENS_MAX)
		return false;
	ok = json_get(a->text, tokens, "ok");
	if (!ok || ok->type != JSON_TRUE) {
		if (json_string(a->text, json_get(a->text, tokens, "error"), why, why_size) < 0)
			snprintf(why, why_size, "it refused");
		return false;
	}
	return json_u64(a->text, json_get(a->text, tokens, "sockets"), CONTROL_FDS_MAX, &count) ==
		       0 &&
	       count == a->n_fds;
}

int control_take_over(const char *path, int fds[static CONTROL_FDS_MAX], size_t *count, int *link,
		      char *err)
{
	static const char request[] = "{\"command\":\"handover\"}\n";
	const struct timeval timeout = { .tv_sec = CONTROL_TIMEOUT_S };
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct answer a = { .fds = fds };
	const char *why;
	char words[256];
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int r;

	if (fd < 0)
		return fail(path, "cannot make a socket", strerror(errno), err);
	if (strlen(path) >= sizeof(un.sun_path))
		return fail(path, "cannot connect", strerror(ENAMETOOLONG), err);
	memcpy(un.sun_path, path, strlen(path) + 1);
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	if (connect(fd, (const struct sockaddr *)&un, sizeof(un)) < 0) {
		r = errno;
		(void)fail(path, "cannot connect", strerror(r), err);
		return r == ENOENT || r == ECONNREFUSED ? CONTROL_E_NOBODY : -1;
	}
	if (!control_is_trusted(fd))
		return fail(path, "not done", "it is neither root's nor this user's", err);
	r = fd_write_all(fd, request, sizeof(request) - 1);
	if (r < 0)
		return fail(path, "cannot ask", strerror(-r), err);
	if (read_answer(fd, &a, &why) < 0) {
		snprintf(words, sizeof(words), "%s", why);
	} else if (is_good(&a, words, sizeof(words))) {
		*count = a.n_fds;
		*link = steal_fd(&fd);
		return 0;
	}
	while (a.n_fds > 0)
		close(fds[--a.n_fds]);
	return fail(path, "did not get its sockets", words, err);
}
