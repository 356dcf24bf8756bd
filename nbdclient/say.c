/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a client says of its failures, and how often. See client.h. */
#include "client.h"

#include "base/log.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { LOG_AGAIN_S = 60 /* a failure that lasts is said again after this long */ };

const char *client_server(const struct client *c)
{
	return c->address ? c->address->text : "(none yet)";
}

void client_set_why(struct client *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(c->why, sizeof(c->why), fmt, ap);
	va_end(ap);
}

/*
 * FNV-1a: to know a text again without keeping it. Numbers count up from try to try ("in use since
 * 12 s"), so they are not part of it.
 */
static uint64_t hash_of(const char *text)
{
	/* Nor is the reason: a network that is away has several faces by turns. */
	const char *end = strncmp(text, CLIENT_UNREACHABLE, strlen(CLIENT_UNREACHABLE)) == 0
				  ? strrchr(text, ':')
				  : NULL;
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (; *text && text != end; text++)
		if (*text < '0' || *text > '9')
			h = (h ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
	return h;
}

/* By address: they are tried side by side, and with one memory each try would be news. */
bool client_is_news(struct client *c, uint64_t now_ns)
{
	size_t i = c->address ? (size_t)(c->address - c->addresses.address) : 0;
	uint64_t hash = hash_of(c->why);

	for (size_t j = 0; j < ARRAY_SIZE(c->said[i]); j++)
		if (c->said[i][j].hash == hash &&
		    now_ns - c->said[i][j].at_ns < LOG_AGAIN_S * CLOCK_NS_PER_S)
			return false;
	c->said[i][1] = c->said[i][0]; /* two failures may take turns */
	c->said[i][0].hash = hash;
	c->said[i][0].at_ns = now_ns;
	return true;
}

static void log_failure(struct client *c, uint64_t now_ns)
{
	const struct session *s = &c->session;
	uint64_t seconds = (now_ns - s->lost_ns) / CLOCK_NS_PER_S;

	if (!client_is_news(c, now_ns))
		return;
	if (s->was_attached)
		log_warn("%s: %s (trying for %" PRIu64 " s now, for ever if need be; what uses the "
			 "device waits)",
			 c->name, c->why, seconds);
	else
		log_warn("%s: %s (waiting for it, %" PRIu64 " s so far)", c->name, c->why, seconds);
}

int client_failed(struct client *c, bool is_final)
{
	if (is_final && !c->session.was_attached) {
		log_error("%s (nothing is attached)", c->why);
		c->exit_status = 1;
	} else {
		log_failure(c, clock_now_ns());
	}
	return EV_FAILED;
}
