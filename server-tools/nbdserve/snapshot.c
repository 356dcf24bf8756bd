/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See snapshot.h. */
#include "snapshot.h"

#include <stdio.h>
#include <string.h>

struct taking {
	struct server *server;
	struct report *report;
	bool is_out_of_memory;
};

static void put_hex(char *out, size_t out_size, const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n && 2 * i + 2 < out_size; i++)
		snprintf(out + 2 * i, out_size - 2 * i, "%02x", bytes[i]);
}

static void take_state(struct served *s, struct report_export *e)
{
	int error = commit_error(&s->commit);

	e->held = s->held;
	if (error < 0) {
		e->state = REPORT_LATCHED;
		snprintf(e->state_text, sizeof(e->state_text), "fdatasync failed: %s",
			 strerror(-error));
	} else if (s->held > 0) {
		e->state = REPORT_HOLDING;
		snprintf(e->state_text, sizeof(e->state_text), "%llu requests wait: %s",
			 (unsigned long long)s->held, strerror(-s->held_errno));
	}
}

static void take_export(struct served *s, void *arg)
{
	struct taking *t = arg;
	struct report_export *e = report_add_export(t->report);
	char holder[LEASE_TEXT_MAX];

	if (!e) {
		t->is_out_of_memory = true;
		return;
	}
	s->report_index = t->report->n_exports - 1;
	e->name = report_keep(t->report, s->config.name);
	e->path = report_keep(t->report, s->config.path);
	e->durability = s->config.durability == CONFIG_DURABILITY_WRITE ? "write" : "flush";
	e->on_full = s->config.on_full == CONFIG_ON_FULL_HOLD ? "hold" : "error";
	e->size = s->info.size;
	e->is_read_only = s->config.is_read_only;
	lease_holder(&s->lease, holder);
	snprintf(e->holder, sizeof(e->holder), "%.159s", holder);
	e->reconnections = lease_takeovers(&s->lease);
	pthread_mutex_lock(&s->lock);
	take_state(s, e);
	e->connections = s->connections;
	snprintf(e->last_error, sizeof(e->last_error), "%s", s->last_error);
	stats_add(&e->totals, &s->closed);
	pthread_mutex_unlock(&s->lock);
	for (unsigned i = 0; i < t->server->n_loops; i++)
		stats_latency_add(&e->latency, &s->latency[i]);
}

static struct report_export *find(struct report *r, const struct served *s)
{
	/* One that was removed is not in the report: its clients are leaving. */
	return atomic_load(&s->is_removed) ? NULL : &r->exports[s->report_index];
}

/* With the server's lock held: the connection stays, and what it serves. */
static void take_client(struct conn *c, struct report *r, uint64_t now, struct report_client *out)
{
	struct report_export *e = c->listed ? find(r, c->listed) : NULL;
	uint64_t oldest_ns = atomic_load_explicit(&c->oldest_ns, memory_order_relaxed);

	out->id = c->id;
	snprintf(out->address, sizeof(out->address), "%s", c->peer.text);
	out->age_ns = now - c->accepted_ns;
	if (!c->listed)
		return;
	out->export_name = e ? e->name : NULL;
	out->is_read_only = c->listed->config.is_read_only;
	if (c->session) {
		put_hex(out->session, sizeof(out->session), c->session->id, 16);
		snprintf(out->machine, sizeof(out->machine), "%s", c->session->machine);
		snprintf(out->host, sizeof(out->host), "%.159s", c->session->host);
	}
	out->in_flight = atomic_load_explicit(&c->shown_jobs, memory_order_relaxed);
	out->oldest_in_flight_ns = out->in_flight > 0 && now > oldest_ns ? now - oldest_ns : 0;
	out->unsent = atomic_load_explicit(&c->shown_unsent, memory_order_relaxed);
	stats_add(&out->totals, &c->stats);
	if (!e)
		return;
	stats_add(&e->totals, &c->stats);
	e->in_flight += out->in_flight;
	if (out->oldest_in_flight_ns > e->oldest_in_flight_ns)
		e->oldest_in_flight_ns = out->oldest_in_flight_ns;
}

int snapshot_take(struct server *sv, time_t started, bool is_draining, struct report *out)
{
	struct taking t = { .server = sv, .report = out };
	uint64_t now = clock_now_ns();
	struct conn *c;

	out->server = (struct report_server){
		.version = NBDROOT_VERSION,
		.engine = sv->engine->name,
		.pid = getpid(),
		.started = started,
		.threads = sv->n_loops,
		.is_draining = is_draining,
		.memory_used = atomic_load(&sv->memory.used),
		.memory_limit = sv->memory.limit,
	};
	/* In one piece, for a connection that ends moves its figures to its export. */
	pthread_mutex_lock(&sv->lock);
	exports_visit(sv->exports, take_export, &t);
	out->server.half_open = sv->n_half_open;
	out->server.accepted = sv->accepted;
	out->server.refused = sv->refused;
	out->server.dropped_half_open = sv->dropped_half_open;
	out->server.dropped_deaf = sv->dropped_deaf;
	out->server.dropped_dead = sv->dropped_dead;
	TAILQ_FOREACH (c, &sv->all, server_link) {
		struct report_client *rc = report_add_client(out);

		if (!rc) {
			t.is_out_of_memory = true;
			break;
		}
		take_client(c, out, now, rc);
	}
	pthread_mutex_unlock(&sv->lock);
	return t.is_out_of_memory ? -1 : 0;
}
