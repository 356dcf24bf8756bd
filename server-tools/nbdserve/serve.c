/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See serve.h. */
#include "serve.h"

#include "thread.h"

#include "base/log.h"

#include <stdio.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum { DISCARD_CHUNK = 64 * 1024 };

struct job {
	STAILQ_ENTRY(job) link;
	struct nbd_request req;
	uint8_t *data; /* a write's payload */
};

struct serve {
	int fd;
	struct served *served;
	const atomic_bool *is_cut;
	const atomic_bool *stopping;
	atomic_bool is_abandoned; /* nobody is there to be answered: what waits is dropped */

	pthread_mutex_t lock;
	pthread_cond_t has_work; /* for workers */
	pthread_cond_t has_room; /* for the reader */
	STAILQ_HEAD(, job) queue;
	size_t queued;
	size_t jobs, bytes; /* queued, running and being received */
	unsigned n_workers, n_idle;
	bool is_ending; /* no more work comes */
	pthread_t workers[SERVE_WORKERS_MAX];

	pthread_mutex_t send_lock; /* a reply is sent whole */
	int send_error;            /* why the first reply failed that did; under send_lock */
};

static bool is_over(const struct serve *s)
{
	return atomic_load(s->is_cut) || atomic_load(&s->is_abandoned);
}

/* What of a request counts against SERVE_BYTES_MAX. */
static size_t payload_size(const struct nbd_request *req)
{
	return req->type == NBD_CMD_READ || req->type == NBD_CMD_WRITE ? req->length : 0;
}

static void job_free(struct job *j)
{
	if (!j)
		return;
	free(j->data);
	free(j);
}

/* ---- replies ------------------------------------------------------------------------------ */

static int send_all(int fd, struct iovec *iov, size_t n)
{
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = n };

	while (msg.msg_iovlen > 0) {
		ssize_t sent = sendmsg(fd, &msg, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return -errno;
		while (msg.msg_iovlen > 0 && (size_t)sent >= msg.msg_iov->iov_len) {
			sent -= (ssize_t)msg.msg_iov->iov_len;
			msg.msg_iov++;
			msg.msg_iovlen--;
		}
		if (msg.msg_iovlen > 0) {
			msg.msg_iov->iov_base = (uint8_t *)msg.msg_iov->iov_base + sent;
			msg.msg_iov->iov_len -= (size_t)sent;
		}
	}
	return 0;
}

static void reply(struct serve *s, uint64_t cookie, uint32_t error, void *data, size_t size)
{
	struct nbd_simple_reply head = { .error = error, .cookie = cookie };
	uint8_t bytes[NBD_SIMPLE_REPLY_SIZE];
	struct iovec iov[] = { { bytes, sizeof(bytes) }, { data, size } };
	int r;

	nbd_simple_reply_encode(&head, bytes);
	pthread_mutex_lock(&s->send_lock);
	/* After half a reply nothing that follows would be understood. */
	if (s->send_error == 0) {
		r = send_all(s->fd, iov, size > 0 ? 2 : 1);
		if (r < 0) {
			s->send_error = r;
			atomic_store(&s->is_abandoned, true);
			shutdown(s->fd, SHUT_RDWR); /* wakes the reader */
		}
	}
	pthread_mutex_unlock(&s->send_lock);
}

/* ---- workers ------------------------------------------------------------------------------ */

static void run_job(struct serve *s, struct job *j)
{
	const struct nbd_request *req = &j->req;
	_cleanup_free_ uint8_t *to_read = NULL;
	uint32_t error;

	if (req->type == NBD_CMD_READ && req->length > 0) {
		to_read = malloc(req->length);
		if (!to_read) {
			reply(s, req->cookie, NBD_ENOMEM, NULL, 0);
			return;
		}
	}
	error = served_execute(s->served, req, to_read ? to_read : j->data, s->is_cut);
	if (is_over(s))
		return;
	reply(s, req->cookie, error, to_read, error == NBD_OK && to_read ? req->length : 0);
}

/* With the lock held. */
static void finish_job(struct serve *s, struct job *j)
{
	s->jobs--;
	s->bytes -= payload_size(&j->req);
	job_free(j);
	pthread_cond_signal(&s->has_room);
}

static void *worker(void *arg)
{
	struct serve *s = arg;

	pthread_mutex_lock(&s->lock);
	for (;;) {
		struct job *j;

		while (STAILQ_EMPTY(&s->queue) && !s->is_ending) {
			s->n_idle++;
			pthread_cond_wait(&s->has_work, &s->lock);
			s->n_idle--;
		}
		j = STAILQ_FIRST(&s->queue);
		if (!j)
			break;
		STAILQ_REMOVE_HEAD(&s->queue, link);
		s->queued--;
		pthread_mutex_unlock(&s->lock);
		if (!is_over(s))
			run_job(s, j);
		pthread_mutex_lock(&s->lock);
		finish_job(s, j);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

/* Waits until a request of that many bytes may be taken on. */
static void reserve(struct serve *s, size_t bytes)
{
	pthread_mutex_lock(&s->lock);
	while (s->jobs >= SERVE_JOBS_MAX || s->bytes + bytes > SERVE_BYTES_MAX)
		pthread_cond_wait(&s->has_room, &s->lock);
	s->jobs++;
	s->bytes += bytes;
	pthread_mutex_unlock(&s->lock);
}

static void enqueue(struct serve *s, struct job *j)
{
	bool has_nobody;

	pthread_mutex_lock(&s->lock);
	STAILQ_INSERT_TAIL(&s->queue, j, link);
	s->queued++;
	/* A worker that was woken counts as idle until it has the lock, and takes one request. */
	if (s->queued > s->n_idle && s->n_workers < SERVE_WORKERS_MAX &&
	    thread_start(&s->workers[s->n_workers], worker, s) == 0)
		s->n_workers++;
	has_nobody = s->n_workers == 0;
	if (has_nobody) {
		STAILQ_REMOVE_HEAD(&s->queue, link);
		s->queued--;
	}
	pthread_cond_signal(&s->has_work);
	pthread_mutex_unlock(&s->lock);

	if (has_nobody) { /* no thread is to be had: slowly, then */
		run_job(s, j);
		pthread_mutex_lock(&s->lock);
		finish_job(s, j);
		pthread_mutex_unlock(&s->lock);
	}
}

/* ---- the reader --------------------------------------------------------------------------- */

/* 0, negative errno, or -ENODATA at the end of the stream; *got says how far it came. */
static int receive(int fd, void *data, size_t size, size_t *got)
{
	*got = 0;
	while (*got < size) {
		ssize_t n = recv(fd, (uint8_t *)data + *got, size - *got, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENODATA;
		*got += (size_t)n;
	}
	return 0;
}

static int discard(struct serve *s, size_t size)
{
	uint8_t scrap[DISCARD_CHUNK];

	while (size > 0) {
		size_t n = size < sizeof(scrap) ? size : sizeof(scrap), got;
		int r = receive(s->fd, scrap, n, &got);

		if (r < 0)
			return r;
		size -= n;
	}
	return 0;
}

static int refuse(struct serve *s, const struct nbd_request *req, uint32_t error)
{
	if (req->type == NBD_CMD_WRITE) {
		int r = discard(s, req->length);

		if (r < 0)
			return r;
	}
	reply(s, req->cookie, error, NULL, 0);
	return 0;
}

/* Takes a request in, with its payload. 0, or negative errno of the socket. */
static int take(struct serve *s, const struct nbd_request *req)
{
	struct job *j = NULL;
	size_t got;
	int r;

	reserve(s, payload_size(req));
	j = calloc(1, sizeof(*j));
	if (j) {
		j->req = *req;
		if (req->type == NBD_CMD_WRITE && req->length > 0)
			j->data = malloc(req->length);
	}
	if (!j || (req->type == NBD_CMD_WRITE && req->length > 0 && !j->data)) {
		r = refuse(s, req, NBD_ENOMEM);
	} else {
		r = j->data ? receive(s->fd, j->data, req->length, &got) : 0;
		/* Half a payload is no write, and whoever is cut off writes no more. */
		if (r == 0 && !is_over(s)) {
			enqueue(s, j);
			return 0;
		}
	}
	pthread_mutex_lock(&s->lock);
	s->jobs--;
	s->bytes -= payload_size(req);
	pthread_mutex_unlock(&s->lock);
	job_free(j);
	return r;
}

static void stream_ended(int r, bool is_inside, char reason[static SERVE_REASON_MAX])
{
	if (r != -ENODATA)
		snprintf(reason, SERVE_REASON_MAX, "the connection broke: %s", strerror(-r));
	else
		snprintf(reason, SERVE_REASON_MAX, "the client closed the connection%s",
			 is_inside ? " in the middle of a request" : " without a goodbye");
}

static void read_requests(struct serve *s, char reason[static SERVE_REASON_MAX])
{
	uint8_t head[NBD_REQUEST_SIZE];
	struct nbd_request req;
	uint32_t error;
	size_t got;
	int r;

	while (!is_over(s) && !atomic_load(s->stopping)) {
		r = receive(s->fd, head, sizeof(head), &got);
		if (r < 0) {
			stream_ended(r, got > 0, reason);
			return;
		}
		if (!nbd_request_decode(&req, head)) {
			snprintf(reason, SERVE_REASON_MAX,
				 "a request does not begin with the request magic");
			return;
		}
		if (req.type == NBD_CMD_DISC) {
			snprintf(reason, SERVE_REASON_MAX, "the client said goodbye");
			return;
		}
		if (req.type == NBD_CMD_WRITE && req.length > s->served->info.block_max) {
			snprintf(reason, SERVE_REASON_MAX,
				 "a write of %u bytes; the longest allowed has %u", req.length,
				 s->served->info.block_max);
			return;
		}
		error = nbd_request_check(&req, &s->served->info);
		r = error != NBD_OK ? refuse(s, &req, error) : take(s, &req);
		if (r < 0) {
			stream_ended(r, true, reason);
			return;
		}
	}
}

static void end_workers(struct serve *s)
{
	pthread_mutex_lock(&s->lock);
	s->is_ending = true;
	pthread_cond_broadcast(&s->has_work);
	pthread_mutex_unlock(&s->lock);
	for (unsigned i = 0; i < s->n_workers; i++)
		pthread_join(s->workers[i], NULL);
}

void serve_run(int fd, struct served *served, const atomic_bool *is_cut,
	       const atomic_bool *stopping, char reason[static SERVE_REASON_MAX])
{
	struct serve s = {
		.fd = fd,
		.served = served,
		.is_cut = is_cut,
		.stopping = stopping,
		.queue = STAILQ_HEAD_INITIALIZER(s.queue),
	};
	struct timeval timeout = { .tv_sec = SERVE_SEND_TIMEOUT_S };

	/* TCP_USER_TIMEOUT does this for dead peers; a unix socket's has to be told. */
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) < 0)
		log_warn("cannot limit how long a reply may take: %s", strerror(errno));
	pthread_mutex_init(&s.lock, NULL);
	pthread_mutex_init(&s.send_lock, NULL);
	pthread_cond_init(&s.has_work, NULL);
	pthread_cond_init(&s.has_room, NULL);
	snprintf(reason, SERVE_REASON_MAX, "the server stops");

	read_requests(&s, reason);
	end_workers(&s);
	if (atomic_load(is_cut))
		snprintf(reason, SERVE_REASON_MAX,
			 "a newer connection of the same client takes over");
	else if (s.send_error == -EAGAIN || s.send_error == -ETIMEDOUT)
		snprintf(reason, SERVE_REASON_MAX, "the client does not read its replies");
	else if (s.send_error < 0)
		snprintf(reason, SERVE_REASON_MAX, "a reply could not be sent: %s",
			 strerror(-s.send_error));

	pthread_cond_destroy(&s.has_room);
	pthread_cond_destroy(&s.has_work);
	pthread_mutex_destroy(&s.send_lock);
	pthread_mutex_destroy(&s.lock);
}
