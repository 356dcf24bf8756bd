/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Columns that are as wide as they need to be, and figures as people say them. A table is filled
 * cell by cell, row after row, and printed once.
 */
#ifndef NBDROOT_TABLE_H
#define NBDROOT_TABLE_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stdint.h>

struct table {
	const char *const
		*heads; /* that begin with '>' stand for columns of numbers: flush right */
	size_t n_columns;
	char **cells; /* row after row */
	size_t n_cells;
	bool is_broken; /* there was no memory for a cell */
};

/* Takes a malloc()ed text; NULL says that there was no memory for it. */
void table_add(struct table *t, char *text);
void table_add_number(struct table *t, uint64_t n);

/* Prints and empties it. 0 or -1, which has been logged: no memory. */
int table_print(struct table *t) _must_check_;

/* "1.5 GiB", "12 s", "3 h 5 min", "840 us": to be freed; NULL without memory. */
char *table_bytes(uint64_t bytes);
char *table_age(double seconds);
char *table_latency(uint64_t ns);

#endif
