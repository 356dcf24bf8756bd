/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A command to the driver can hang for as long as a sender is stuck on the device's socket with
 * the driver's lock held, and it is not interrupted by signals then. What frees it is shutdown(2)
 * on our copy of that socket: a thread that does nothing else does that when a command takes too
 * long.
 */
#ifndef NBDCLIENT_GUARD_H
#define NBDCLIENT_GUARD_H

#include "base/cleanup.h"

#include <stdbool.h>

enum { GUARD_PATIENCE_MS = 2000 };

/* Starts the thread; before the process is made resident. 0 or negative errno. */
int guard_start(void) _must_check_;

/* From now on, after GUARD_PATIENCE_MS, fd is shut down. -1: nothing is there to shut down. */
void guard_begin(int fd);

/* The command has returned. Whether its socket had to be shut down. */
bool guard_end(void);

#endif
