/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See wait.h. */
#include "wait.h"
#include "proc.h"

#include "base/clock.h"
#include "base/log.h"

static const unsigned int said_at_s[] = { 3, 10, 30, 60 };
enum {
	AGAIN_S = 60,
	LOOK_MS = 1000, /* whether a process has ended */
};

void wait_start(struct wait *w)
{
	w->since_ns = clock_now_ns();
	w->next_ns = w->since_ns + said_at_s[0] * CLOCK_NS_PER_S;
}

unsigned int wait_s(const struct wait *w)
{
	return (unsigned int)((clock_now_ns() - w->since_ns) / CLOCK_NS_PER_S);
}

void wait_has_changed(struct wait *w)
{
	if (wait_s(w) >= said_at_s[0])
		w->next_ns = w->since_ns;
}

bool wait_is_due(const struct wait *w)
{
	return clock_now_ns() >= w->next_ns;
}

void wait_say(struct wait *w, const char *subject, const char *what, const char *state,
	      const char *hint)
{
	unsigned int seconds = wait_s(w), next_s = seconds + AGAIN_S;

	if (!wait_is_due(w))
		return;
	for (size_t i = ARRAY_SIZE(said_at_s); i-- > 0;)
		if (said_at_s[i] > seconds)
			next_s = said_at_s[i];
	w->next_ns = w->since_ns + next_s * CLOCK_NS_PER_S;
	log_line(seconds >= AGAIN_S ? LOG_LEVEL_ERROR : LOG_LEVEL_WARN,
		 "%s: waiting for %s, %s, %u s%s%s%s", subject, what, state, seconds,
		 hint != NULL ? " (" : "", hint != NULL ? hint : "", hint != NULL ? ")" : "");
}

int wait_for_process(pid_t pid, int *status, const char *subject, const char *what,
		     const char *state, const char *hint)
{
	struct wait w;
	int r;

	wait_start(&w);
	while ((r = proc_wait(pid, clock_now_ns() + LOOK_MS * CLOCK_NS_PER_MS, status)) ==
	       -ETIMEDOUT)
		wait_say(&w, subject, what, state, hint);
	return r;
}
