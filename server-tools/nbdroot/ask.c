/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See ask.h. */
#include "ask.h"

#include "base/fd.h"
#include "base/log.h"
#include "interrupt.h"

#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

enum {
	ASK_TIMEOUT_S = 60, /* a reload opens images */
	ASK_ANSWER_MAX = 256 * 1024 * 1024,
	ASK_FIRST_SIZE = 64 * 1024,
};

/* Returns a connected socket, or -1. */
static int dial(const char *path)
{
	const struct timeval timeout = { .tv_sec = ASK_TIMEOUT_S };
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0) {
		log_error("cannot make a socket: %s", strerror(errno));
		return -1;
	}
	if (strlen(path) >= sizeof(un.sun_path)) {
		log_error("%s: too long for the path of a socket (at most %zu bytes)", path,
			  sizeof(un.sun_path) - 1);
		return -1;
	}
	memcpy(un.sun_path, path, strlen(path) + 1);
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	if (connect(fd, (const struct sockaddr *)&un, sizeof(un)) == 0)
		return steal_fd(&fd);
	if (errno == ENOENT || errno == ECONNREFUSED)
		log_error("no server answers at %s: %s (is nbdserve running, with --control %s?)",
			  path, strerror(errno), path);
	else if (errno == EACCES)
		log_error("%s: %s (only root and the server's own user may ask)", path,
			  strerror(errno));
	else
		log_error("%s: cannot connect: %s", path, strerror(errno));
	return -1;
}

/* Reads up to the newline, which is cut off. 0, or -1 with the reason. */
static int receive(int fd, struct answer *a, const char **why)
{
	size_t room = 0;

	for (;;) {
		ssize_t n;

		if (a->size == room) {
			size_t bigger = room ? 2 * room : ASK_FIRST_SIZE;
			char *text = room < ASK_ANSWER_MAX ? realloc(a->text, bigger) : NULL;

			if (!text) {
				*why = "its answer is too long for the memory here";
				return -1;
			}
			a->text = text;
			room = bigger;
		}
		n = read(fd, a->text + a->size, room - a->size);
		if (n < 0 && errno == EINTR && !interrupt_pending())
			continue;
		if (n <= 0) {
			*why = n == 0            ? "it closed the connection without an answer"
			       : errno == EAGAIN ? "it has not answered for a minute"
						 : strerror(errno);
			return -1;
		}
		a->size += (size_t)n;
		if (a->text[a->size - 1] == '\n') {
			a->size--;
			return 0;
		}
	}
}

/* Whether the answer is an object that says "ok"; else the reason is logged. */
static bool is_good(const char *path, struct answer *a)
{
	ssize_t n = json_parse(a->text, a->size, NULL, 0);
	const struct json_token *ok;
	char *error;

	a->root = n > 0 ? reallocarray(NULL, (size_t)n, sizeof(*a->root)) : NULL;
	if (!a->root || json_parse(a->text, a->size, a->root, (size_t)n) != n ||
	    !(ok = json_get(a->text, a->root, "ok"))) {
		log_error("%s: the answer makes no sense (is it nbdserve's control socket?)", path);
		return false;
	}
	if (ok->type == JSON_TRUE)
		return true;
	error = answer_text(a, a->root, "error");
	log_error("%s: the server refused: %s", path, error ? error : "out of memory");
	free(error);
	return false;
}

int ask(const char *socket_path, const char *request, struct answer *out)
{
	_cleanup_close_ int fd = dial(socket_path);
	const char *why;
	int r;

	*out = (struct answer){ 0 };
	if (fd < 0)
		return -1;
	r = fd_write_all(fd, request, strlen(request));
	if (r == 0)
		r = fd_write_all(fd, "\n", 1);
	if (r < 0) {
		log_error("%s: cannot ask the server: %s", socket_path, strerror(-r));
		return -1;
	}
	if (receive(fd, out, &why) < 0) {
		if (!interrupt_pending())
			log_error("%s: no answer from the server: %s", socket_path, why);
	} else if (is_good(socket_path, out)) {
		return 0;
	}
	answer_free(out);
	return -1;
}

void answer_free(struct answer *a)
{
	free(a->text);
	free(a->root);
	*a = (struct answer){ 0 };
}

/* ---- what it says -------------------------------------------------------------------------- */

uint64_t answer_number(const struct answer *a, const struct json_token *object, const char *name)
{
	uint64_t n;

	return json_u64(a->text, json_get(a->text, object, name), UINT64_MAX, &n) == 0 ? n : 0;
}

double answer_decimal(const struct answer *a, const struct json_token *object, const char *name)
{
	const struct json_token *t = json_get(a->text, object, name);

	/* a newline, brace or comma follows each number that is in an object */
	return t && t->type == JSON_NUMBER ? strtod(a->text + t->start, NULL) : 0;
}

int answer_is_true(const struct answer *a, const struct json_token *object, const char *name)
{
	const struct json_token *t = json_get(a->text, object, name);

	return t && t->type == JSON_TRUE;
}

char *answer_text(const struct answer *a, const struct json_token *object, const char *name)
{
	const struct json_token *t = json_get(a->text, object, name);
	size_t size = t && t->type == JSON_STRING ? t->size + 1 : 1;
	char *text = calloc(1, size);

	if (!text || !t || json_string(a->text, t, text, size) < 0)
		return text; /* empty */
	for (char *p = text; *p; p++) {
		unsigned char c = (unsigned char)*p, next = (unsigned char)p[1];

		if (c < 0x20 || c == 0x7f)
			*p = '?';
		else if (c == 0xc2 && next < 0xa0) /* U+0080 to U+009F, which act on terminals */
			p[0] = p[1] = '?';
	}
	return text;
}
