/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Counters, histograms, and both forms of a report. The Prometheus form is read by a parser that
 * knows the format's rules and nothing of how ours is made.
 */
#include "base/json.h"
#include "server-tools/nbdserve/report.h"
#include "tests/unit/tap.h"

#include <ctype.h>
#include <math.h>

/* ---- counters and histograms --------------------------------------------------------------- */

TEST(connection_costs_little)
{
	CHECK(sizeof(struct stats) <= 256);
}

TEST(operations_and_their_bytes_are_counted)
{
	struct stats s = { 0 }, total = { 0 };

	stats_count(&s, STATS_READ, 4096);
	stats_count(&s, STATS_READ, 512);
	stats_count(&s, STATS_WRITE, 1000);
	stats_count(&s, STATS_TRIM, 1 << 20);
	stats_count_error(&s, STATS_WRITE);
	stats_add(&total, &s);
	stats_add(&total, &s);
	CHECK_EQ(total.ops[STATS_READ], 4);
	CHECK_EQ(total.ops[STATS_WRITE], 4);
	CHECK_EQ(total.ops[STATS_TRIM], 2);
	CHECK_EQ(total.ops[STATS_FLUSH], 0);
	CHECK_EQ(total.bytes_read, 9216);
	CHECK_EQ(total.bytes_written, 2000);
	CHECK_EQ(total.errors, 2);
}

TEST(bucket_holds_what_its_bounds_say)
{
	CHECK_EQ(stats_bound_ns(0), 1024);
	CHECK_EQ(stats_bound_ns(1), 1536);
	CHECK_EQ(stats_bound_ns(2), 2048);
	CHECK_EQ(stats_bound_ns(STATS_BUCKETS - 2), 1LL << 36);
	CHECK(stats_bound_ns(STATS_BUCKETS - 1) == UINT64_MAX);
	CHECK_EQ(stats_bucket(0), 0);
	for (unsigned i = 0; i < STATS_BUCKETS - 1; i++) {
		CHECK_EQ(stats_bucket(stats_bound_ns(i)), i);
		CHECK_EQ(stats_bucket(stats_bound_ns(i) + 1), i + 1);
		CHECK(stats_bound_ns(i) < stats_bound_ns(i + 1));
	}
	CHECK_EQ(stats_bucket(UINT64_MAX), STATS_BUCKETS - 1);
}

TEST(percentiles_lie_in_the_bucket_of_the_truth)
{
	struct stats_latency l = { 0 };
	const struct stats_histogram *h = &l.of[STATS_CLASS_READ];

	CHECK_EQ(stats_percentile_ns(h, 0.5), 0);
	for (uint64_t us = 1; us <= 10000; us++)
		stats_latency(&l, STATS_CLASS_READ, us * 1000);
	CHECK_EQ(stats_total(h), 10000);
	CHECK_EQ(h->sum_ns, 1000LL * 10000 * 10001 / 2);
	for (unsigned percent = 10; percent < 100; percent += 10)
		CHECK_EQ(stats_bucket(stats_percentile_ns(h, percent / 100.0)),
			 stats_bucket(percent * UINT64_C(100000)));
	/* half way through a bucket that is evenly filled */
	CHECK(stats_percentile_ns(h, 0.5) > 4900000 && stats_percentile_ns(h, 0.5) < 5100000);
	CHECK_EQ(stats_total(&l.of[STATS_CLASS_WRITE]), 0);
}

TEST(percentile_beyond_the_last_bound_is_that_bound)
{
	struct stats_latency l = { 0 };

	stats_latency(&l, STATS_CLASS_FLUSH, UINT64_C(1) << 40);
	CHECK_EQ(stats_percentile_ns(&l.of[STATS_CLASS_FLUSH], 0.5), 1LL << 36);
}

TEST(histograms_of_threads_add_up)
{
	struct stats_latency a = { 0 }, b = { 0 }, total = { 0 };

	stats_latency(&a, stats_class_of(STATS_WRITE), 2000);
	stats_latency(&b, stats_class_of(STATS_ZERO), 2000);
	stats_latency(&b, stats_class_of(STATS_CACHE), 1);
	stats_latency_add(&total, &a);
	stats_latency_add(&total, &b);
	CHECK_EQ(total.of[STATS_CLASS_WRITE].count[stats_bucket(2000)], 2);
	CHECK_EQ(total.of[STATS_CLASS_WRITE].sum_ns, 4000);
	CHECK_EQ(stats_total(&total.of[STATS_CLASS_READ]), 1);
}

/* ---- reports ------------------------------------------------------------------------------- */

TEST(kept_text_is_a_copy_that_lives_as_long_as_the_report)
{
	struct report r = { 0 };
	char text[] = "root";
	const char *kept = report_keep(&r, text), *empty = report_keep(&r, "");

	memset(text, 'x', 4);
	CHECK_STR(kept, "root");
	CHECK_STR(empty, "");
	CHECK(!report_keep(&r, NULL));
	report_free(&r);
	CHECK(!r.kept);
}

static const char strange_name[] = "a\"b\\c\nd\xff\xe2\x82\xac";

static void make_report(struct report *r)
{
	struct report_export *e;
	struct report_client *c;

	memset(r, 0, sizeof(*r));
	r->server = (struct report_server){ .version = "1.2.3",
					    .engine = "epoll",
					    .pid = 77,
					    .started = 1700000000,
					    .threads = 2,
					    .accepted = 9,
					    .refused = 3,
					    .dropped_dead = 1 };
	for (int i = 0; i < 5; i++) {
		e = report_add_export(r);
		e->name = i == 0 ? strange_name : i == 1 ? "" : "x";
		e->path = "/srv/x";
		e->durability = "write";
		e->on_full = "hold";
		e->size = UINT64_C(1) << 62;
	}
	r->exports[3].name = "y";
	r->exports[4].name = "z";
	e = &r->exports[0];
	e->state = REPORT_LATCHED;
	snprintf(e->state_text, sizeof(e->state_text), "fdatasync failed: Input/output error");
	snprintf(e->holder, sizeof(e->holder), "10.0.0.5:4711");
	e->in_flight = 2;
	e->oldest_in_flight_ns = 1500000000;
	stats_count(&e->totals, STATS_READ, 4096);
	stats_latency(&e->latency, STATS_CLASS_READ, 1000);
	stats_latency(&e->latency, STATS_CLASS_READ, 5000);
	stats_latency(&e->latency, STATS_CLASS_READ, UINT64_MAX / 4);
	c = report_add_client(r);
	c->id = UINT64_MAX;
	snprintf(c->address, sizeof(c->address), "10.0.0.5:4711");
	c->export_name = strange_name;
	c->age_ns = 2500000000;
	c = report_add_client(r);
	snprintf(c->address, sizeof(c->address), "10.0.0.6:1");
}

/* The report in one of its forms; freed by the caller. */
static char *render(void (*write)(FILE *out, const struct report *r))
{
	struct report r;
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	make_report(&r);
	write(out, &r);
	fclose(out);
	report_free(&r);
	return text;
}

static void write_json(FILE *out, const struct report *r)
{
	fputc('{', out);
	report_json(out, r, REPORT_ALL);
	fputc('}', out);
}

static void write_clients(FILE *out, const struct report *r)
{
	fputc('{', out);
	report_json(out, r, REPORT_CLIENTS);
	fputc('}', out);
}

TEST(json_report_parses_and_says_what_was_put_in)
{
	static struct json_token tokens[2000];
	_cleanup_free_ char *text = render(write_json);
	const struct json_token *e, *c, *h;
	uint64_t n = 0;
	ssize_t count = json_parse(text, strlen(text), tokens, ARRAY_SIZE(tokens));

	CHECK(count > 0 && count <= (ssize_t)ARRAY_SIZE(tokens));
	CHECK(!strchr(text, '\n'));
	CHECK(json_is(text, json_get(text, json_get(text, tokens, "server"), "engine"), "epoll"));
	e = json_get(text, tokens, "exports");
	CHECK(e && e->type == JSON_ARRAY && e->span > 1);
	e++;
	CHECK(json_is(text, json_get(text, e, "name"), "a\"b\\c\nd\xef\xbf\xbd\xe2\x82\xac"));
	CHECK(json_is(text, json_get(text, e, "state"), "latched"));
	CHECK(json_is(text, json_get(text, e, "holder"), "10.0.0.5:4711"));
	CHECK_EQ(json_get(text, e + e->span, "holder")->type, JSON_NULL);
	CHECK_EQ(json_u64(text, json_get(text, e, "size"), UINT64_MAX, &n), 0);
	CHECK_EQ(n, 1LL << 62);
	h = json_get(text, json_get(text, e, "latency"), "read");
	CHECK_EQ(json_u64(text, json_get(text, h, "count"), 100, &n), 0);
	CHECK_EQ(n, 3);
	h = json_get(text, h, "buckets"); /* three of them: an array and three objects of two */
	CHECK_EQ(h->span, 1 + 3 * 5);
	c = json_get(text, tokens, "clients");
	CHECK(c && c->type == JSON_ARRAY && c->span > 1);
	CHECK_EQ(json_u64(text, json_get(text, c + 1, "id"), UINT64_MAX, &n), 0);
	CHECK(n == UINT64_MAX);
	c = c + 1 + c[1].span;
	CHECK_EQ(json_get(text, c, "export")->type, JSON_NULL);
}

TEST(json_report_has_only_the_parts_asked_for)
{
	static struct json_token tokens[500];
	_cleanup_free_ char *text = render(write_clients);
	ssize_t count = json_parse(text, strlen(text), tokens, ARRAY_SIZE(tokens));

	CHECK(count > 0 && count <= (ssize_t)ARRAY_SIZE(tokens));
	CHECK(json_get(text, tokens, "clients"));
	CHECK(!json_get(text, tokens, "server") && !json_get(text, tokens, "exports"));
}

/* ---- the text exposition format, version 0.0.4, as its specification has it ----------------- */

enum { FAMILIES_MAX = 64, SERIES_MAX = 4096 };

struct exposition {
	char families[FAMILIES_MAX][80]; /* each may be declared once */
	size_t n_families;
	const char *type; /* of the last family */
	char type_text[16];
	char series[SERIES_MAX][160]; /* each may stand there once */
	size_t n_series;
	/* the histogram that is being read */
	double last_bound, last_count;
	unsigned n_histograms;
	char error[256];
};

static int wrong(struct exposition *x, const char *what, const char *line)
{
	snprintf(x->error, sizeof(x->error), "%s: %.150s", what, line);
	return -1;
}

static size_t name_length(const char *p)
{
	size_t n = 0;

	while (isalpha((unsigned char)p[n]) || p[n] == '_' || p[n] == ':' ||
	       (n > 0 && isdigit((unsigned char)p[n])))
		n++;
	return n;
}

/* {name="value",...}; *le becomes where the value of le stands. Returns behind it, or NULL. */
static const char *read_labels(const char *p, const char **le)
{
	if (*p != '{')
		return p;
	do {
		size_t n = name_length(++p);
		int is_le = n == 2 && memcmp(p, "le", 2) == 0;

		p += n;
		if (n == 0 || *p++ != '=' || *p++ != '"')
			return NULL;
		if (is_le)
			*le = p;
		for (; *p != '"'; p++) {
			if (*p == '\0' || *p == '\n')
				return NULL;
			if (*p == '\\' && !strchr("\\\"n", *++p))
				return NULL;
			if ((unsigned char)*p >= 0x80) {
				if (json_utf8_length(p) < 2)
					return NULL;
				p += json_utf8_length(p) - 1;
			}
		}
		p++;
	} while (*p == ',');
	return *p == '}' ? p + 1 : NULL;
}

/* Buckets in order, growing, +Inf last and the same as _count. */
static int check_histogram(struct exposition *x, const char *suffix, const char *le, double value,
			   const char *line)
{
	double bound;

	if (strcmp(suffix, "_sum") == 0)
		return 0;
	if (strcmp(suffix, "_count") == 0) {
		if (x->last_bound < HUGE_VAL || value != x->last_count)
			return wrong(x, "the count is not that of +Inf", line);
		x->last_bound = x->last_count = -1;
		x->n_histograms++;
		return 0;
	}
	if (strcmp(suffix, "_bucket") != 0 || !le)
		return wrong(x, "not a histogram's sample", line);
	bound = strncmp(le, "+Inf\"", 5) == 0 ? HUGE_VAL : strtod(le, NULL);
	if (bound <= x->last_bound || value < x->last_count)
		return wrong(x, "buckets do not grow", line);
	x->last_bound = bound;
	x->last_count = value;
	return 0;
}

static int read_sample(struct exposition *x, const char *line)
{
	const char *family = x->n_families ? x->families[x->n_families - 1] : "(none)";
	size_t n = name_length(line), size = strlen(family);
	const char *le = NULL, *p = read_labels(line + n, &le);
	char suffix[16] = "", *end;
	double value;

	if (!p || *p != ' ')
		return wrong(x, "not a sample", line);
	if (n < size || memcmp(line, family, size) != 0 || n - size >= sizeof(suffix))
		return wrong(x, "not of the family above", line);
	memcpy(suffix, line + size, n - size);
	for (size_t i = 0; i < x->n_series; i++)
		if (strncmp(x->series[i], line, (size_t)(p - line)) == 0 &&
		    x->series[i][p - line] == '\0')
			return wrong(x, "the series stands there twice", line);
	snprintf(x->series[x->n_series++], sizeof(x->series[0]), "%.*s", (int)(p - line), line);
	value = strtod(p + 1, &end);
	if (end == p + 1 || *end != '\0')
		return wrong(x, "the value is not a number", line);
	if (strcmp(x->type_text, "histogram") == 0)
		return check_histogram(x, suffix, le, value, line);
	if (suffix[0])
		return wrong(x, "not of the family above", line);
	if (strcmp(x->type_text, "counter") == 0 &&
	    (size < 6 || strcmp(family + size - 6, "_total") != 0))
		return wrong(x, "a counter's name ends in _total", line);
	return 0;
}

/* Also checks what is our own rule: HELP, then TYPE, then samples. */
static int read_line(struct exposition *x, const char *line)
{
	char family[80] = "";

	if (sscanf(line, "# HELP %79s %*s", family) == 1) {
		for (size_t i = 0; i < x->n_families; i++)
			if (strcmp(x->families[i], family) == 0)
				return wrong(x, "the family stands there twice", line);
		memcpy(x->families[x->n_families++], family, sizeof(family));
		x->type_text[0] = '\0';
		return name_length(family) == strlen(family) ? 0 : wrong(x, "not a name", line);
	}
	if (sscanf(line, "# TYPE %79s %15s", family, x->type_text) == 2) {
		if (x->n_families == 0 || strcmp(x->families[x->n_families - 1], family) != 0)
			return wrong(x, "TYPE without HELP", line);
		x->last_bound = x->last_count = -1;
		return strcmp(x->type_text, "gauge") && strcmp(x->type_text, "counter") &&
				       strcmp(x->type_text, "histogram")
			       ? wrong(x, "no such type", line)
			       : 0;
	}
	return x->type_text[0] ? read_sample(x, line) : wrong(x, "sample without TYPE", line);
}

static int read_exposition(struct exposition *x, char *text)
{
	char *save = NULL;

	memset(x, 0, sizeof(*x));
	if (text[0] == '\0' || text[strlen(text) - 1] != '\n')
		return wrong(x, "the last line has no end", "");
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (read_line(x, line) < 0)
			return -1;
	return 0;
}

static struct exposition exposition;

TEST(prometheus_text_obeys_the_format)
{
	_cleanup_free_ char *text = render(report_prometheus);

	if (read_exposition(&exposition, text) < 0)
		printf("# %s\n", exposition.error);
	CHECK_STR(exposition.error, "");
	CHECK_EQ(exposition.n_histograms, 1); /* the one that has measured something */
	CHECK(exposition.n_families > 20);
}

TEST(prometheus_text_has_the_figures)
{
	_cleanup_free_ char *text = render(report_prometheus);

	CHECK(strstr(text, "\nnbdserve_build_info{version=\"1.2.3\",engine=\"epoll\"} 1\n"));
	CHECK(strstr(text, "\nnbdserve_accepted_total 9\n"));
	CHECK(strstr(text, "\nnbdserve_dropped_total{reason=\"dead\"} 1\n"));
	CHECK(strstr(text, "\nnbdserve_export_latched{export=\"a\\\"b\\\\c\\nd\\\\xff\xe2\x82\xac"
			   "\"} 1\n"));
	CHECK(strstr(text, "\nnbdserve_export_size_bytes{export=\"\"} 4611686018427387904\n"));
	CHECK(strstr(text, "\xac\"} 1.5\n"));
	CHECK(strstr(text, ",op=\"read\"} 1\n"));
	CHECK(strstr(text, ",class=\"read\",le=\"1.024e-06\"} 1\n"));
	CHECK(strstr(text, ",class=\"read\",le=\"1.6384e-05\"} 2\n"));
	CHECK(strstr(text, ",class=\"read\",le=\"68.719476736\"} 2\n"));
	CHECK(strstr(text, ",class=\"read\",le=\"+Inf\"} 3\n"));
}

TEST(the_parser_of_this_test_finds_what_is_wrong)
{
	static const char *const cases[] = {
		"a 1\n",
		"# HELP a x\n# TYPE a gauge\na 1",
		"# HELP a x\n# TYPE a gauge\na 1\na 1\n",
		"# HELP a x\n# TYPE a gauge\na{b=\"c} 1\n",
		"# HELP a x\n# TYPE a gauge\na{b=\"\\x\"} 1\n",
		"# HELP a x\n# TYPE a gauge\na{b=\"\xff\"} 1\n",
		"# HELP a x\n# TYPE a counter\na 1\n",
		"# HELP a x\n# TYPE a gauge\nb 1\n",
		"# HELP a x\n# TYPE a gauge\na one\n",
		"# HELP a x\n# TYPE a histogram\na_bucket{le=\"2\"} 1\na_bucket{le=\"1\"} 1\n",
		"# HELP a x\n# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\na_count 2\n",
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *text = strdup(cases[i]);

		CHECK_EQ(read_exposition(&exposition, text), -1);
	}
}
