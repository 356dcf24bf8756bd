/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is this machine's own, and may stand in names: the values of {mac} and the others. */
#ifndef INIT_VALUES_H
#define INIT_VALUES_H

#include "boot.h"
#include "substitute.h"

struct values {
	char mac[18]; /* 52-54-00-12-34-56 */
	char uuid[64];
	struct substitute_values v;
};

/* To be called when the network is up. The struct must not be moved or copied afterwards. */
void values_read(const struct boot *b, struct values *out);

/* substitute() whose problems are last words. 0 or LASTWORDS_FAILED. */
int values_substitute(struct boot *b, const struct values *values, const char *text, char *out,
		      size_t out_size) _must_check_;

#endif
