/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The file systems that init itself needs, the console, and the tmpfs of what must outlive
 * switch_root. The first thing that runs: nothing may be taken for granted, and nothing here
 * can say more than the console understands.
 */
#ifndef INIT_MOUNTS_H
#define INIT_MOUNTS_H

#include "boot.h"

/* /dev, /proc, /sys, /run, the console on descriptors 0 to 2, the log to the kernel's. */
int mounts_early(struct boot *b) _must_check_;

/* BOOT_KEEP with nbdclient, busybox, the DHCP script, init as "shutdown". */
int mounts_keep(struct boot *b) _must_check_;

/* The kernel's log for writing, for children; opened by mounts_early. */
int mounts_kmsg_fd(void);

#endif
