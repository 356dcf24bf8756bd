/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See lease.h. */
#include "lease.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <sys/socket.h>

void lease_init(struct lease *l)
{
	pthread_condattr_t attr;

	*l = (struct lease){ 0 };
	pthread_mutex_init(&l->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&l->changed, &attr);
	pthread_condattr_destroy(&attr);
}

void lease_deinit(struct lease *l)
{
	pthread_cond_destroy(&l->changed);
	pthread_mutex_destroy(&l->lock);
}

static void wait_a_moment(struct lease *l)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	ts.tv_nsec += 100 * 1000 * 1000;
	if (ts.tv_nsec >= 1000 * 1000 * 1000) {
		ts.tv_nsec -= 1000 * 1000 * 1000;
		ts.tv_sec++;
	}
	pthread_cond_timedwait(&l->changed, &l->lock, &ts);
}

static int wait_for_end(struct lease *l, struct lease_user *user, uint64_t timeout_ns,
			const atomic_bool *cancel)
{
	while (l->holder) {
		if (l->waiter != user)
			return LEASE_E_SUPERSEDED;
		if (atomic_load(cancel))
			return LEASE_E_CANCELLED;
		if (clock_now_ns() - user->since_ns >= timeout_ns)
			return LEASE_E_TIMEOUT;
		wait_a_moment(l);
	}
	return l->waiter == user ? 0 : LEASE_E_SUPERSEDED;
}

int lease_take(struct lease *l, struct lease_user *user, uint64_t timeout_ns,
	       const atomic_bool *cancel, char *text, size_t text_size)
{
	struct lease_user *present;
	int r = 0;

	pthread_mutex_lock(&l->lock);
	user->since_ns = clock_now_ns();
	present = l->waiter ? l->waiter : l->holder;
	if (present && !address_is_same(&present->peer->address, &user->peer->address)) {
		snprintf(text, text_size, "%s since %llu s", present->peer->text,
			 (unsigned long long)((user->since_ns - present->since_ns) /
					      CLOCK_NS_PER_S));
		pthread_mutex_unlock(&l->lock);
		return LEASE_E_IN_USE;
	}
	l->waiter = user;
	if (l->holder) {
		atomic_store(&l->holder->is_cut, true);
		shutdown(l->holder->fd, SHUT_RDWR);
	}
	if (present)
		pthread_cond_broadcast(&l->changed);
	r = wait_for_end(l, user, timeout_ns, cancel);
	if (l->waiter == user)
		l->waiter = NULL;
	if (r == 0) {
		l->holder = user;
		user->since_ns = clock_now_ns();
	}
	pthread_mutex_unlock(&l->lock);
	return r;
}

void lease_give_back(struct lease *l, struct lease_user *user)
{
	pthread_mutex_lock(&l->lock);
	if (l->holder == user)
		l->holder = NULL;
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->lock);
}
