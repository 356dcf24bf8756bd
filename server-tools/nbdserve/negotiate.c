/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See negotiate.h. */
#include "negotiate.h"

#include "server.h"

#include "base/log.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* No more of a client's options are looked at while so much is not sent. */
enum { UNSENT_MAX = 64 * 1024 };

static void answer(struct conn *c, enum nbd_hss_event event);

static const char stale_text[] = "something newer of this machine has had the export since";

#define refused(c, ...) server_log_stranger((c)->server, c, __VA_ARGS__)

/* ---- output ------------------------------------------------------------------------------- */

static void take_output(struct conn *c)
{
	const uint8_t *data;
	size_t size;

	while (data = nbd_hss_output(c->hss, &size), size > 0) {
		size_t n = size < CHUNK_SIZE ? size : CHUNK_SIZE;
		uint8_t *to = out_reserve(&c->out, &c->loop->chunks, n);

		if (!to) {
			conn_close(c, "out of memory");
			return;
		}
		memcpy(to, data, n);
		out_commit(&c->out, n);
		nbd_hss_sent(c->hss, n);
	}
}

/* ---- the end of it ------------------------------------------------------------------------ */

static void begin_serving(struct conn *c)
{
	struct served *s = c->served;

	assert(s); /* an export was accepted, or there would be nothing to begin */
	c->mode = c->hss->mode;
	c->info.flags = nbd_mode_flags(&c->mode, c->info.flags);
	free(c->hss);
	c->hss = NULL;
	c->state = CONN_SERVING;
	c->since_ns = c->loop->now_ns;
	server_publish(c->server, c);
	log_info("%s: connected to export \"%s\"%s", c->peer.text, s->config.name,
		 c->has_lease ? "" : " (read-only)");
	if (atomic_load(&s->is_removed)) /* since it was found, and before it was published */
		conn_close(c, "the export was removed");
}

/* What follows from an event that is no question. */
static void follow(struct conn *c, enum nbd_hss_event event)
{
	take_output(c);
	if (c->state == CONN_CLOSING)
		return;
	switch (event) {
	case NBD_HSS_MORE:
	case NBD_HSS_ASK_EXPORT:
	case NBD_HSS_ASK_LIST:
	case NBD_HSS_ASK_META:
	case NBD_HSS_ASK_SESSION: return;
	case NBD_HSS_DONE: begin_serving(c); return;
	case NBD_HSS_CLOSE:
		log_debug("%s: %s", c->peer.text, nbd_hss_event_text(event));
		conn_leave(c, "%s", nbd_hss_event_text(event));
		return;
	case NBD_HSS_E_CLIENT_FLAGS:
	case NBD_HSS_E_MAGIC:
	case NBD_HSS_E_TOO_LONG:
	case NBD_HSS_E_TOO_MANY:
		refused(c, "dropped: %s", nbd_hss_event_text(event));
		conn_close(c, "%s", nbd_hss_event_text(event));
		return;
	}
}

static void refuse(struct conn *c, uint32_t error, const char *text)
{
	char name[LOG_QUOTED_MAX];

	refused(c, "refused export %s: %s", log_quote(c->hss->name, name), text);
	server_count(c->server, &c->server->refused);
	follow(c, nbd_hss_refuse(c->hss, error, text));
}

/* ---- the export --------------------------------------------------------------------------- */

/* On a thread of the pool. */
static void open_image(struct work *w)
{
	struct conn *c = container_of(w, struct conn, opening);

	c->opened = exports_open_instance(c->server->exports, c->hss->name, c->hss->name_size,
					  &c->peer.address, &c->open_error);
}

static void image_is_open(struct task *t)
{
	struct conn *c = container_of(t, struct conn, opening.done);

	c->n_ops--;
	c->is_opening = false;
	if (c->state == CONN_WAITING) {
		c->state = CONN_NEGOTIATING;
		c->has_looked = true;
		answer(c, c->asked);
		c->has_looked = false;
	}
	if (c->opened)
		served_put(c->opened);
	c->opened = NULL;
	conn_continue(c);
}

/*
 * The export that is asked for, with a reference; NULL: there is none, or the answer comes later
 * (c->state is CONN_WAITING then).
 */
static struct served *find_export(struct conn *c, enum nbd_hss_event event)
{
	bool is_pattern;
	struct served *s =
		exports_find(c->server->exports, c->hss->name, c->hss->name_size, &is_pattern);

	if (s || !is_pattern || c->has_looked)
		return s;
	c->state = CONN_WAITING;
	c->is_opening = true;
	c->asked = event;
	c->opening = (struct work){
		.fd = -1,
		.run = open_image,
		.done.run = image_is_open,
		.loop = c->loop,
	};
	c->n_ops++;
	pool_submit(&c->server->pool, &c->opening);
	return NULL;
}

static void refuse_not_allowed(struct conn *c)
{
	char text[NBD_HSS_TEXT_MAX];

	snprintf(text, sizeof(text), "not allowed from %s", c->peer.text);
	refuse(c, NBD_REP_ERR_POLICY, text);
}

static void refuse_unfound(struct conn *c)
{
	if (!c->has_looked || c->open_error == -ENOENT)
		refuse(c, NBD_REP_ERR_UNKNOWN, "there is no export of that name");
	else if (c->open_error == -EACCES)
		refuse_not_allowed(c);
	else
		refuse(c, NBD_REP_ERR_PLATFORM, "its image cannot be opened, see the server's log");
}

/* The export, when this client may know of it; else it is refused, or has to wait. */
static struct served *find_allowed(struct conn *c, enum nbd_hss_event event)
{
	struct served *s = find_export(c, event);

	if (!s) {
		if (c->state == CONN_NEGOTIATING)
			refuse_unfound(c);
		return NULL;
	}
	if (served_allows(s, &c->peer.address))
		return s;
	served_put(s);
	refuse_not_allowed(c);
	return NULL;
}

/* ---- the lease ---------------------------------------------------------------------------- */

static void accept_client(struct conn *c)
{
	follow(c, nbd_hss_accept(c->hss, &c->info));
}

static void refuse_lease(struct conn *c, const char *text)
{
	served_put(c->served);
	c->served = NULL;
	refuse(c, NBD_REP_ERR_POLICY, text);
}

static void lease_is_answered(struct task *t)
{
	struct conn *c = container_of(t, struct conn, user.answered);

	c->n_ops--;
	c->has_lease = c->user.result == 0;
	if (c->state == CONN_WAITING) {
		/* The wait was not the client's doing. */
		c->deadline_ns += c->loop->now_ns - c->wait_ns;
		c->state = CONN_NEGOTIATING;
		if (c->has_lease) {
			accept_client(c);
		} else {
			server_set_half_open(c->server, c, true);
			refuse_lease(c, "a newer connection of the same client asked for it");
		}
	}
	conn_continue(c);
}

void negotiate_stop_waiting(struct conn *c)
{
	if (c->state == CONN_WAITING && !c->is_opening &&
	    lease_stop_waiting(&c->served->lease, &c->user))
		c->n_ops--;
}

static void ask_for_lease(struct conn *c)
{
	struct served *s = c->served;
	char holder[LEASE_TEXT_MAX], text[NBD_HSS_TEXT_MAX];

	c->user.peer = &c->peer;
	c->user.session = c->session;
	c->user.answered.run = lease_is_answered;
	switch (lease_ask(&s->lease, &c->user, holder)) {
	case 0:
		c->has_lease = true;
		accept_client(c);
		return;
	case LEASE_WAIT:
		c->n_ops++;
		c->state = CONN_WAITING;
		c->wait_ns = c->loop->now_ns;
		conn_set_timed(c);
		/* We know what it wants and who it is: no stranger any more. */
		server_set_half_open(c->server, c, false);
		return;
	case LEASE_E_STALE: refuse_lease(c, stale_text); return;
	default:
		snprintf(text, sizeof(text), "export \"%.100s\" is in use by %.255s",
			 s->config.name, holder);
		refuse_lease(c, text);
	}
}

/* ---- questions ---------------------------------------------------------------------------- */

static void on_export(struct conn *c)
{
	struct served *s = find_allowed(c, NBD_HSS_ASK_EXPORT);

	if (!s)
		return;
	c->info = s->info;
	/* With slots a client has several connections; a flush is one of the whole image. */
	if (c->hss->has_session && !s->config.is_read_only)
		c->info.flags |= NBD_FLAG_CAN_MULTI_CONN;
	if (c->hss->option == NBD_OPT_INFO) {
		accept_client(c);
		served_put(s);
		return;
	}
	c->served = s;
	free(c->session);
	c->session = NULL;
	if (c->hss->has_session) {
		c->session = malloc(sizeof(*c->session));
		if (!c->session) {
			conn_close(c, "out of memory");
			return;
		}
		*c->session = c->hss->session;
	}
	if (s->config.is_read_only)
		accept_client(c);
	else
		ask_for_lease(c);
}

static void on_session(struct conn *c)
{
	struct served *s = find_allowed(c, NBD_HSS_ASK_SESSION);
	struct nbd_session_reply reply = { 0 };
	struct lease_user user = { .peer = &c->peer, .session = &c->hss->session };
	char holder[LEASE_TEXT_MAX];
	int r;

	if (!s)
		return;
	memcpy(reply.boot_id, c->server->boot_id, sizeof(reply.boot_id));
	memcpy(reply.image_id, s->image_id, sizeof(reply.image_id));
	reply.durability = s->config.durability == CONFIG_DURABILITY_WRITE ? NBD_DURABILITY_WRITE
									   : NBD_DURABILITY_FLUSH;
	r = s->config.is_read_only ? 0 : lease_look(&s->lease, &user, holder);
	if (r != 0) {
		char name[LOG_QUOTED_MAX];

		reply.is_refused = true;
		snprintf(reply.holder, sizeof(reply.holder), "%s",
			 r == LEASE_E_STALE ? stale_text : holder);
		refused(c, "refused export %s: %s%s", log_quote(c->hss->name, name),
			r == LEASE_E_STALE ? "" : "in use by ", reply.holder);
		server_count(c->server, &c->server->refused);
	}
	served_put(s);
	follow(c, nbd_hss_session(c->hss, &reply));
}

static void on_meta(struct conn *c)
{
	struct served *s = find_allowed(c, NBD_HSS_ASK_META);

	if (!s)
		return;
	served_put(s);
	follow(c, nbd_hss_meta_ok(c->hss));
}

static void list_one(struct served *s, void *arg)
{
	struct conn *c = arg;

	if (c->state != CONN_NEGOTIATING || !served_allows(s, &c->peer.address))
		return;
	nbd_hss_list(c->hss, s->config.name);
	take_output(c);
}

static void answer(struct conn *c, enum nbd_hss_event event)
{
	switch (event) {
	case NBD_HSS_ASK_EXPORT: on_export(c); return;
	case NBD_HSS_ASK_SESSION: on_session(c); return;
	case NBD_HSS_ASK_META: on_meta(c); return;
	case NBD_HSS_ASK_LIST:
		exports_visit(c->server->exports, list_one, c);
		if (c->state == CONN_NEGOTIATING)
			follow(c, nbd_hss_list_end(c->hss));
		return;
	case NBD_HSS_MORE:
	case NBD_HSS_DONE:
	case NBD_HSS_CLOSE:
	case NBD_HSS_E_CLIENT_FLAGS:
	case NBD_HSS_E_MAGIC:
	case NBD_HSS_E_TOO_LONG:
	case NBD_HSS_E_TOO_MANY: follow(c, event); return;
	}
}

/* ---- from conn.c -------------------------------------------------------------------------- */

void negotiate_start(struct conn *c)
{
	struct nbd_hss greeting;

	c->state = CONN_NEGOTIATING;
	c->deadline_ns = c->loop->now_ns + CONN_HANDSHAKE_S * CLOCK_NS_PER_S;
	conn_set_timed(c);
	nbd_hss_init(&greeting);
	c->hss = &greeting;
	take_output(c);
	c->hss = NULL;
}

/* With the first byte: who never sends one costs us little. */
static bool begin(struct conn *c)
{
	size_t size;

	c->hss = malloc(sizeof(*c->hss));
	if (!c->hss) {
		refused(c, "turned away: out of memory");
		conn_close(c, "out of memory");
		return false;
	}
	nbd_hss_init(c->hss);
	(void)nbd_hss_output(c->hss, &size);
	nbd_hss_sent(c->hss, size); /* the greeting, which the client has */
	return true;
}

size_t negotiate_input(struct conn *c, const uint8_t *data, size_t size)
{
	size_t used = 0;

	if (!c->hss && !begin(c))
		return 0;
	while (used < size && c->state == CONN_NEGOTIATING) {
		size_t want = nbd_hss_want(c->hss), n = size - used;

		if (c->out.bytes > UNSENT_MAX) {
			conn_flush(c);
			if (c->state != CONN_NEGOTIATING)
				break;
			if (c->out.bytes > UNSENT_MAX) {
				c->is_paused = true;
				break;
			}
		}
		n = want < n ? want : n;
		answer(c, nbd_hss_feed(c->hss, data + used, n));
		used += n;
	}
	return used;
}

void negotiate_ended(struct conn *c, int error)
{
	if (atomic_load(&c->is_pushed_out))
		refused(c, "dropped: too many clients are negotiating, and this one has been for "
			   "the longest time");
	else
		log_debug("%s: left before it had chosen an export", c->peer.text);
	conn_close(c, "%s", error < 0 ? strerror(-error) : "the client left");
}

bool negotiate_tick(struct conn *c)
{
	uint64_t now = c->loop->now_ns;

	if (c->state == CONN_NEGOTIATING) {
		if (now < c->deadline_ns)
			return true;
		refused(c, "dropped: did not choose an export within %d s", CONN_HANDSHAKE_S);
		server_count(c->server, &c->server->dropped_half_open);
		conn_close(c, "did not choose an export");
		return false;
	}
	if (c->is_opening || now < c->wait_ns + CONN_TAKEOVER_S * CLOCK_NS_PER_S ||
	    !lease_stop_waiting(&c->served->lease, &c->user))
		return true;
	c->n_ops--;
	c->state = CONN_NEGOTIATING;
	c->deadline_ns += now - c->wait_ns;
	server_set_half_open(c->server, c, true);
	refuse_lease(c, "the last requests of this client's older connection have not ended in 60 "
			"s; is the server's disk stuck?");
	conn_set_ready(c);
	return true;
}
