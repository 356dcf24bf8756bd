/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See session.h. */
#include "session.h"

#include <string.h>

static void enter(struct session *s, enum session_state state, uint64_t now_ns,
		  uint64_t deadline_ns)
{
	s->state = state;
	s->since_ns = now_ns;
	s->deadline_ns = deadline_ns;
}

void session_init(struct session *s, uint64_t now_ns)
{
	memset(s, 0, sizeof(*s));
	enter(s, SESSION_WAITING, now_ns, CLOCK_NEVER);
	backoff_start(&s->backoff, now_ns);
	s->lost_ns = now_ns;
}

static enum session_todo dial(struct session *s, uint64_t now_ns)
{
	enter(s, SESSION_DIALLING, now_ns, now_ns + SESSION_DIAL_NS);
	return DO_DIAL;
}

/* The try came to nothing: close what there is of it, wait, try again. */
static enum session_todo retry(struct session *s, uint64_t now_ns, uint32_t chance)
{
	enter(s, SESSION_WAITING, now_ns, backoff_next(&s->backoff, now_ns, chance));
	return DO_DROP;
}

static enum session_todo refuse(struct session *s, uint64_t now_ns)
{
	enter(s, SESSION_REFUSED, now_ns, now_ns + SESSION_REFUSED_NS);
	return DO_DROP;
}

static enum session_todo hand_when_allowed(struct session *s, uint64_t now_ns)
{
	if (now_ns >= s->not_before_ns) {
		enter(s, SESSION_READY, now_ns, CLOCK_NEVER);
		return DO_HAND;
	}
	enter(s, SESSION_READY, now_ns, s->not_before_ns);
	return DO_NOTHING;
}

static enum session_todo lost(struct session *s, uint64_t now_ns)
{
	s->lost_ns = now_ns;
	s->losses++;
	s->not_before_ns = now_ns + SESSION_SETTLE_NS;
	backoff_start(&s->backoff, now_ns);
	enter(s, SESSION_DIALLING, now_ns, now_ns + SESSION_DIAL_NS);
	return DO_CUT_DIAL;
}

static enum session_todo attached(struct session *s, uint64_t now_ns)
{
	uint64_t outage_ns = now_ns - s->lost_ns;

	if (s->was_attached) {
		if (outage_ns > s->longest_ns)
			s->longest_ns = outage_ns;
		s->last_back_ns = now_ns;
	}
	s->was_attached = true;
	enter(s, SESSION_ATTACHED, now_ns, CLOCK_NEVER);
	return DO_NOTHING;
}

/*
 * A second LINK_DEAD while no socket is with the driver: it says nothing new, but the driver has
 * only now finished with the old socket, so its rest begins again.
 */
static enum session_todo still_dead(struct session *s, uint64_t now_ns)
{
	s->not_before_ns = now_ns + SESSION_SETTLE_NS;
	if (s->state == SESSION_READY)
		s->deadline_ns = s->not_before_ns;
	return DO_NOTHING;
}

static enum session_todo detach(struct session *s, uint64_t now_ns)
{
	enter(s, SESSION_DETACHING, now_ns, CLOCK_NEVER);
	return DO_DISCONNECT;
}

enum session_todo session_step(struct session *s, enum session_event ev, uint64_t now_ns,
			       uint32_t chance)
{
	if (s->state == SESSION_DETACHING)
		return DO_NOTHING;
	if (ev == EV_DETACH)
		return detach(s, now_ns);
	if (ev == EV_LINK_DEAD && s->state != SESSION_ATTACHED)
		return still_dead(s, now_ns);

	switch (s->state) { /* no default: -Wswitch-enum names the state we forgot */
	case SESSION_WAITING:
		if (ev == EV_ADOPTED) {
			s->was_attached = true;
			s->lost_ns = now_ns;
			enter(s, SESSION_ATTACHED, now_ns, CLOCK_NEVER);
			return DO_NOTHING;
		}
		return ev == EV_DEADLINE || ev == EV_START ? dial(s, now_ns) : DO_NOTHING;
	case SESSION_DIALLING:
		if (ev == EV_CONNECTED) {
			enter(s, SESSION_NEGOTIATING, now_ns, now_ns + SESSION_NEGOTIATE_NS);
			return DO_NEGOTIATE;
		}
		break;
	case SESSION_NEGOTIATING:
		if (ev == EV_AGREED) {
			enter(s, SESSION_CHECKING, now_ns, now_ns + SESSION_NEGOTIATE_NS);
			return DO_CHECK;
		}
		break;
	case SESSION_CHECKING:
		if (ev == EV_SAME)
			return hand_when_allowed(s, now_ns);
		if (ev == EV_DIFFERENT)
			return refuse(s, now_ns);
		break;
	case SESSION_READY:
		if (ev == EV_DEADLINE)
			return hand_when_allowed(s, now_ns);
		if (ev == EV_HANDED)
			return attached(s, now_ns);
		break;
	case SESSION_ATTACHED: return ev == EV_LINK_DEAD ? lost(s, now_ns) : DO_NOTHING;
	case SESSION_REFUSED: return ev == EV_DEADLINE ? dial(s, now_ns) : DO_NOTHING;
	case SESSION_DETACHING: return DO_NOTHING;
	}
	return ev == EV_FAILED || ev == EV_DEADLINE ? retry(s, now_ns, chance) : DO_NOTHING;
}

const char *session_state_name(enum session_state state)
{
	switch (state) {
	case SESSION_WAITING: return "waiting";
	case SESSION_DIALLING: return "dialling";
	case SESSION_NEGOTIATING: return "negotiating";
	case SESSION_CHECKING: return "checking";
	case SESSION_READY: return "ready";
	case SESSION_ATTACHED: return "attached";
	case SESSION_REFUSED: return "refused";
	case SESSION_DETACHING: return "detaching";
	}
	return "unknown";
}
