/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one way a boot fails: say which step, why, and what to try, on the console and in the
 * kernel's log. Then a shell (rd.shell); or the words stay on the screen, and the step is tried
 * again every half minute, in case somebody repaired what it waits for; or, with a step or a reason
 * for which that makes no sense, a restart (panic=). Never exits: a PID 1 that does is a kernel
 * panic, and the reason scrolls away.
 */
#ifndef INIT_LASTWORDS_H
#define INIT_LASTWORDS_H

#include "base/cleanup.h"

#include <stdbool.h>

enum {
	LASTWORDS_FAILED = 1, /* what a step returns when it has left its words */
	LASTWORDS_MAX = 512,
};

struct lastwords {
	char why[LASTWORDS_MAX];
	char hint[LASTWORDS_MAX]; /* what to try; "" for the step's own hint */
	char said[LASTWORDS_MAX]; /* the last why that was shown: not repeated */
	bool is_final;            /* no waiting heals it: a module that is not there, say */
};

/* Leaves the reason, and what to try (NULL: the step's own hint). Returns LASTWORDS_FAILED. */
int lastwords_leave(struct lastwords *w, const char *hint, const char *fmt, ...) _printf_(3, 4);

/* The same, of what fails again for as long as this machine has not been started anew. */
int lastwords_leave_final(struct lastwords *w, const char *hint, const char *fmt, ...)
	_printf_(3, 4);

struct lastwords_policy {
	bool wants_shell;
	bool has_panic;
	int panic_s; /* below 0: at once; 0: never */
	bool can_retry;
};

/*
 * Shows the words and returns when the step is to be tried again. When it cannot be, and no
 * shell was asked for, it does not return.
 */
void lastwords_speak(struct lastwords *w, const char *step, const char *name, const char *step_hint,
		     const struct lastwords_policy *p);

/* A shell on the console; returns when it is left. why is shown above it. */
void lastwords_shell(const char *why);

#endif
