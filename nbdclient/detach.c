/* SPDX-License-Identifier: GPL-2.0-or-later */
/* nbdclient detach and resume, see attach.h. Never leaves written data behind unless forced to. */
#include "attach.h"

#include "base/clock.h"
#include "base/log.h"
#include "kernel.h"
#include "status.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

enum {
	FLUSH_WAIT_S = 10,
	DETACH_WAIT_S = 10,
};

enum flush_result { FLUSH_DONE, FLUSH_BUSY, FLUSH_FAILED, FLUSH_STUCK };

static void sleep_a_moment(void)
{
	const struct timespec moment = { .tv_nsec = 20 * 1000 * 1000 };

	nanosleep(&moment, NULL);
}

/*
 * Writes back what the page cache holds of the device and makes the server flush. In a child: with
 * the server away neither open(2) nor fsync(2) may return. O_EXCL fails while a file system is
 * mounted.
 */
static enum flush_result flush(int index)
{
	uint64_t deadline = clock_now_ns() + FLUSH_WAIT_S * CLOCK_NS_PER_S;
	pid_t child = fork();
	int status;

	if (child == 0) {
		char path[32];
		int fd;

		snprintf(path, sizeof(path), "/dev/nbd%d", index);
		fd = open(path, O_RDWR | O_EXCL | O_CLOEXEC);
		if (fd < 0 && (errno == EROFS || errno == EACCES))
			fd = open(path, O_RDONLY | O_EXCL | O_CLOEXEC);
		if (fd < 0)
			_exit(errno == EBUSY ? FLUSH_BUSY : FLUSH_FAILED);
		_exit(fsync(fd) < 0 ? FLUSH_FAILED : FLUSH_DONE);
	}
	if (child < 0)
		return FLUSH_FAILED;
	while (clock_now_ns() < deadline) {
		if (waitpid(child, &status, WNOHANG) == child)
			return WIFEXITED(status) ? (enum flush_result)WEXITSTATUS(status)
						 : FLUSH_FAILED;
		sleep_a_moment();
	}
	kill(child, SIGKILL);
	return FLUSH_STUCK;
}

static bool is_let_go(int index)
{
	struct status st;
	bool is_attended;

	return status_read(index, &st, &is_attended) < 0 || !is_attended;
}

/* is_busy: the kernel keeps a device that is mounted, until it is not; its resident goes before. */
static int wait_until_detached(int index, bool is_busy)
{
	uint64_t deadline = clock_now_ns() + DETACH_WAIT_S * CLOCK_NS_PER_S;

	while (kernel_is_attached(index)) {
		if (is_busy && is_let_go(index))
			return -ETIMEDOUT;
		if (clock_now_ns() >= deadline)
			return -ETIMEDOUT;
		sleep_a_moment();
	}
	return 0;
}

/* Asks the resident instance, whose lock on its page vouches for the pid. */
static int ask(const struct status *st, bool force)
{
	if (kill(st->pid, force ? SIGUSR2 : SIGUSR1) < 0)
		return -errno;
	return 0;
}

static int disconnect(int index)
{
	struct kernel k;
	int r = kernel_open(&k);

	if (r != 0)
		return r < 0 ? r : -ENODEV;
	r = kernel_disconnect(&k, index);
	kernel_close(&k);
	if (r == 0)
		status_remove(index);
	return r;
}

int detach_run(const struct options *o)
{
	struct status st;
	bool is_attended = false, is_busy = false;
	int r;

	if (!kernel_is_attached(o->index)) {
		log_error("/dev/nbd%d is not attached", o->index);
		return 1;
	}
	switch (flush(o->index)) {
	case FLUSH_DONE: break;
	case FLUSH_BUSY:
		is_busy = true;
		if (o->force)
			break;
		log_error("/dev/nbd%d is in use (unmount it first, or use --force and lose what "
			  "was not written)",
			  o->index);
		return 1;
	case FLUSH_STUCK:
		if (o->force)
			break;
		log_error("/dev/nbd%d does not answer: its server is away (wait for it, or use "
			  "--force and lose what was not written)",
			  o->index);
		return 1;
	case FLUSH_FAILED:
		if (o->force)
			break;
		log_error("/dev/nbd%d: what is written cannot be flushed (--force detaches "
			  "nevertheless)",
			  o->index);
		return 1;
	}

	if (status_read(o->index, &st, &is_attended) == 0 && is_attended)
		r = ask(&st, o->force);
	else
		r = disconnect(o->index);
	if (r == 0)
		r = wait_until_detached(o->index, is_busy);
	if (r == -ETIMEDOUT && o->force) {
		log_warn("/dev/nbd%d: disconnected; it goes away when its last user closes it",
			 o->index);
		return 0;
	}
	if (r < 0) {
		log_error("/dev/nbd%d: cannot detach: %s%s", o->index, strerror(-r),
			  r == -ETIMEDOUT && !o->force ? " (use --force)" : "");
		return 1;
	}
	return 0;
}

int resume_run(const struct options *o)
{
	struct status st;
	bool is_attended = false;

	if (status_read(o->index, &st, &is_attended) < 0 || !is_attended) {
		log_error("/dev/nbd%d is not attached, or nobody looks after it (nbdclient status "
			  "tells more)",
			  o->index);
		return 1;
	}
	if (st.state != SESSION_HELD) {
		log_error("/dev/nbd%d is not held, it is %s (there is nothing to resume)", o->index,
			  session_state_name(st.state));
		return 1;
	}
	if (kill(st.pid, SIGRTMIN) < 0) {
		log_error("/dev/nbd%d: cannot tell nbdclient, process %d: %s", o->index,
			  (int)st.pid, strerror(errno));
		return 1;
	}
	return 0;
}
