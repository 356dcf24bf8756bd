/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See lease.h. */
#include "lease.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

void lease_init(struct lease *l)
{
	*l = (struct lease){
		.holders = TAILQ_HEAD_INITIALIZER(l->holders),
		.waiters = TAILQ_HEAD_INITIALIZER(l->waiters),
	};
	pthread_mutex_init(&l->lock, NULL);
}

void lease_deinit(struct lease *l)
{
	pthread_mutex_destroy(&l->lock);
}

static bool is_same_session(const struct lease_user *a, const struct lease_user *b)
{
	return a->session && b->session &&
	       memcmp(a->session->id, b->session->id, sizeof(a->session->id)) == 0;
}

static bool is_same_client(const struct lease_user *a, const struct lease_user *b)
{
	/* Who says who he is never is one who does not: another program on the same machine, or
	 * behind the same address translator, must not take his root away. */
	if (!a->session || !b->session)
		return !a->session && !b->session &&
		       address_is_same(&a->peer->address, &b->peer->address);
	if (is_same_session(a, b))
		return true;
	/* A machine has one session at a time: a new one means that it was started anew. */
	return a->session->machine[0] != '\0' &&
	       strcmp(a->session->machine, b->session->machine) == 0;
}

/* Whether two connections of one client may not hold the export at the same time. */
static bool is_rival(const struct lease_user *a, const struct lease_user *b)
{
	return !is_same_session(a, b) || a->session->generation != b->session->generation ||
	       a->session->slot == b->session->slot;
}

static void name_of(const struct lease_user *u, char text[static LEASE_TEXT_MAX])
{
	if (u->session && u->session->host[0] != '\0')
		snprintf(text, LEASE_TEXT_MAX, "%s (%.80s, %.64s)", u->peer->text, u->session->host,
			 u->session->machine);
	else if (u->session)
		snprintf(text, LEASE_TEXT_MAX, "%s (%.64s)", u->peer->text, u->session->machine);
	else
		snprintf(text, LEASE_TEXT_MAX, "%s", u->peer->text);
}

static void describe(const struct lease_user *u, char text[static LEASE_TEXT_MAX])
{
	char name[LEASE_TEXT_MAX];

	name_of(u, name);
	snprintf(text, LEASE_TEXT_MAX, "%.220s since %llu s", name,
		 (unsigned long long)((clock_now_ns() - u->since_ns) / CLOCK_NS_PER_S));
}

static const struct lease_user *find_stranger(const struct lease *l, const struct lease_user *user)
{
	const struct lease_user *u;

	TAILQ_FOREACH (u, &l->holders, link)
		if (!is_same_client(u, user))
			return u;
	TAILQ_FOREACH (u, &l->waiters, link)
		if (!is_same_client(u, user))
			return u;
	return NULL;
}

void lease_user_cut(struct lease_user *u, const char *reason)
{
	if (atomic_exchange(&u->is_cut, true))
		return;
	u->cut_reason = reason; /* the loop reads it when the task has run */
	shutdown(u->fd, SHUT_RDWR);
	loop_post(u->loop, &u->cut);
}

/* Returns whether any of the holders is in the user's way, having cut off those who are. */
static bool cut_rivals(struct lease *l, const struct lease_user *user)
{
	bool has_any = false;
	struct lease_user *u;

	TAILQ_FOREACH (u, &l->holders, link)
		if (is_rival(u, user)) {
			lease_user_cut(u, "a newer connection of the same client takes over");
			has_any = true;
		}
	return has_any;
}

static void answer(struct lease *l, struct lease_user *u, int result)
{
	TAILQ_REMOVE(&l->waiters, u, link);
	u->result = result;
	if (result == 0) {
		u->since_ns = clock_now_ns();
		TAILQ_INSERT_TAIL(&l->holders, u, link);
	}
	loop_post(u->loop, &u->answered);
}

static void supersede(struct lease *l, const struct lease_user *user)
{
	struct lease_user *u, *next;

	for (u = TAILQ_FIRST(&l->waiters); u; u = next) {
		next = TAILQ_NEXT(u, link);
		if (is_rival(u, user))
			answer(l, u, LEASE_E_SUPERSEDED);
	}
}

static bool is_id(const uint8_t *id, const struct lease_user *user)
{
	return memcmp(id, user->session->id, NBD_SESSION_ID_SIZE) == 0;
}

/*
 * An older generation than the newest one seen of the session, or a session that another one of
 * the same machine has replaced: two machines with one name would take it by turns else.
 */
static bool is_stale(const struct lease *l, const struct lease_user *user)
{
	if (!user->session)
		return false;
	for (unsigned i = 0; i < LEASE_REPLACED_MAX; i++)
		if (is_id(l->replaced[i], user))
			return true;
	return is_id(l->session_id, user) && user->session->generation < l->generation;
}

static void remember(struct lease *l, const struct lease_user *user)
{
	if (!user->session)
		return;
	if (!is_id(l->session_id, user) && strcmp(l->machine, user->session->machine) == 0) {
		memmove(l->replaced[1], l->replaced[0],
			sizeof(l->replaced) - sizeof(l->replaced[0]));
		memcpy(l->replaced[0], l->session_id, NBD_SESSION_ID_SIZE);
	}
	memcpy(l->session_id, user->session->id, NBD_SESSION_ID_SIZE);
	memcpy(l->machine, user->session->machine, sizeof(l->machine));
	l->generation = user->session->generation;
}

/* Whether the user may have it, now or after a wait: 0 or LEASE_E_*. With the lock held. */
static int judge(const struct lease *l, const struct lease_user *user,
		 char text[static LEASE_TEXT_MAX])
{
	const struct lease_user *stranger = find_stranger(l, user);

	if (stranger) {
		describe(stranger, text);
		return LEASE_E_IN_USE;
	}
	return is_stale(l, user) ? LEASE_E_STALE : 0;
}

int lease_ask(struct lease *l, struct lease_user *user, char text[static LEASE_TEXT_MAX])
{
	int r;

	pthread_mutex_lock(&l->lock);
	user->since_ns = clock_now_ns();
	r = judge(l, user, text);
	if (r == 0) {
		remember(l, user);
		supersede(l, user);
		if (cut_rivals(l, user)) {
			TAILQ_INSERT_TAIL(&l->waiters, user, link);
			l->takeovers++;
			r = LEASE_WAIT;
		} else {
			TAILQ_INSERT_TAIL(&l->holders, user, link);
		}
	}
	pthread_mutex_unlock(&l->lock);
	return r;
}

static bool is_in(const struct lease_users *list, const struct lease_user *user)
{
	const struct lease_user *u;

	TAILQ_FOREACH (u, list, link)
		if (u == user)
			return true;
	return false;
}

bool lease_stop_waiting(struct lease *l, struct lease_user *user)
{
	bool is_waiting;

	pthread_mutex_lock(&l->lock);
	is_waiting = is_in(&l->waiters, user);
	if (is_waiting)
		TAILQ_REMOVE(&l->waiters, user, link);
	pthread_mutex_unlock(&l->lock);
	return is_waiting;
}

void lease_give_back(struct lease *l, struct lease_user *user)
{
	struct lease_user *u, *next;

	pthread_mutex_lock(&l->lock);
	TAILQ_REMOVE(&l->holders, user, link);
	for (u = TAILQ_FIRST(&l->waiters); u; u = next) {
		next = TAILQ_NEXT(u, link);
		if (!cut_rivals(l, u))
			answer(l, u, 0);
	}
	pthread_mutex_unlock(&l->lock);
}

int lease_look(struct lease *l, const struct lease_user *user, char text[static LEASE_TEXT_MAX])
{
	int r;

	pthread_mutex_lock(&l->lock);
	r = judge(l, user, text);
	pthread_mutex_unlock(&l->lock);
	return r;
}

uint64_t lease_takeovers(struct lease *l)
{
	uint64_t n;

	pthread_mutex_lock(&l->lock);
	n = l->takeovers;
	pthread_mutex_unlock(&l->lock);
	return n;
}

void lease_holder(struct lease *l, char text[static LEASE_TEXT_MAX])
{
	text[0] = '\0';
	pthread_mutex_lock(&l->lock);
	if (!TAILQ_EMPTY(&l->holders))
		name_of(TAILQ_FIRST(&l->holders), text);
	pthread_mutex_unlock(&l->lock);
}
