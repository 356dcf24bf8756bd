/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the control socket and the metrics address have in common: few and short conversations
 * of a request and its answer, beside the server's own work and never in its way. No call
 * blocks; at most SERVICE_CONNS connections (of more, the one that has taken longest over its
 * request goes); a request fits its buffer; an answer is in memory whole before it is sent, and
 * all answers together fit SERVICE_REPLIES_MAX; who is slower than the timeout is cut off.
 */
#ifndef NBDSERVE_SERVICE_H
#define NBDSERVE_SERVICE_H

#include "base/cleanup.h"

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum {
	SERVICE_CONNS = 16,
	SERVICE_POLL_MAX = SERVICE_CONNS + 1,
	SERVICE_REPLIES_MAX = 128 * 1024 * 1024,
	SERVICE_FDS_MAX = 128,
};

struct service_conn {
	int fd;               /* -1: not in use */
	uint64_t deadline_ns; /* for the request's end, or the reply's */
	char *in;
	size_t in_size;
	char *out; /* the reply, owned; NULL: none */
	size_t out_size, out_sent;
	int fds[SERVICE_FDS_MAX]; /* copies, which go with the reply's first byte */
	size_t n_fds;
	enum {
		SERVICE_GOES_ON, /* what happens after the reply */
		SERVICE_CLOSES,  /* our half; the rest when the peer has closed its own */
		SERVICE_STAYS,   /* silent and without a deadline, until the peer leaves */
	} afterwards;
	bool is_at_rest; /* SERVICE_STAYS, and the reply has been sent */
};

struct service {
	int listener;
	size_t request_max;
	uint64_t timeout_ns;
	uint64_t paused_until_ns; /* no accept before: there was no descriptor left */
	/* A new connection is closed at once when this says so; NULL: none is. */
	bool (*refuses)(int fd);
	/*
	 * Looks at in[0..in_size) and returns how many bytes of it were a request that it has
	 * answered with service_reply(), or 0 to wait for more. A full buffer must be answered.
	 */
	size_t (*request)(void *ctx, struct service_conn *c);
	void *ctx;
	struct service_conn conns[SERVICE_CONNS];
};

/* After this, set what is not said here; listener is non-blocking and the service's from now. */
void service_init(struct service *s, int listener);
void service_deinit(struct service *s);

size_t service_poll(const struct service *s, struct pollfd *pfd);
uint64_t service_deadline(const struct service *s);

/* pfd is as service_poll() filled it and poll() completed it. */
void service_handle(struct service *s, const struct pollfd *pfd, uint64_t now_ns);

/* Whether an answer of this size may be kept for sending now. */
bool service_has_room(const struct service *s, size_t size);

/* A stream into memory, for an answer; not locked at each word, for one thread writes it. */
FILE *service_stream(char **text, size_t *size) _must_check_;

/* Closes it (NULL: it was never opened). False: the text is not whole and has been freed. */
bool service_stream_end(FILE *out, char **text);

/* Takes a malloc()ed text as the answer; NULL, for want of memory, closes the connection. */
void service_reply(struct service_conn *c, char *text, size_t size);

#endif
