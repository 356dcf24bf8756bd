/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See negotiate.h. */
#include "negotiate.h"

#include "proto/names.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

void negotiate_start(struct negotiate *n, enum nbd_hsc_goal goal, const char *name,
		     const struct nbd_session *session)
{
	n->is_reading_head = false;
	n->why[0] = '\0';
	memset(&n->identity, 0, sizeof(n->identity));
	if (!nbd_hsc_init(&n->hsc, goal, name))
		abort(); /* the caller has bounded the name */
	/* One that cannot be said is left out: the server then knows us by our address. */
	if (session)
		(void)nbd_hsc_set_session(&n->hsc, session);
}

bool negotiate_start_head(struct negotiate *n)
{
	const struct nbd_export_info *info = &n->identity.info;
	const uint32_t length = IDENTITY_HEAD_SIZE;

	if (info->block_min > length || info->size < length || info->block_max < length)
		return false;
	nbd_request_encode(&(struct nbd_request){ .type = NBD_CMD_READ, .length = length },
			   n->request);
	n->is_reading_head = true;
	n->have = 0;
	n->sent = 0;
	n->want = NBD_SIMPLE_REPLY_SIZE + length;
	return true;
}

/* Sends what it can. 1 all is sent, 0 the socket is full, or negative errno. */
static int send_some(int fd, const uint8_t *data, size_t size, size_t *sent)
{
	while (*sent < size) {
		ssize_t r = send(fd, data + *sent, size - *sent, MSG_NOSIGNAL);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return errno == EAGAIN ? 0 : -errno;
		*sent += (size_t)r;
	}
	return 1;
}

/* Receives at most size bytes. Their number, 0 for none now, or negative errno. */
static ssize_t receive_some(int fd, void *data, size_t size)
{
	ssize_t r;

	do
		r = recv(fd, data, size, 0);
	while (r < 0 && errno == EINTR);
	if (r == 0)
		return -ECONNRESET;
	if (r < 0)
		return errno == EAGAIN ? 0 : -errno;
	return r;
}

static int explain(struct negotiate *n, enum nbd_hsc_result result)
{
	if (result != NBD_HSC_E_REFUSED) {
		snprintf(n->why, sizeof(n->why), "%s", nbd_hsc_result_text(result));
		return NEGOTIATE_E_FINAL;
	}
	if (n->hsc.has_session_reply && n->hsc.session_reply.is_refused &&
	    n->hsc.session_reply.holder[0])
		snprintf(n->why, sizeof(n->why), "it is in use by %.300s",
			 n->hsc.session_reply.holder);
	else if (n->hsc.text[0])
		snprintf(n->why, sizeof(n->why), "%s (\"%.250s\")",
			 nbd_rep_meaning(n->hsc.rep_error), n->hsc.text);
	else
		snprintf(n->why, sizeof(n->why), "%s", nbd_rep_meaning(n->hsc.rep_error));
	return n->hsc.rep_error == NBD_REP_ERR_SHUTDOWN ? NEGOTIATE_E_LATER : NEGOTIATE_E_FINAL;
}

static int step_handshake(struct negotiate *n, int fd)
{
	for (;;) {
		enum nbd_hsc_result result;
		uint8_t bytes[512];
		size_t size, sent = 0, want;
		ssize_t got;
		int r;

		const uint8_t *out = nbd_hsc_output(&n->hsc, &size);

		r = send_some(fd, out, size, &sent);
		if (r < 0)
			return r;
		nbd_hsc_sent(&n->hsc, sent);
		if (r == 0)
			return NEGOTIATE_MORE;

		want = nbd_hsc_want(&n->hsc);
		got = receive_some(fd, bytes, want < sizeof(bytes) ? want : sizeof(bytes));
		if (got <= 0)
			return (int)got;
		result = nbd_hsc_feed(&n->hsc, bytes, (size_t)got);
		switch (result) {
		case NBD_HSC_MORE: continue;
		case NBD_HSC_EXPORT: return NEGOTIATE_EXPORT;
		case NBD_HSC_DONE: n->identity.info = n->hsc.info; break;
		case NBD_HSC_E_NOT_NBD:
		case NBD_HSC_E_OLDSTYLE:
		case NBD_HSC_E_MALFORMED:
		case NBD_HSC_E_REFUSED: r = explain(n, result); break;
		}

		/* A goodbye, if there is one, is a courtesy. */
		out = nbd_hsc_output(&n->hsc, &size);
		sent = 0;
		if (send_some(fd, out, size, &sent) < 0 && result == NBD_HSC_DONE)
			return NEGOTIATE_DONE;
		return result == NBD_HSC_DONE ? NEGOTIATE_DONE : r;
	}
}

static int step_head(struct negotiate *n, int fd)
{
	struct nbd_simple_reply reply;
	int r = send_some(fd, n->request, sizeof(n->request), &n->sent);

	if (r <= 0)
		return r;
	while (n->have < n->want) {
		ssize_t got = receive_some(fd, n->reply + n->have, n->want - n->have);

		if (got <= 0)
			return (int)got;
		n->have += (size_t)got;
		if (n->have < NBD_SIMPLE_REPLY_SIZE)
			continue;
		/* An error has no payload: look before waiting for one. */
		if (!nbd_simple_reply_decode(&reply, n->reply) || reply.cookie != 0) {
			snprintf(n->why, sizeof(n->why), "the server answered a read with noise");
			return NEGOTIATE_E_FINAL;
		}
		if (reply.error != NBD_OK) {
			snprintf(n->why, sizeof(n->why),
				 "the server cannot read the export's first block (NBD error %u)",
				 reply.error);
			return NEGOTIATE_E_LATER;
		}
	}
	identity_read_head(&n->identity, n->reply + NBD_SIMPLE_REPLY_SIZE);
	return NEGOTIATE_DONE;
}

int negotiate_step(struct negotiate *n, int fd)
{
	return n->is_reading_head ? step_head(n, fd) : step_handshake(n, fd);
}

short negotiate_events(const struct negotiate *n)
{
	size_t size = 0;

	if (n->is_reading_head)
		return n->sent < sizeof(n->request) ? POLLIN | POLLOUT : POLLIN;
	nbd_hsc_output(&n->hsc, &size);
	return size > 0 ? POLLIN | POLLOUT : POLLIN;
}
