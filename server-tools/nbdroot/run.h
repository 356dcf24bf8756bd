/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs another program, without a shell. It is looked for in PATH and then in the system's
 * folders, for an ordinary user's PATH often lacks /usr/sbin.
 */
#ifndef NBDROOT_RUN_H
#define NBDROOT_RUN_H

#include "base/cleanup.h"

#include <stddef.h>

/* The program is not installed. */
enum { RUN_E_MISSING = 1000 };

/*
 * Runs argv and waits. Returns its exit status (0 to 255), 256 + n when signal n ended it,
 * RUN_E_MISSING, or negative errno when it could not be run.
 */
int run_program(const char *const argv[]) _must_check_;

/*
 * The same, and collects what it writes to stdout, at most max bytes, as a string. *out is the
 * caller's to free. -EFBIG when it writes more.
 */
int run_capture(const char *const argv[], size_t max, char **out) _must_check_;

#endif
