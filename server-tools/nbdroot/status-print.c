/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See status-print.h. */
#include "status-print.h"

#include "table.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

/* The elements of an array: its first, and where it ends; none when there is no such array. */
struct elements {
	const struct json_token *first, *end;
};

static struct elements elements_of(const struct answer *a, const char *name)
{
	const struct json_token *list = json_get(a->text, a->root, name);

	if (!list || list->type != JSON_ARRAY)
		return (struct elements){ NULL, NULL };
	return (struct elements){ list + 1, list + list->span };
}

/* A cell of text, with other words for an empty one. */
static void add_text(struct table *t, const struct answer *a, const struct json_token *object,
		     const char *name, const char *if_empty)
{
	char *text = answer_text(a, object, name);

	if (text && !text[0]) {
		free(text);
		text = strdup(if_empty);
	}
	table_add(t, text);
}

/* In flight, and how long the oldest request has been. */
static void add_in_flight(struct table *t, const struct answer *a, const struct json_token *object)
{
	uint64_t n = answer_number(a, object, "in_flight");

	table_add_number(t, n);
	table_add(t, n ? table_age(answer_decimal(a, object, "oldest_in_flight_s")) : strdup("-"));
}

static void add_transfer(struct table *t, const struct answer *a, const struct json_token *object)
{
	table_add(t, table_bytes(answer_number(a, object, "bytes_read")));
	table_add(t, table_bytes(answer_number(a, object, "bytes_written")));
	table_add_number(t, answer_number(a, object, "errors"));
}

static void add_mode(struct table *t, const struct answer *a, const struct json_token *object)
{
	table_add(t, strdup(answer_is_true(a, object, "read_only") ? "ro" : "rw"));
}

/* ---- the server ---------------------------------------------------------------------------- */

static int print_server(const struct answer *a)
{
	const struct json_token *s = json_get(a->text, a->root, "server");
	_cleanup_free_ char *version = answer_text(a, s, "version");
	_cleanup_free_ char *engine = answer_text(a, s, "engine");
	_cleanup_free_ char *age =
		table_age((double)time(NULL) - (double)answer_number(a, s, "started"));
	_cleanup_free_ char *used = table_bytes(answer_number(a, s, "memory_used"));
	_cleanup_free_ char *limit = table_bytes(answer_number(a, s, "memory_limit"));
	uint64_t threads = answer_number(a, s, "threads");

	if (!version || !engine || !age || !used || !limit)
		return -1;
	printf("nbdserve %s, process %" PRIu64 ", up %s, engine %s with %" PRIu64 " thread%s%s\n",
	       version, answer_number(a, s, "pid"), age, engine, threads, threads == 1 ? "" : "s",
	       answer_is_true(a, s, "draining") ? "; a successor has taken over, it finishes" : "");
	printf("%" PRIu64 " connections, %" PRIu64 " of them negotiating; %s of %s for requests\n",
	       answer_number(a, s, "connections"), answer_number(a, s, "half_open"), used, limit);
	printf("so far: %" PRIu64 " accepted, %" PRIu64 " refused, %" PRIu64
	       " dropped while negotiating, %" PRIu64 " deaf, %" PRIu64 " dead\n",
	       answer_number(a, s, "accepted"), answer_number(a, s, "refused"),
	       answer_number(a, s, "dropped_half_open"), answer_number(a, s, "dropped_deaf"),
	       answer_number(a, s, "dropped_dead"));
	return 0;
}

/* ---- exports ------------------------------------------------------------------------------- */

static void add_p99(struct table *t, const struct answer *a, const struct json_token *object,
		    const char *what)
{
	const struct json_token *h = json_get(a->text, json_get(a->text, object, "latency"), what);

	table_add(t, table_latency(answer_number(a, h, "p99_ns")));
}

static int print_export_table(const struct answer *a, struct elements list)
{
	static const char *const heads[] = {
		"EXPORT", ">SIZE",    "MODE",    "STATE",     ">CLIENTS",   ">IN FLIGHT", ">OLDEST",
		">READ",  ">WRITTEN", ">ERRORS", ">P99 READ", ">P99 WRITE", ">P99 FLUSH", "HOLDER",
	};
	struct table t = { .heads = heads, .n_columns = ARRAY_SIZE(heads) };

	for (const struct json_token *e = list.first; e < list.end; e += e->span) {
		add_text(&t, a, e, "name", "\"\"");
		table_add(&t, table_bytes(answer_number(a, e, "size")));
		add_mode(&t, a, e);
		add_text(&t, a, e, "state", "?");
		table_add_number(&t, answer_number(a, e, "connections"));
		add_in_flight(&t, a, e);
		add_transfer(&t, a, e);
		add_p99(&t, a, e, "read");
		add_p99(&t, a, e, "write");
		add_p99(&t, a, e, "flush");
		add_text(&t, a, e, "holder", "-");
	}
	return table_print(&t);
}

/* What a table cannot say: why an export is not well, and what to do. */
static int print_troubles(const struct answer *a, struct elements list)
{
	for (const struct json_token *e = list.first; e < list.end; e += e->span) {
		_cleanup_free_ char *name = answer_text(a, e, "name");
		_cleanup_free_ char *state = answer_text(a, e, "state");
		_cleanup_free_ char *why = answer_text(a, e, "state_text");

		if (!name || !state || !why)
			return -1;
		if (strcmp(state, "latched") == 0)
			printf("export \"%s\" is latched: %s (every flush fails; when the disk is "
			       "well and the image is checked: nbdroot client release)\n",
			       name, why);
		else if (strcmp(state, "holding") == 0)
			printf("export \"%s\" holds %" PRIu64
			       " requests: %s (they go on when there "
			       "is room)\n",
			       name, answer_number(a, e, "held"), why);
	}
	return 0;
}

/* ---- clients ------------------------------------------------------------------------------- */

int status_print_clients(const struct answer *a)
{
	static const char *const heads[] = {
		">ID",     "ADDRESS", "EXPORT",   "MODE",    ">SINCE", ">IN FLIGHT", ">OLDEST",
		">UNSENT", ">READ",   ">WRITTEN", ">ERRORS", "HOST",   "MACHINE",
	};
	struct table t = { .heads = heads, .n_columns = ARRAY_SIZE(heads) };
	struct elements list = elements_of(a, "clients");

	if (list.first == list.end) {
		puts("no clients");
		return 0;
	}
	for (const struct json_token *c = list.first; c < list.end; c += c->span) {
		const struct json_token *name = json_get(a->text, c, "export");
		bool has_export = name && name->type == JSON_STRING;

		table_add_number(&t, answer_number(a, c, "id"));
		add_text(&t, a, c, "address", "?");
		add_text(&t, a, c, "export", has_export ? "\"\"" : "(negotiating)");
		if (has_export)
			add_mode(&t, a, c);
		else
			table_add(&t, strdup("-"));
		table_add(&t, table_age(answer_decimal(a, c, "age_s")));
		add_in_flight(&t, a, c);
		table_add(&t, table_bytes(answer_number(a, c, "unsent")));
		add_transfer(&t, a, c);
		add_text(&t, a, c, "host", "-");
		add_text(&t, a, c, "machine", "-");
	}
	return table_print(&t);
}

int status_print(const struct answer *a)
{
	struct elements exports = elements_of(a, "exports");

	if (print_server(a) < 0)
		return -1;
	puts("");
	if (exports.first == exports.end)
		puts("no exports");
	else if (print_export_table(a, exports) < 0 || print_troubles(a, exports) < 0)
		return -1;
	puts("");
	return status_print_clients(a);
}
