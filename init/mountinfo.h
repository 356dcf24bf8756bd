/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One line of /proc/self/mountinfo, see proc(5). Pure. */
#ifndef INIT_MOUNTINFO_H
#define INIT_MOUNTINFO_H

#include "base/cleanup.h"

#include <stdbool.h>

/* Into the line. */
struct mountinfo {
	char *where, *type, *source;
};

/*
 * Takes the line apart, and gives names back their blanks and backslashes, which the kernel writes
 * as \040 and \134. The line is changed. False: it is none.
 */
bool mountinfo_parse(char *line, struct mountinfo *out);

#endif
