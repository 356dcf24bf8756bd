/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Does the device answer? Only a read of it can tell, and a read may not return for as long as
 * the server is away; nor may a write to a file of its queue. So it is another process that does
 * both, started once, before anything is attached, and asked over a socket. It holds none of our
 * descriptors: stuck, it is in nobody's way, and it ends when we do.
 */
#ifndef NBDCLIENT_PROBE_H
#define NBDCLIENT_PROBE_H

#include "identity.h"

#include <sys/types.h>

struct probe {
	int fd; /* poll it for reading; -1: there is no process to ask */
	pid_t pid;
	bool is_busy; /* with a read */
};

/* Forks. 0 or negative errno; p is as if probe_answer() had failed then. */
int probe_start(struct probe *p) _must_check_;
void probe_end(struct probe *p);

/* Has the device's first bytes read, past every cache. A read that is under way is used. */
void probe_ask(struct probe *p, int index);

/*
 * Has queue/io_timeout written, in milliseconds, some time. Since Linux 6.12 that waits for all
 * requests of the device, and they may wait for a socket.
 */
void probe_set_timer(struct probe *p, int index, unsigned ms);

/*
 * 1: it answers, and head is what it has; 0: not yet; negative errno: it was read in vain, or
 * cannot be.
 */
int probe_answer(struct probe *p, uint8_t head[static IDENTITY_HEAD_SIZE]) _must_check_;

/* Asks and waits for at most wait_ms; the same results. */
int probe_wait(struct probe *p, int index, int wait_ms,
	       uint8_t head[static IDENTITY_HEAD_SIZE]) _must_check_;

#endif
