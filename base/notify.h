/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a service manager is told, and the sockets that it may have opened for us: the protocols
 * of sd_notify(3) and sd_listen_fds(3). Both are a few lines over a datagram socket and over
 * three environment variables, and both are documented as stable, so this is them, instead of a
 * library that brings compression and message buses into a process that must stay small.
 *
 * Without a service manager everything here does nothing.
 */
#ifndef BASE_NOTIFY_H
#define BASE_NOTIFY_H

#include "cleanup.h"

#include <stddef.h>
#include <stdint.h>

enum { NOTIFY_FDS_MAX = 128 };

/*
 * Reads the environment and takes what is ours out of it, so that no child believes it is meant:
 * once, before any thread and before notify_listen_fds(). 0, or negative errno when there is a
 * service manager but it cannot be reached; the caller may go on.
 */
int notify_init(void) _must_check_;

/*
 * Each waits for a manager that is busy, but no longer than a second; then the message is lost.
 * A status is one line of words for people.
 */
void notify_ready(const char *status);
void notify_reloading(void); /* followed by notify_ready() when it is done */
void notify_stopping(const char *status);
void notify_status(const char *status);
void notify_watchdog(void); /* nothing, when nobody watches */

/* How often to call notify_watchdog(), half of what the manager waits; 0: not at all. */
uint64_t notify_watchdog_ns(void);

/* The sockets that the manager opened: *fds is the first of how many there are, in a row. */
size_t notify_listen_fds(int *first);

/* The name of the i-th of them (FileDescriptorName= of the socket unit), "" if it has none. */
const char *notify_listen_name(size_t i);

void notify_deinit(void);

#endif
