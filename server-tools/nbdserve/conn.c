/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See conn.h. */
#include "conn.h"

#include "serve.h"
#include "thread.h"

#include "base/clock.h"
#include "base/log.h"
#include "proto/handshake-server.h"
#include "proto/names.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

struct conn {
	TAILQ_ENTRY(conn) link;
	TAILQ_ENTRY(conn) half_open_link;
	bool is_half_open; /* under server.lock */
	atomic_bool is_pushed_out;
	struct server *server;
	int fd;
	struct peer peer;
	uint64_t deadline_ns;   /* of the handshake */
	struct served *served;  /* after the handshake */
	struct lease_user user; /* of a writable export */
	bool has_lease;
};

/* ---- the log, when strangers knock -------------------------------------------------------- */

/* One line about a client that was not let in; a flood of them is counted instead. */
_printf_(3, 4) static void log_stranger(struct conn *c, enum log_level level, const char *fmt, ...)
{
	struct server *sv = c->server;
	uint64_t now = clock_now_ns();
	unsigned unlogged = 0;
	bool may_log;
	char text[512];
	va_list ap;

	pthread_mutex_lock(&sv->lock);
	if (now - sv->logging_since_ns >= CLOCK_NS_PER_S) {
		unlogged = sv->n_unlogged;
		sv->logging_since_ns = now;
		sv->n_logged = 0;
		sv->n_unlogged = 0;
	}
	may_log = sv->n_logged < CONN_STRANGERS_LOGGED;
	if (may_log)
		sv->n_logged++;
	else
		sv->n_unlogged++;
	pthread_mutex_unlock(&sv->lock);

	if (unlogged > 0)
		log_warn("%u more lines about clients that were not let in were left out",
			 unlogged);
	if (!may_log)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_line(level, "%s: %s", c->peer.text, text);
}

/* ---- half-open accounting ----------------------------------------------------------------- */

/* All three with server.lock held. */

static void half_open_add(struct server *sv, struct conn *c)
{
	TAILQ_INSERT_TAIL(&sv->half_open, c, half_open_link);
	c->is_half_open = true;
	sv->n_half_open++;
}

static void half_open_remove(struct server *sv, struct conn *c)
{
	if (!c->is_half_open)
		return;
	TAILQ_REMOVE(&sv->half_open, c, half_open_link);
	c->is_half_open = false;
	sv->n_half_open--;
}

static bool push_out_oldest(struct server *sv)
{
	struct conn *oldest = TAILQ_FIRST(&sv->half_open);

	if (!oldest)
		return false;
	half_open_remove(sv, oldest);
	atomic_store(&oldest->is_pushed_out, true);
	shutdown(oldest->fd, SHUT_RDWR);
	return true;
}

static void set_half_open(struct conn *c, bool is_half_open)
{
	pthread_mutex_lock(&c->server->lock);
	if (is_half_open && !atomic_load(&c->is_pushed_out))
		half_open_add(c->server, c);
	else
		half_open_remove(c->server, c);
	pthread_mutex_unlock(&c->server->lock);
}

/* ---- the handshake ------------------------------------------------------------------------ */

enum { HANDSHAKE_CHUNK = 4096 };

/* Waits for the socket within the handshake's time. 0 or negative errno. */
static int wait_for(struct conn *c, short events)
{
	struct pollfd pfd = { .fd = c->fd, .events = events };
	int n;

	do {
		uint64_t now = clock_now_ns();

		if (now >= c->deadline_ns)
			return -ETIMEDOUT;
		n = poll(&pfd, 1, clock_poll_ms(now, c->deadline_ns));
	} while (n == 0 || (n < 0 && errno == EINTR));
	return n < 0 ? -errno : 0;
}

static int send_output(struct conn *c, struct nbd_hss *h)
{
	const uint8_t *data;
	size_t size;

	while (data = nbd_hss_output(h, &size), size > 0) {
		ssize_t n = send(c->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EAGAIN) {
			int r = wait_for(c, POLLOUT);

			if (r < 0)
				return r;
			continue;
		}
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			nbd_hss_sent(h, (size_t)n);
	}
	return 0;
}

static ssize_t receive_some(struct conn *c, void *data, size_t size)
{
	for (;;) {
		ssize_t n;
		int r = wait_for(c, POLLIN);

		if (r < 0)
			return r;
		n = recv(c->fd, data, size, MSG_DONTWAIT);
		if (n >= 0)
			return n;
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
	}
}

static enum nbd_hss_event refuse(struct conn *c, struct nbd_hss *h, uint32_t error,
				 const char *text)
{
	log_stranger(c, LOG_LEVEL_WARN, "refused export \"%.100s\": %s", h->name, text);
	return nbd_hss_refuse(h, error, text);
}

/*
 * Takes the lease of a writable export. The client's time does not run while it waits for its
 * own older connection, nor is it half-open any more: we know what it wants and who it is.
 */
static int take_lease(struct conn *c, struct served *s, char *text, size_t text_size)
{
	uint64_t before = clock_now_ns(), waited_ns;
	char holder[ADDRESS_TEXT_MAX + 32];
	int r;

	set_half_open(c, false);
	r = lease_take(&s->lease, &c->user, CONN_TAKEOVER_S * CLOCK_NS_PER_S, &c->server->stopping,
		       holder, sizeof(holder));
	set_half_open(c, r != 0);
	waited_ns = clock_now_ns() - before;
	c->deadline_ns += waited_ns;
	switch (r) {
	case 0:
		c->has_lease = true;
		c->served = s;
		return 0;
	case LEASE_E_IN_USE:
		snprintf(text, text_size, "export \"%.100s\" is in use by %s", s->config->name,
			 holder);
		return -1;
	case LEASE_E_SUPERSEDED:
		snprintf(text, text_size, "a newer connection of the same client asked for it");
		return -1;
	case LEASE_E_TIMEOUT:
		snprintf(text, text_size,
			 "the last requests of this client's older connection have not ended in "
			 "%d s; is the server's disk stuck?",
			 CONN_TAKEOVER_S);
		return -1;
	default: snprintf(text, text_size, "the server stops"); return -1;
	}
}

static enum nbd_hss_event on_ask_export(struct conn *c, struct nbd_hss *h)
{
	struct served *s = exports_find(c->server->exports, h->name, h->name_size);
	char text[NBD_HSS_TEXT_MAX];

	if (!s)
		return refuse(c, h, NBD_REP_ERR_UNKNOWN, "there is no export of that name");
	if (!served_allows(s, &c->peer.address)) {
		snprintf(text, sizeof(text), "not allowed from %s", c->peer.text);
		return refuse(c, h, NBD_REP_ERR_POLICY, text);
	}
	if (h->option != NBD_OPT_INFO && !s->config->is_read_only &&
	    take_lease(c, s, text, sizeof(text)) < 0) {
		/* A client that is told nothing tries again; one that is refused might not. */
		if (atomic_load(&c->server->stopping))
			return NBD_HSS_CLOSE;
		return refuse(c, h, NBD_REP_ERR_POLICY, text);
	}
	c->served = s;
	return nbd_hss_accept(h, &s->info);
}

static int on_ask_list(struct conn *c, struct nbd_hss *h, enum nbd_hss_event *event)
{
	const struct exports *e = c->server->exports;

	for (size_t i = 0; i < e->count; i++) {
		int r;

		if (!served_allows(&e->list[i], &c->peer.address))
			continue;
		nbd_hss_list(h, e->list[i].config->name);
		r = send_output(c, h);
		if (r < 0)
			return r;
	}
	*event = nbd_hss_list_end(h);
	return 0;
}

/* Negotiates to the end. 0 or negative errno of the socket; *event says how it ended. */
static int negotiate(struct conn *c, struct nbd_hss *h, enum nbd_hss_event *event)
{
	uint8_t data[HANDSHAKE_CHUNK];

	*event = NBD_HSS_MORE;
	for (;;) {
		size_t want;
		ssize_t n;
		int r = send_output(c, h);

		if (r < 0)
			return r;
		if (*event != NBD_HSS_MORE)
			return 0;
		want = nbd_hss_want(h);
		n = receive_some(c, data, want < sizeof(data) ? want : sizeof(data));
		if (n <= 0)
			return n < 0 ? (int)n : -ENODATA;
		*event = nbd_hss_feed(h, data, (size_t)n);
		if (*event == NBD_HSS_ASK_EXPORT)
			*event = on_ask_export(c, h);
		else if (*event == NBD_HSS_ASK_LIST)
			r = on_ask_list(c, h, event);
		if (r < 0)
			return r;
	}
}

/* Whether the client is in; if not, the log says why. The machine's memory goes with it. */
static bool handshake(struct conn *c)
{
	_cleanup_free_ struct nbd_hss *h = malloc(sizeof(*h));
	enum nbd_hss_event event;
	int r;

	if (!h) {
		log_stranger(c, LOG_LEVEL_ERROR, "refused: out of memory");
		return false;
	}
	nbd_hss_init(h);
	r = negotiate(c, h, &event);
	if (r == 0 && event == NBD_HSS_DONE)
		return true;
	if (atomic_load(&c->is_pushed_out))
		log_stranger(c, LOG_LEVEL_WARN,
			     "dropped: more than %u clients are negotiating, and this one has been "
			     "for the longest time",
			     CONN_HALF_OPEN_MAX);
	else if (r == -ETIMEDOUT)
		log_stranger(c, LOG_LEVEL_WARN, "dropped: did not choose an export within %u s",
			     CONN_HANDSHAKE_S);
	else if (r < 0)
		log_debug("%s: left before it had chosen an export", c->peer.text);
	else if (event == NBD_HSS_CLOSE)
		log_debug("%s: %s", c->peer.text, nbd_hss_event_text(event));
	else
		log_stranger(c, LOG_LEVEL_WARN, "dropped: %s", nbd_hss_event_text(event));
	return false;
}

/* ---- a connection's life ------------------------------------------------------------------ */

static void run(struct conn *c)
{
	const char *name;
	char reason[SERVE_REASON_MAX];
	uint64_t start_ns;

	if (!handshake(c))
		return;
	set_half_open(c, false);
	name = c->served->config->name;
	start_ns = clock_now_ns();
	log_info("%s: connected to export \"%s\"%s", c->peer.text, name,
		 c->has_lease ? "" : " (read-only)");
	serve_run(c->fd, c->served, &c->user.is_cut, &c->server->stopping, reason);
	log_info("%s: disconnected from export \"%s\" after %llu s: %s", c->peer.text, name,
		 (unsigned long long)((clock_now_ns() - start_ns) / CLOCK_NS_PER_S), reason);
}

static void *conn_thread(void *arg)
{
	struct conn *c = arg;
	struct server *sv = c->server;

	pthread_detach(pthread_self());
	run(c);
	shutdown(c->fd, SHUT_RDWR);
	if (c->has_lease)
		lease_give_back(&c->served->lease, &c->user);

	pthread_mutex_lock(&sv->lock);
	half_open_remove(sv, c);
	TAILQ_REMOVE(&sv->all, c, link);
	close(c->fd); /* not before: server_stop() and push_out_oldest() shut it down */
	free(c);
	pthread_cond_broadcast(&sv->changed);
	pthread_mutex_unlock(&sv->lock);
	return NULL;
}

void server_init(struct server *sv, struct exports *exports)
{
	pthread_condattr_t attr;

	*sv = (struct server){ .exports = exports };
	TAILQ_INIT(&sv->all);
	TAILQ_INIT(&sv->half_open);
	pthread_mutex_init(&sv->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&sv->changed, &attr);
	pthread_condattr_destroy(&attr);
}

void server_add(struct server *sv, int fd)
{
	_cleanup_close_ int owned = fd;
	_cleanup_free_ struct conn *c = calloc(1, sizeof(*c));
	pthread_t thread;
	int r;

	if (!c) {
		log_error("a client is turned away: out of memory");
		return;
	}
	if (peer_of_socket(fd, &c->peer) < 0)
		return; /* it is gone already */
	c->server = sv;
	c->fd = fd;
	c->deadline_ns = clock_now_ns() + CONN_HANDSHAKE_S * CLOCK_NS_PER_S;
	c->user.peer = &c->peer;
	c->user.fd = fd;

	pthread_mutex_lock(&sv->lock);
	if (sv->n_half_open >= CONN_HALF_OPEN_MAX)
		push_out_oldest(sv);
	TAILQ_INSERT_TAIL(&sv->all, c, link);
	half_open_add(sv, c);
	r = thread_start(&thread, conn_thread, c);
	if (r != 0) {
		half_open_remove(sv, c);
		TAILQ_REMOVE(&sv->all, c, link);
	}
	pthread_mutex_unlock(&sv->lock);
	if (r != 0) {
		log_stranger(c, LOG_LEVEL_ERROR, "turned away: no thread can be started: %s",
			     strerror(r));
		return;
	}
	(void)steal_fd(&owned); /* the thread's now, as the connection is */
	(void)steal_ptr(&c);
}

bool server_drop_oldest(struct server *sv)
{
	bool is_dropped;

	pthread_mutex_lock(&sv->lock);
	is_dropped = push_out_oldest(sv);
	pthread_mutex_unlock(&sv->lock);
	return is_dropped;
}

bool server_stop(struct server *sv)
{
	struct timespec until;
	struct conn *c;
	bool is_empty;

	atomic_store(&sv->stopping, true);
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += CONN_STOP_S;
	pthread_mutex_lock(&sv->lock);
	TAILQ_FOREACH(c, &sv->all, link)
	shutdown(c->fd, SHUT_RD);
	while (!TAILQ_EMPTY(&sv->all))
		if (pthread_cond_timedwait(&sv->changed, &sv->lock, &until) == ETIMEDOUT)
			break;
	is_empty = TAILQ_EMPTY(&sv->all);
	pthread_mutex_unlock(&sv->lock);
	return is_empty;
}
