/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Children of PID 1. SIGCHLD is blocked from the start (proc_setup) and waited for, so that
 * waiting has a time limit and orphans are reaped meanwhile. No shell is ever asked to parse
 * anything.
 */
#ifndef INIT_PROC_H
#define INIT_PROC_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* What the child gets; {0} is: init's own descriptors, root and session. */
struct proc_options {
	const char *root;     /* chroot there first */
	int stdout_fd;        /* 0: init's own */
	int stderr_fd;        /* 0: init's own */
	bool is_daemon;       /* a session of its own, nothing to read, stderr nowhere */
	const char *terminal; /* a session of its own on this terminal; falls back to the console */
};

/*
 * Blocks SIGCHLD, which whoever has started us may have ignored, and ignores SIGPIPE; children
 * start without either.
 */
void proc_setup(void);
/* Undoes it, before the real init is executed. */
void proc_restore(void);

/* Starts file with argv (argv[0] may differ from file). The pid, or negative errno. */
pid_t proc_spawn(const char *file, const char *const argv[],
		 const struct proc_options *o) _must_check_;

/*
 * Waits for pid until deadline_ns (CLOCK_NEVER: for ever), and reaps whoever else dies.
 * 0 with *status as of waitpid(2), or -ETIMEDOUT, or -ECHILD.
 */
int proc_wait(pid_t pid, uint64_t deadline_ns, int *status) _must_check_;

/* Sleeps, reaping. */
void proc_sleep_ms(unsigned int ms);

/* Whether pid, which nothing waits for, has ended since it was started. */
bool proc_has_ended(pid_t pid);

/* "exit status 1", "signal 11": into a static buffer, for messages. */
const char *proc_status_text(int status);

#endif
