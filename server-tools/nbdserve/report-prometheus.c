/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A report in the Prometheus text format (exposition formats, "Text format details", 0.0.4): all
 * samples of a metric stand together below its HELP and TYPE lines, so it goes over the exports
 * once for each. Clients have no series of their own: they come and go, and each would be kept
 * for ever. A histogram has a quarter of our buckets, for a server may have a thousand exports,
 * and appears with the first request that it measures.
 */
#include "report.h"

#include "base/clock.h"
#include "base/json.h"

#include <inttypes.h>

/* ---- the format ---------------------------------------------------------------------------- */

static void put_head(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# HELP nbdserve_%s %s\n# TYPE nbdserve_%s %s\n", name, help, name, type);
}

/*
 * A label's value. One byte that is not UTF-8 would cost the whole scrape, so such bytes are
 * spelt out, which also keeps different names different.
 */
static void put_label(FILE *out, const char *text)
{
	const char *p = text, *plain = text;

	while (*p) {
		size_t n = json_utf8_length(p);

		if (n > 0 && *p != '\n' && *p != '"' && *p != '\\') {
			p += n;
			continue;
		}
		fwrite(plain, 1, (size_t)(p - plain), out);
		if (n == 0)
			fprintf(out, "\\\\x%02x", (unsigned char)*p);
		else if (*p == '\n')
			fputs("\\n", out);
		else
			fprintf(out, "\\%c", *p);
		plain = ++p;
	}
	fwrite(plain, 1, (size_t)(p - plain), out);
}

static void put_value(FILE *out, uint64_t value, bool is_ns)
{
	if (is_ns)
		fprintf(out, " %.12g\n", (double)value / (double)CLOCK_NS_PER_S);
	else
		fprintf(out, " %" PRIu64 "\n", value);
}

/* name{export="..." and leaves the brace open */
static void put_series(FILE *out, const char *name, const char *suffix,
		       const struct report_export *e)
{
	fprintf(out, "nbdserve_%s%s{export=\"", name, suffix);
	put_label(out, e->name);
	fputc('"', out);
}

/* ---- the server ---------------------------------------------------------------------------- */

static void put_server(FILE *out, const struct report *r)
{
	const struct report_server *s = &r->server;
	const struct {
		const char *name, *type, *help;
		uint64_t value;
	} list[] = {
		{ "start_time_seconds", "gauge", "When the server started, in Unix time.",
		  (uint64_t)s->started },
		{ "threads", "gauge", "Event loop threads.", s->threads },
		{ "draining", "gauge",
		  "1: finishes what is in flight for a successor that took over.", s->is_draining },
		{ "exports", "gauge", "Exports.", r->n_exports },
		{ "connections", "gauge", "Connections, negotiating ones included.", r->n_clients },
		{ "half_open_connections", "gauge", "Connections that are negotiating.",
		  s->half_open },
		{ "memory_bytes", "gauge", "Memory that requests and replies use.",
		  s->memory_used },
		{ "memory_limit_bytes", "gauge", "The most that requests and replies may use.",
		  s->memory_limit },
		{ "accepted_total", "counter", "Connections accepted.", s->accepted },
		{ "refused_total", "counter",
		  "Clients refused: by an allow rule, by the export's holder, or for want of the "
		  "export.",
		  s->refused },
	};

	put_head(out, "build_info", "gauge", "1, labelled with the version and the engine.");
	fputs("nbdserve_build_info{version=\"", out);
	put_label(out, s->version);
	fputs("\",engine=\"", out);
	put_label(out, s->engine);
	fputs("\"} 1\n", out);
	for (size_t i = 0; i < ARRAY_SIZE(list); i++) {
		put_head(out, list[i].name, list[i].type, list[i].help);
		fprintf(out, "nbdserve_%s", list[i].name);
		put_value(out, list[i].value, false);
	}
	put_head(out, "dropped_total", "counter",
		 "Connections that the server ended: half_open (negotiated too slowly, or the "
		 "oldest of too many), deaf (did not read its replies), dead (lost).");
	fprintf(out, "nbdserve_dropped_total{reason=\"half_open\"} %" PRIu64 "\n",
		s->dropped_half_open);
	fprintf(out, "nbdserve_dropped_total{reason=\"deaf\"} %" PRIu64 "\n", s->dropped_deaf);
	fprintf(out, "nbdserve_dropped_total{reason=\"dead\"} %" PRIu64 "\n", s->dropped_dead);
}

/* ---- exports ------------------------------------------------------------------------------- */

#define GETTER(name, value)                                                                        \
	static uint64_t get_##name(const struct report_export *e)                                  \
	{                                                                                          \
		return value;                                                                      \
	}

GETTER(size, e->size)
GETTER(read_only, e->is_read_only)
GETTER(latched, e->state == REPORT_LATCHED)
GETTER(held, e->held)
GETTER(connections, e->connections)
GETTER(is_held, e->holder[0] != '\0')
GETTER(reconnections, e->reconnections)
GETTER(in_flight, e->in_flight)
GETTER(oldest, e->oldest_in_flight_ns)
GETTER(bytes_read, stats_get(&e->totals.bytes_read))
GETTER(bytes_written, stats_get(&e->totals.bytes_written))
GETTER(errors, stats_get(&e->totals.errors))

static const struct {
	const char *name, *type, *help;
	uint64_t (*get)(const struct report_export *e);
	bool is_ns;
} export_metrics[] = {
	{ "export_size_bytes", "gauge", "Size of the export.", get_size, false },
	{ "export_read_only", "gauge", "1: nobody can write to it.", get_read_only, false },
	{ "export_latched", "gauge", "1: a sync failed, and every flush fails until released.",
	  get_latched, false },
	{ "export_held_requests", "gauge", "Requests that wait for room on the disk.", get_held,
	  false },
	{ "export_connections", "gauge", "Connections to the export.", get_connections, false },
	{ "export_has_holder", "gauge", "1: a client holds the export for writing.", get_is_held,
	  false },
	{ "export_reconnections_total", "counter", "Connections that took over from an older one.",
	  get_reconnections, false },
	{ "export_in_flight_requests", "gauge", "Requests without an answer yet.", get_in_flight,
	  false },
	{ "export_oldest_in_flight_seconds", "gauge",
	  "Age of the oldest request without an answer; 0: there is none.", get_oldest, true },
	{ "export_read_bytes_total", "counter", "Bytes read by clients.", get_bytes_read, false },
	{ "export_written_bytes_total", "counter", "Bytes written by clients.", get_bytes_written,
	  false },
	{ "export_errors_total", "counter", "Requests answered with an error.", get_errors, false },
};

static void put_requests(FILE *out, const struct report *r)
{
	put_head(out, "export_requests_total", "counter", "Requests answered, by operation.");
	for (size_t i = 0; i < r->n_exports; i++)
		for (enum stats_op op = 0; op < STATS_OPS; op++) {
			put_series(out, "export_requests_total", "", &r->exports[i]);
			fprintf(out, ",op=\"%s\"}", stats_op_name(op));
			put_value(out, stats_get(&r->exports[i].totals.ops[op]), false);
		}
}

/* The bounds that are written: every fourth of ours, which are powers of four, and the last. */
enum { BOUNDS_STEP = 4, BOUNDS = (STATS_BUCKETS - 2) / BOUNDS_STEP + 2, BOUND_MAX = 24 };

static void make_bounds(char bounds[static BOUNDS][BOUND_MAX])
{
	for (unsigned i = 0; i < BOUNDS - 1; i++)
		snprintf(bounds[i], BOUND_MAX, "%.12g",
			 (double)stats_bound_ns(i * BOUNDS_STEP) / (double)CLOCK_NS_PER_S);
	snprintf(bounds[BOUNDS - 1], BOUND_MAX, "+Inf");
}

static void put_histogram(FILE *out, const struct report_export *e, enum stats_class c,
			  char bounds[static BOUNDS][BOUND_MAX])
{
	static const char name[] = "export_request_duration_seconds";
	const struct stats_histogram *h = &e->latency.of[c];
	uint64_t below = 0;

	if (stats_total(h) == 0)
		return;
	for (unsigned i = 0, bound = 0; i < STATS_BUCKETS; i++) {
		below += stats_get(&h->count[i]);
		if (i < STATS_BUCKETS - 1 && i % BOUNDS_STEP != 0)
			continue;
		put_series(out, name, "_bucket", e);
		fprintf(out, ",class=\"%s\",le=\"%s\"}", stats_class_name(c), bounds[bound++]);
		put_value(out, below, false);
	}
	put_series(out, name, "_sum", e);
	fprintf(out, ",class=\"%s\"}", stats_class_name(c));
	put_value(out, stats_get(&h->sum_ns), true);
	put_series(out, name, "_count", e);
	fprintf(out, ",class=\"%s\"}", stats_class_name(c));
	put_value(out, below, false);
}

void report_prometheus(FILE *out, const struct report *r)
{
	char bounds[BOUNDS][BOUND_MAX];

	put_server(out, r);
	for (size_t m = 0; m < ARRAY_SIZE(export_metrics); m++) {
		put_head(out, export_metrics[m].name, export_metrics[m].type,
			 export_metrics[m].help);
		for (size_t i = 0; i < r->n_exports; i++) {
			put_series(out, export_metrics[m].name, "", &r->exports[i]);
			fputc('}', out);
			put_value(out, export_metrics[m].get(&r->exports[i]),
				  export_metrics[m].is_ns);
		}
	}
	put_requests(out, r);
	put_head(out, "export_request_duration_seconds", "histogram",
		 "From a request's arrival to its answer; trims and zeroes count as writes.");
	make_bounds(bounds);
	for (size_t i = 0; i < r->n_exports; i++)
		for (enum stats_class c = 0; c < STATS_CLASSES; c++)
			put_histogram(out, &r->exports[i], c, bounds);
}
