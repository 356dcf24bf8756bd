/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See session.h. */
#include "session.h"

#include <string.h>

enum { LONG_DIAL_EVERY = 4, SILENCES_MAX = 3, FUTILE_MAX = 5 };

static void idle(struct session *s, unsigned which, uint64_t due_ns)
{
	s->tries[which].state = TRY_IDLE;
	s->tries[which].due_ns = due_ns;
	if (s->active == (int)which)
		s->active = SESSION_NOBODY;
}

static void all_idle(struct session *s)
{
	for (unsigned i = 0; i < s->tries_count; i++)
		idle(s, i, CLOCK_NEVER);
}

void session_init(struct session *s, unsigned addresses, uint64_t now_ns)
{
	memset(s, 0, sizeof(*s));
	s->tries_count = addresses;
	s->active = SESSION_NOBODY;
	all_idle(s);
	s->shown = SESSION_LOST;
	s->since_ns = now_ns;
	s->lost_ns = now_ns;
}

/* Begins to look for a server: the preferred address at once, the others soon after. */
static void seek(struct session *s, uint64_t now_ns)
{
	unsigned rank = 0;

	for (unsigned i = 0; i < s->tries_count; i++) {
		struct session_try *t = &s->tries[i];

		if (t->state != TRY_IDLE) /* the one that the driver has not taken */
			continue;
		if (i != s->preferred)
			rank++;
		t->verdict = VERDICT_NONE;
		t->silences = 0;
		t->last_turn_ns = 0;
		backoff_start(&t->backoff, now_ns);
		t->due_ns = now_ns + (i == s->preferred ? 0 : rank * SESSION_STAGGER_NS);
		if (s->futile > 0)
			t->due_ns += SESSION_FUTILE_NS << s->futile;
	}
}

/* The same at the beginning of it: a quiet time that the last server needs is still to come. */
static void seek_anew(struct session *s, uint64_t now_ns)
{
	s->quiet_left_ns = s->quiet_time_ns;
	seek(s, now_ns);
}

/* The try came to nothing: it begins anew after a while. */
static enum session_todo retry(struct session *s, unsigned which, uint64_t now_ns, uint32_t chance)
{
	struct session_try *t = &s->tries[which];
	uint64_t due_ns = backoff_next(&t->backoff, now_ns, chance);

	/* Whoever accepts and then says nothing is hung, or slow: it is not asked so often. */
	if (t->state >= TRY_NEGOTIATING && now_ns >= t->due_ns) {
		if (t->silences < SILENCES_MAX)
			t->silences++;
		if (due_ns < now_ns + SESSION_IMPATIENT_NS)
			due_ns = now_ns + SESSION_IMPATIENT_NS;
	}
	t->verdict = VERDICT_NONE;
	idle(s, which, due_ns);
	return DO_DROP;
}

static enum session_todo not_now(struct session *s, unsigned which, uint64_t now_ns, bool is_unsafe)
{
	s->tries[which].verdict = is_unsafe ? VERDICT_UNSAFE : VERDICT_REFUSED;
	idle(s, which, now_ns + SESSION_REFUSED_NS);
	return DO_DROP;
}

static bool is_anyone_waiting(const struct session *s)
{
	for (unsigned i = 0; i < s->tries_count; i++)
		if (s->tries[i].state == TRY_CONNECTED)
			return true;
	return false;
}

/* A slow server gets longer each time, or it would never be done when it has two addresses. */
static uint64_t patience(const struct session *s, unsigned which)
{
	uint64_t ns = SESSION_IMPATIENT_NS << s->tries[which].silences;

	return is_anyone_waiting(s) && ns < SESSION_NEGOTIATE_NS ? ns : SESSION_NEGOTIATE_NS;
}

static enum session_todo dial(struct session *s, unsigned which, uint64_t now_ns)
{
	struct session_try *t = &s->tries[which];
	bool is_long = t->backoff.tries % LONG_DIAL_EVERY == LONG_DIAL_EVERY - 1;

	t->state = TRY_DIALLING;
	t->due_ns = now_ns + (is_long ? SESSION_DIAL_LONG_NS : SESSION_DIAL_NS);
	return DO_DIAL;
}

static enum session_todo negotiate(struct session *s, unsigned which, uint64_t now_ns)
{
	s->active = (int)which;
	s->tries[which].state = TRY_NEGOTIATING;
	s->tries[which].last_turn_ns = now_ns;
	s->tries[which].due_ns = now_ns + patience(s, which);
	return DO_NEGOTIATE;
}

static enum session_todo connected(struct session *s, unsigned which, uint64_t now_ns)
{
	struct session_try *active;
	uint64_t due_ns;

	if (s->quiet_left_ns > 0) {
		s->quiet_ns = now_ns + s->quiet_left_ns;
		s->quiet_left_ns = 0;
	}
	if (s->active == SESSION_NOBODY)
		return negotiate(s, which, now_ns);
	s->tries[which].state = TRY_CONNECTED;
	s->tries[which].due_ns = CLOCK_NEVER;
	active = &s->tries[s->active];
	due_ns = now_ns + patience(s, (unsigned)s->active);
	if (active->state != TRY_READY && active->due_ns > due_ns)
		active->due_ns = due_ns;
	return DO_NOTHING;
}

static uint64_t not_before(const struct session *s)
{
	return s->settled_ns > s->quiet_ns ? s->settled_ns : s->quiet_ns;
}

/* This one it is. Nobody else may negotiate from now on. */
static enum session_todo chosen(struct session *s, unsigned which, uint64_t now_ns)
{
	for (unsigned i = 0; i < s->tries_count; i++)
		if (i != which)
			idle(s, i, CLOCK_NEVER);
	s->tries[which].state = TRY_READY;
	s->tries[which].verdict = VERDICT_NONE;
	if (now_ns >= not_before(s)) {
		s->tries[which].due_ns = CLOCK_NEVER;
		return DO_HAND;
	}
	s->tries[which].due_ns = not_before(s);
	return DO_SETTLE;
}

static enum session_todo handed(struct session *s, unsigned which, uint64_t now_ns)
{
	uint64_t outage_ns = now_ns - s->lost_ns;

	if (s->was_attached) {
		if (outage_ns > s->longest_ns)
			s->longest_ns = outage_ns;
		s->last_back_ns = now_ns;
	}
	s->was_attached = true;
	s->preferred = which;
	s->link = LINK_UP;
	all_idle(s);
	return DO_NOTHING;
}

/*
 * A second LINK_DEAD while no socket is with the driver: it says nothing new, but the driver has
 * only now finished with the old socket, so its rest begins again.
 */
static enum session_todo still_dead(struct session *s, uint64_t now_ns)
{
	s->settled_ns = now_ns + SESSION_SETTLE_NS;
	if (s->active != SESSION_NOBODY && s->tries[s->active].state == TRY_READY)
		s->tries[s->active].due_ns = not_before(s);
	return DO_NOTHING;
}

static enum session_todo link_dead(struct session *s, uint64_t now_ns)
{
	if (s->link == LINK_NONE)
		return still_dead(s, now_ns);
	s->link = LINK_NONE;
	s->lost_ns = now_ns;
	s->losses++;
	s->settled_ns = now_ns + SESSION_SETTLE_NS;
	seek_anew(s, now_ns);
	return DO_CUT;
}

static enum session_todo network_changed(struct session *s, uint64_t now_ns)
{
	if (s->link != LINK_NONE)
		return DO_NOTHING;
	for (unsigned i = 0; i < s->tries_count; i++) {
		struct session_try *t = &s->tries[i];
		bool is_waiting = t->state == TRY_IDLE && t->verdict == VERDICT_NONE &&
				  t->due_ns != CLOCK_NEVER;

		/* Who dials may do it over a way that is gone. */
		if (is_waiting || t->state == TRY_DIALLING)
			t->due_ns = now_ns;
	}
	return DO_NOTHING;
}

static enum session_todo resume(struct session *s, uint64_t now_ns)
{
	if (s->link != LINK_NONE)
		return DO_NOTHING;
	for (unsigned i = 0; i < s->tries_count; i++) {
		struct session_try *t = &s->tries[i];

		if (t->state == TRY_IDLE && t->verdict != VERDICT_NONE)
			t->due_ns = now_ns;
	}
	return DO_NOTHING;
}

static enum session_todo adopted(struct session *s, uint64_t now_ns)
{
	s->was_attached = true;
	s->lost_ns = now_ns;
	s->link = LINK_UP;
	return DO_NOTHING;
}

/* An event of one try, which is not idle: an idle one knows only EV_DUE. */
static enum session_todo step_try(struct session *s, enum session_event ev, unsigned which,
				  uint64_t now_ns, uint32_t chance)
{
	switch (s->tries[which].state) { /* no default: -Wswitch-enum names the state we forgot */
	case TRY_IDLE: return ev == EV_DUE ? dial(s, which, now_ns) : DO_NOTHING;
	case TRY_DIALLING:
		if (ev == EV_CONNECTED)
			return connected(s, which, now_ns);
		break;
	case TRY_CONNECTED:
		if (ev == EV_DUE)
			return negotiate(s, which, now_ns);
		break;
	case TRY_NEGOTIATING:
		if (ev == EV_AGREED) {
			s->tries[which].state = TRY_CHECKING;
			s->tries[which].due_ns = now_ns + patience(s, which);
			return DO_CHECK;
		}
		break;
	case TRY_CHECKING:
		if (ev == EV_SAME)
			return chosen(s, which, now_ns);
		if (ev == EV_DIFFERENT || ev == EV_UNSAFE)
			return not_now(s, which, now_ns, ev == EV_UNSAFE);
		break;
	case TRY_READY:
		if (ev == EV_DUE)
			return chosen(s, which, now_ns);
		if (ev == EV_HANDED)
			return handed(s, which, now_ns);
		if (ev == EV_FAILED)
			seek(s, now_ns);
		break;
	}
	return ev == EV_FAILED || ev == EV_DUE ? retry(s, which, now_ns, chance) : DO_NOTHING;
}

static enum session_todo step(struct session *s, enum session_event ev, unsigned which,
			      uint64_t now_ns, uint32_t chance)
{
	if (s->link == LINK_DETACHING)
		return DO_NOTHING;
	switch (ev) {
	case EV_START: seek_anew(s, now_ns); return DO_NOTHING;
	case EV_ADOPTED: return adopted(s, now_ns);
	case EV_EXCHANGE:
		seek_anew(s, now_ns);
		for (unsigned i = 0; i < s->tries_count; i++)
			if (i != s->preferred)
				s->tries[i].due_ns += SESSION_EXCHANGE_NS;
		return DO_NOTHING;
	case EV_LINK_DEAD: return link_dead(s, now_ns);
	case EV_STALLED:
	case EV_ANSWERED:
		if (s->link != LINK_NONE)
			s->link = ev == EV_STALLED ? LINK_SUSPECT : LINK_UP;
		return DO_NOTHING;
	case EV_NETWORK: return network_changed(s, now_ns);
	case EV_RESUME: return resume(s, now_ns);
	case EV_DETACH:
		s->link = LINK_DETACHING;
		all_idle(s);
		return DO_DISCONNECT;
	case EV_DUE:
	case EV_CONNECTED:
	case EV_AGREED:
	case EV_SAME:
	case EV_DIFFERENT:
	case EV_UNSAFE:
	case EV_FAILED:
	case EV_HANDED: break;
	}
	return step_try(s, ev, which, now_ns, chance);
}

static enum session_state state_of(const struct session *s)
{
	enum session_state of_tries = SESSION_LOST;
	bool is_unsafe = false, is_refused = false;

	switch (s->link) {
	case LINK_UP: return SESSION_ATTACHED;
	case LINK_SUSPECT: return SESSION_SUSPECT;
	case LINK_DETACHING: return SESSION_DETACHING;
	case LINK_NONE: break;
	}
	for (unsigned i = 0; i < s->tries_count; i++) {
		static const enum session_state states[] = {
			[TRY_IDLE] = SESSION_LOST,          [TRY_DIALLING] = SESSION_DIALLING,
			[TRY_CONNECTED] = SESSION_DIALLING, [TRY_NEGOTIATING] = SESSION_NEGOTIATING,
			[TRY_CHECKING] = SESSION_CHECKING,  [TRY_READY] = SESSION_READY,
		};
		const struct session_try *t = &s->tries[i];

		if (states[t->state] > of_tries)
			of_tries = states[t->state];
		is_unsafe = is_unsafe || t->verdict == VERDICT_UNSAFE;
		is_refused = is_refused || t->verdict == VERDICT_REFUSED;
	}
	if (of_tries == SESSION_READY)
		return SESSION_READY;
	return is_unsafe ? SESSION_HELD : is_refused ? SESSION_REFUSED : of_tries;
}

enum session_todo session_step(struct session *s, enum session_event ev, unsigned which,
			       uint64_t now_ns, uint32_t chance)
{
	enum session_todo todo = step(s, ev, which, now_ns, chance);
	enum session_state state = state_of(s);

	if (state != s->shown) {
		s->shown = state;
		s->since_ns = now_ns;
	}
	return todo;
}

/*
 * Whose turn it is to negotiate, when nobody does: who has waited longest, for a hung server may
 * have several addresses.
 */
static int next_in_turn(const struct session *s)
{
	int next = SESSION_NOBODY;

	if (s->active != SESSION_NOBODY)
		return SESSION_NOBODY;
	for (unsigned i = 0; i < s->tries_count; i++) {
		const struct session_try *t = &s->tries[i];

		if (t->state != TRY_CONNECTED)
			continue;
		if (next == SESSION_NOBODY || t->last_turn_ns < s->tries[next].last_turn_ns ||
		    (t->last_turn_ns == s->tries[next].last_turn_ns && i == s->preferred))
			next = (int)i;
	}
	return next;
}

int session_due(const struct session *s, uint64_t now_ns)
{
	int next = next_in_turn(s);

	for (unsigned i = 0; next == SESSION_NOBODY && i < s->tries_count; i++)
		if (s->tries[i].due_ns <= now_ns)
			next = (int)i;
	return next;
}

uint64_t session_deadline(const struct session *s)
{
	uint64_t deadline_ns = CLOCK_NEVER;

	if (next_in_turn(s) != SESSION_NOBODY)
		return 0;
	for (unsigned i = 0; i < s->tries_count; i++)
		if (s->tries[i].due_ns < deadline_ns)
			deadline_ns = s->tries[i].due_ns;
	return deadline_ns;
}

void session_quiet(struct session *s, uint64_t ns)
{
	s->quiet_time_ns = ns;
}

void session_note_use(struct session *s, bool was_useful)
{
	if (was_useful)
		s->futile = 0;
	else if (s->futile < FUTILE_MAX)
		s->futile++;
}

uint32_t session_tries(const struct session *s)
{
	uint32_t tries = 0;

	for (unsigned i = 0; i < s->tries_count; i++)
		tries += s->tries[i].backoff.tries;
	return tries;
}

bool session_state_is_up(enum session_state state)
{
	return state == SESSION_ATTACHED || state == SESSION_SUSPECT;
}

const char *session_state_name(enum session_state state)
{
	switch (state) {
	case SESSION_RESOLVING: return "resolving";
	case SESSION_LOST: return "lost";
	case SESSION_DIALLING: return "dialling";
	case SESSION_NEGOTIATING: return "negotiating";
	case SESSION_CHECKING: return "checking";
	case SESSION_READY: return "ready";
	case SESSION_ATTACHED: return "attached";
	case SESSION_SUSPECT: return "suspect";
	case SESSION_HELD: return "held";
	case SESSION_REFUSED: return "refused";
	case SESSION_DETACHING: return "detaching";
	}
	return "unknown";
}
