/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See guard.h. */
#include "guard.h"

#include "base/clock.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

enum { STACK = 16 * 1024 };

static int timer_fd = -1;
static atomic_int guarded_fd = -1;
static atomic_bool was_cut;

static void set_timer(unsigned ms)
{
	const struct timespec in = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };
	/* And again after the same time: a sender may have got hold of the socket since. */
	const struct itimerspec spec = { .it_value = in, .it_interval = in };

	(void)timerfd_settime(timer_fd, 0, &spec, NULL);
}

static void *watch(void *arg)
{
	uint64_t count;

	(void)arg;
	while (read(timer_fd, &count, sizeof(count)) == sizeof(count)) {
		int fd = atomic_load(&guarded_fd);

		if (fd >= 0) {
			atomic_store(&was_cut, true);
			(void)shutdown(fd, SHUT_RDWR);
		}
	}
	return NULL;
}

int guard_start(void)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all, before;
	int r;

	timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	if (timer_fd < 0)
		return -errno;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the main thread's */
	pthread_attr_init(&attr);
	(void)pthread_attr_setstacksize(&attr, STACK);
	r = pthread_create(&thread, &attr, watch, NULL);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -r;
}

void guard_begin(int fd)
{
	atomic_store(&was_cut, false);
	atomic_store(&guarded_fd, fd);
	set_timer(GUARD_PATIENCE_MS);
}

bool guard_end(void)
{
	set_timer(0);
	atomic_store(&guarded_fd, -1);
	return atomic_load(&was_cut);
}
