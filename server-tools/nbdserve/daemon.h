/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Becoming a daemon whose parent ends when the daemon is ready, with its exit status. */
#ifndef NBDSERVE_DAEMON_H
#define NBDSERVE_DAEMON_H

/*
 * Returns the descriptor on which the child reports that it is ready; the parent waits for that
 * and never returns. Must come before any thread.
 */
int daemon_begin(void);

/* What daemon_end() needs and the sandbox would keep from it. */
struct daemon_log {
	int null, syslog; /* -1: not there */
};

void daemon_prepare(struct daemon_log *log);

/* Ready: the parent ends, stderr and the folder are let go; lines go to the system log. */
void daemon_end(int report, const struct daemon_log *log);

#endif
