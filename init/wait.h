/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a person at the screen is told while the boot waits: for what, how that is, and for how
 * long, in one grammar for cards, links, DHCP and servers. First after 3 s, then after 10, 30 and
 * 60 s, then every minute.
 */
#ifndef INIT_WAIT_H
#define INIT_WAIT_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct wait {
	uint64_t since_ns, next_ns;
};

void wait_start(struct wait *w);

/* How long it has lasted. */
unsigned int wait_s(const struct wait *w);

/* How it is has changed: due at once, unless nothing was to be said so far. */
void wait_has_changed(struct wait *w);

/* Whether it is time to say so. Only asking changes nothing. */
bool wait_is_due(const struct wait *w);

/*
 * When it is due, logs "SUBJECT: waiting for WHAT, STATE, 12 s (HINT)"; hint NULL: none. A wait of
 * a minute or more is an error line: one that "quiet" lets through.
 */
void wait_say(struct wait *w, const char *subject, const char *what, const char *state,
	      const char *hint);

/* Until pid has ended, in these words. 0 with *status as of waitpid(2), or -ECHILD. */
int wait_for_process(pid_t pid, int *status, const char *subject, const char *what,
		     const char *state, const char *hint) _must_check_;

#endif
