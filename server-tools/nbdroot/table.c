/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See table.h. */
#include "table.h"

#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- the table ----------------------------------------------------------------------------- */

void table_add(struct table *t, char *text)
{
	size_t n = t->n_cells;

	if ((n & (n - 1)) == 0) { /* full at each power of two */
		char **bigger = reallocarray(t->cells, n ? 2 * n : 1, sizeof(*bigger));

		if (bigger) {
			t->cells = bigger;
		} else {
			free(text);
			text = NULL;
		}
	}
	if (!text || t->is_broken) {
		t->is_broken = true;
		free(text);
		return;
	}
	t->cells[t->n_cells++] = text;
}

void table_add_number(struct table *t, uint64_t n)
{
	char *text;

	table_add(t, asprintf(&text, "%" PRIu64, n) < 0 ? NULL : text);
}

/* Characters of a UTF-8 text, each taken to be one column wide. */
static int width_of(const char *text)
{
	int n = 0;

	for (; *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

static void print_cell(const char *text, int width, bool is_right, bool is_last)
{
	int pad = width - width_of(text);

	printf("%*s%s%*s", is_right ? pad : 0, "", text, is_right || is_last ? 0 : pad, "");
	fputs(is_last ? "\n" : "  ", stdout);
}

static const char *head_text(const char *head)
{
	return head + (*head == '>');
}

int table_print(struct table *t)
{
	_cleanup_free_ int *widths = calloc(t->n_columns, sizeof(*widths));
	bool is_good = widths && !t->is_broken;

	for (size_t i = 0; is_good && i < t->n_columns; i++)
		widths[i] = width_of(head_text(t->heads[i]));
	for (size_t i = 0; is_good && i < t->n_cells; i++)
		if (width_of(t->cells[i]) > widths[i % t->n_columns])
			widths[i % t->n_columns] = width_of(t->cells[i]);
	for (size_t i = 0; is_good && i < t->n_columns + t->n_cells; i++) {
		size_t column = i % t->n_columns;
		const char *head = t->heads[column];

		print_cell(i < t->n_columns ? head_text(head) : t->cells[i - t->n_columns],
			   widths[column], *head == '>', column == t->n_columns - 1);
	}
	while (t->n_cells > 0)
		free(t->cells[--t->n_cells]);
	free(t->cells);
	t->cells = NULL;
	if (!is_good)
		log_error("out of memory for the table (--json needs less)");
	return is_good ? 0 : -1;
}

/* ---- figures ------------------------------------------------------------------------------- */

char *table_bytes(uint64_t bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double n = (double)bytes;
	size_t unit = 0;
	char *text;

	while (n >= 1024 && unit + 1 < ARRAY_SIZE(units)) {
		n /= 1024;
		unit++;
	}
	/* whole numbers, and those of three digits, need no decimal */
	return asprintf(&text, "%.*f %s", n < 100 && n != (double)(uint64_t)n, n, units[unit]) < 0
		       ? NULL
		       : text;
}

char *table_age(double seconds)
{
	uint64_t s = (uint64_t)seconds;
	char *text;
	int r;

	if (s < 60)
		r = seconds < 10 && seconds > 0 ? asprintf(&text, "%.1f s", seconds)
						: asprintf(&text, "%" PRIu64 " s", s);
	else if (s < 3600)
		r = asprintf(&text, "%" PRIu64 " min %" PRIu64 " s", s / 60, s % 60);
	else if (s < 86400)
		r = asprintf(&text, "%" PRIu64 " h %" PRIu64 " min", s / 3600, s / 60 % 60);
	else
		r = asprintf(&text, "%" PRIu64 " d %" PRIu64 " h", s / 86400, s / 3600 % 24);
	return r < 0 ? NULL : text;
}

char *table_latency(uint64_t ns)
{
	char *text;
	int r;

	if (ns == 0)
		r = asprintf(&text, "-");
	else if (ns < 1000000)
		r = asprintf(&text, "%" PRIu64 " us", (ns + 999) / 1000);
	else if (ns < 1000000000)
		r = asprintf(&text, "%.*f ms", ns < 10000000, (double)ns / 1e6);
	else
		r = asprintf(&text, "%.1f s", (double)ns / 1e9);
	return r < 0 ? NULL : text;
}
