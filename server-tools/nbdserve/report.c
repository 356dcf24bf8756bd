/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See report.h. */
#include "report.h"

#include "base/clock.h"
#include "base/json.h"

#include <inttypes.h>
#include <string.h>

/* ---- the copy ----------------------------------------------------------------------------- */

/* Room for one more, zeroed. The array doubles whenever its count is a power of two. */
static void *grow(void *array, size_t *count, size_t size, void **element)
{
	size_t n = *count;

	*element = NULL;
	if ((n & (n - 1)) == 0) {
		void *bigger = reallocarray(array, n ? 2 * n : 1, size);

		if (!bigger)
			return array;
		array = bigger;
	}
	*element = (char *)array + n * size;
	memset(*element, 0, size);
	*count = n + 1;
	return array;
}

struct report_export *report_add_export(struct report *r)
{
	void *element;

	r->exports = grow(r->exports, &r->n_exports, sizeof(*r->exports), &element);
	return element;
}

struct report_client *report_add_client(struct report *r)
{
	void *element;

	r->clients = grow(r->clients, &r->n_clients, sizeof(*r->clients), &element);
	return element;
}

struct report_kept {
	struct report_kept *next;
	char text[];
};

const char *report_keep(struct report *r, const char *text)
{
	size_t size = text ? strlen(text) + 1 : 0;
	struct report_kept *k = text ? malloc(sizeof(*k) + size) : NULL;

	if (!k)
		return NULL;
	memcpy(k->text, text, size);
	k->next = r->kept;
	r->kept = k;
	return k->text;
}

void report_free(struct report *r)
{
	for (struct report_kept *k = r->kept, *next; k; k = next) {
		next = k->next;
		free(k);
	}
	free(r->exports);
	free(r->clients);
	memset(r, 0, sizeof(*r));
}

/* ---- JSON ---------------------------------------------------------------------------------- */

static double seconds(uint64_t ns)
{
	return (double)ns / (double)CLOCK_NS_PER_S;
}

static const char *truth(bool is_true)
{
	return is_true ? "true" : "false";
}

static const char *state_name(enum report_state state)
{
	switch (state) {
	case REPORT_OK: return "ok";
	case REPORT_HOLDING: return "holding";
	case REPORT_LATCHED: return "latched";
	}
	return "unknown";
}

/* ,"name":"text"; null where there is no text at all */
static void put_text(FILE *out, const char *name, const char *text)
{
	fprintf(out, ",\"%s\":", name);
	if (text)
		json_put_string(out, text);
	else
		fputs("null", out);
}

static void put_number(FILE *out, const char *name, uint64_t value)
{
	fprintf(out, ",\"%s\":%" PRIu64, name, value);
}

static void put_seconds(FILE *out, const char *name, uint64_t ns)
{
	fprintf(out, ",\"%s\":%.3f", name, seconds(ns));
}

static void put_totals(FILE *out, const struct stats *s)
{
	for (enum stats_op op = 0; op < STATS_OPS; op++)
		fprintf(out, "%s\"%s\":%" PRIu64, op == 0 ? ",\"requests\":{" : ",",
			stats_op_name(op), stats_get(&s->ops[op]));
	fputc('}', out);
	put_number(out, "bytes_read", stats_get(&s->bytes_read));
	put_number(out, "bytes_written", stats_get(&s->bytes_written));
	put_number(out, "errors", stats_get(&s->errors));
}

/* Percentiles, and of the histogram the buckets that have something in them. */
static void put_histogram(FILE *out, const char *name, const struct stats_histogram *h)
{
	static const struct {
		const char *name;
		double share;
	} percentiles[] = {
		{ "p50_ns", 0.5 },
		{ "p90_ns", 0.9 },
		{ "p99_ns", 0.99 },
		{ "p999_ns", 0.999 },
	};
	const char *comma = "";

	fprintf(out, "\"%s\":{\"count\":%" PRIu64, name, stats_total(h));
	put_number(out, "sum_ns", stats_get(&h->sum_ns));
	for (size_t i = 0; i < ARRAY_SIZE(percentiles); i++)
		put_number(out, percentiles[i].name, stats_percentile_ns(h, percentiles[i].share));
	fputs(",\"buckets\":[", out);
	for (unsigned i = 0; i < STATS_BUCKETS; i++) {
		uint64_t n = stats_get(&h->count[i]);

		if (n == 0)
			continue;
		fprintf(out, "%s{\"le_ns\":", comma);
		if (i < STATS_BUCKETS - 1)
			fprintf(out, "%" PRIu64, stats_bound_ns(i));
		else
			fputs("null", out);
		fprintf(out, ",\"count\":%" PRIu64 "}", n);
		comma = ",";
	}
	fputs("]}", out);
}

static void put_server(FILE *out, const struct report *r)
{
	const struct report_server *s = &r->server;

	fprintf(out, "\"server\":{\"pid\":%d", (int)s->pid);
	put_text(out, "version", s->version);
	put_text(out, "engine", s->engine);
	put_number(out, "started", (uint64_t)s->started);
	put_number(out, "threads", s->threads);
	fprintf(out, ",\"draining\":%s", truth(s->is_draining));
	put_number(out, "memory_used", s->memory_used);
	put_number(out, "memory_limit", s->memory_limit);
	put_number(out, "connections", r->n_clients);
	put_number(out, "half_open", s->half_open);
	put_number(out, "accepted", s->accepted);
	put_number(out, "refused", s->refused);
	put_number(out, "dropped_half_open", s->dropped_half_open);
	put_number(out, "dropped_deaf", s->dropped_deaf);
	put_number(out, "dropped_dead", s->dropped_dead);
	fputc('}', out);
}

static void put_export(FILE *out, const struct report_export *e)
{
	fputs("{\"name\":", out);
	json_put_string(out, e->name);
	put_text(out, "path", e->path);
	put_number(out, "size", e->size);
	fprintf(out, ",\"read_only\":%s", truth(e->is_read_only));
	put_text(out, "durability", e->durability);
	put_text(out, "on_full", e->on_full);
	put_text(out, "state", state_name(e->state));
	put_text(out, "state_text", e->state_text);
	put_number(out, "held", e->held);
	put_number(out, "connections", e->connections);
	put_text(out, "holder", e->holder[0] ? e->holder : NULL);
	put_number(out, "reconnections", e->reconnections);
	put_number(out, "in_flight", e->in_flight);
	put_seconds(out, "oldest_in_flight_s", e->oldest_in_flight_ns);
	put_text(out, "last_error", e->last_error[0] ? e->last_error : NULL);
	put_totals(out, &e->totals);
	for (enum stats_class c = 0; c < STATS_CLASSES; c++) {
		fputs(c == 0 ? ",\"latency\":{" : ",", out);
		put_histogram(out, stats_class_name(c), &e->latency.of[c]);
	}
	fputs("}}", out);
}

static void put_client(FILE *out, const struct report_client *c)
{
	fprintf(out, "{\"id\":%" PRIu64, c->id);
	put_text(out, "address", c->address);
	put_text(out, "export", c->export_name);
	put_seconds(out, "age_s", c->age_ns);
	fprintf(out, ",\"read_only\":%s", truth(c->is_read_only));
	put_text(out, "session", c->session[0] ? c->session : NULL);
	put_text(out, "machine", c->machine[0] ? c->machine : NULL);
	put_text(out, "host", c->host[0] ? c->host : NULL);
	put_number(out, "in_flight", c->in_flight);
	put_seconds(out, "oldest_in_flight_s", c->oldest_in_flight_ns);
	put_number(out, "unsent", c->unsent);
	put_totals(out, &c->totals);
	fputc('}', out);
}

void report_json(FILE *out, const struct report *r, unsigned parts)
{
	const char *comma = "";

	if (parts & REPORT_SERVER) {
		put_server(out, r);
		comma = ",";
	}
	if (parts & REPORT_EXPORTS) {
		fprintf(out, "%s\"exports\":[", comma);
		for (size_t i = 0; i < r->n_exports; i++) {
			fputs(i ? "," : "", out);
			put_export(out, &r->exports[i]);
		}
		fputc(']', out);
		comma = ",";
	}
	if (parts & REPORT_CLIENTS) {
		fprintf(out, "%s\"clients\":[", comma);
		for (size_t i = 0; i < r->n_clients; i++) {
			fputs(i ? "," : "", out);
			put_client(out, &r->clients[i]);
		}
		fputc(']', out);
	}
}
