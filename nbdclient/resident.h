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
 * What its children have, too: exempt from the OOM killer, marked as an I/O flusher, argv0
 * beginning with '@'. What cannot be had is warned of.
 */
void resident_mark(char *argv0);

/*
 * Makes this process resident: locked in memory, working directory "/". Locks do not pass fork(2):
 * call it after the last one. 0 or negative errno.
 */
int resident_lock(void) _must_check_;

/* Lets go of the standard descriptors; what is logged goes to the kernel log, on kmsg_fd. */
void resident_detach_stdio(int kmsg_fd);

#endif
