/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a daemon that carries the root file system must do to outlive everything else: no page
 * that may have to be read from that root, no signal that ends it by the way, no death for want
 * of memory. See systemd's ROOT_STORAGE_DAEMONS and docs/reconnect.md.
 */
#ifndef NBDCLIENT_RESIDENT_H
#define NBDCLIENT_RESIDENT_H

#include "base/cleanup.h"

/*
 * Makes this process resident: locked in memory, exempt from the OOM killer, marked as an I/O
 * flusher, argv0 beginning with '@', working directory "/". Locks do not pass fork(2): call it
 * after the last one. What cannot be had is warned of, not fatal, except the lock in memory:
 * negative errno then.
 */
int resident_prepare(char *argv0) _must_check_;

/* Lets go of the standard descriptors; what is logged goes to the kernel log, on kmsg_fd. */
void resident_detach_stdio(int kmsg_fd);

#endif
