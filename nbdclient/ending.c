/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See ending.h. */
#include "ending.h"

#include "base/cleanup.h"

#include <string.h>

void ending_ask(struct ending *e, enum ending_verb verb, bool by_keys, uint64_t now_ns)
{
	/* A request of which nothing came does not set the time of another. */
	if (!e->is_away && now_ns - e->asked_ns > ENDING_FORGET_NS)
		ending_call_off(e);
	if (e->asked == ENDING_NOT_ASKED) {
		e->asked_ns = now_ns;
		e->by_keys = by_keys;
	}
	e->by_keys = e->by_keys && by_keys; /* else PID 1 knows of it, too */
	e->asked = verb;
}

void ending_call_off(struct ending *e)
{
	e->asked = ENDING_NOT_ASKED;
	e->by_keys = false;
	e->has_said = false;
}

static uint64_t patience_ends_ns(const struct ending *e)
{
	uint64_t from_ns = e->asked_ns > e->trouble_ns ? e->asked_ns : e->trouble_ns;

	return from_ns + ENDING_PATIENCE_NS + (e->role == ENDING_ENDS ? ENDING_LAST_NS : 0);
}

static uint64_t outage_ends_ns(const struct ending *e)
{
	return e->away_ns + e->outage_s * CLOCK_NS_PER_S;
}

static bool is_waited_for(const struct ending *e)
{
	return e->asked != ENDING_NOT_ASKED && e->role != ENDING_WAITS;
}

enum ending_todo ending_step(struct ending *e, bool is_away, uint64_t now_ns)
{
	if (is_away && !e->is_away) {
		e->away_ns = now_ns;
		if (e->back_ns == 0 || now_ns - e->back_ns >= ENDING_STEADY_NS) {
			e->trouble_ns = now_ns;
			e->has_said = false;
		}
		if (now_ns - e->asked_ns > ENDING_FORGET_NS)
			ending_call_off(e);
	}
	if (!is_away && e->is_away)
		e->back_ns = now_ns;
	e->is_away = is_away;
	if (!is_away && e->by_keys) {
		ending_call_off(e);
		return ENDING_DO_PASS_ON;
	}
	if (!is_away || e->is_over)
		return ENDING_DO_NOTHING;

	if (is_waited_for(e) && !e->has_said) {
		e->has_said = true;
		return ENDING_DO_SAY;
	}
	if (is_waited_for(e) && now_ns >= patience_ends_ns(e)) {
		e->is_over = true;
		return e->role == ENDING_ENDS ? ENDING_DO_END : ENDING_DO_LET_GO;
	}
	if (e->outage_s > 0 && now_ns >= outage_ends_ns(e)) {
		e->is_over = true;
		return ENDING_DO_RESTART;
	}
	return ENDING_DO_NOTHING;
}

uint64_t ending_deadline(const struct ending *e)
{
	uint64_t deadline_ns = CLOCK_NEVER;

	if (!e->is_away || e->is_over)
		return CLOCK_NEVER;
	if (is_waited_for(e))
		deadline_ns = e->has_said ? patience_ends_ns(e) : e->asked_ns;
	if (e->outage_s > 0 && outage_ends_ns(e) < deadline_ns)
		deadline_ns = outage_ends_ns(e);
	return deadline_ns;
}

enum ending_verb ending_of_name(const char *name)
{
	static const struct {
		const char *name;
		enum ending_verb verb;
	} names[] = {
		{ "reboot", ENDING_RESTART },
		{ "kexec", ENDING_RESTART },
		{ "poweroff", ENDING_POWER_OFF },
		{ "halt", ENDING_HALT },
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(names[i].name, name) == 0)
			return names[i].verb;
	return ENDING_NOT_ASKED;
}

static bool has_base_name(const char *path, const char *name)
{
	const char *slash = strrchr(path, '/');

	return strcmp(slash ? slash + 1 : path, name) == 0;
}

/* A copy of the words that ends with an empty one. */
struct words {
	char text[256];
};

static void copy_words(struct words *w, const char *cmdline, size_t size)
{
	if (size > sizeof(w->text) - 2)
		size = sizeof(w->text) - 2;
	memcpy(w->text, cmdline, size);
	memset(w->text + size, 0, 2);
}

enum ending_verb ending_of_shutdown_program(const char *cmdline, size_t size)
{
	struct words w;

	copy_words(&w, cmdline, size);
	if (!has_base_name(w.text, "shutdown"))
		return ENDING_NOT_ASKED;
	return ending_of_name(w.text + strlen(w.text) + 1);
}

enum ending_verb ending_of_shutdown(const char *cmdline, size_t size)
{
	enum ending_verb verb = ENDING_NOT_ASKED;
	bool is_now = false;
	struct words w;

	copy_words(&w, cmdline, size);
	if (!has_base_name(w.text, "shutdown"))
		return ENDING_NOT_ASKED;
	for (const char *p = w.text + strlen(w.text) + 1; *p; p += strlen(p) + 1) {
		is_now |= strcmp(p, "now") == 0 || strcmp(p, "+0") == 0;
		if (p[0] != '-')
			continue;
		if (strpbrk(p, "kc"))
			return ENDING_NOT_ASKED;
		if (strchr(p, 'H'))
			verb = ENDING_HALT;
		else if (strchr(p, 'r'))
			verb = ENDING_RESTART;
		else if (strpbrk(p, "hP") && verb == ENDING_NOT_ASKED)
			verb = ENDING_POWER_OFF;
	}
	return is_now ? verb : ENDING_NOT_ASKED;
}

enum ending_verb ending_of_utmp(const char *data, size_t size)
{
	/* utmp(5); records are longer on some machines, but begin alike everywhere. */
	enum { TYPE = 0, PID = 4, LINE = 8, ID = 40, HEAD = 44, RUN_LEVEL = 1 };

	for (size_t at = 0; at + HEAD <= size; at += 4) {
		uint16_t type;
		uint32_t pid;

		memcpy(&type, data + at + TYPE, sizeof(type));
		memcpy(&pid, data + at + PID, sizeof(pid));
		if (type != RUN_LEVEL || memcmp(data + at + LINE, "~", 2) != 0 ||
		    memcmp(data + at + ID, "~~\0", 4) != 0)
			continue;
		if ((pid & 0xff) == '0')
			return ENDING_POWER_OFF;
		return (pid & 0xff) == '6' ? ENDING_RESTART : ENDING_NOT_ASKED;
	}
	return ENDING_NOT_ASKED;
}

const char *ending_name(enum ending_verb verb)
{
	switch (verb) {
	case ENDING_NOT_ASKED: break;
	case ENDING_RESTART: return "restart";
	case ENDING_POWER_OFF: return "power off";
	case ENDING_HALT: return "halt";
	}
	return "nothing";
}
