/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mounting an NFS root, by mount(2) and the kernel's own options, without a program to help. A
 * server that is not there is waited for, in words; one that refuses gets last words. Whatever may
 * hang, and mount(2) can for minutes, is done by a child.
 */
#ifndef INIT_NFS_H
#define INIT_NFS_H

#include "boot.h"

/* b->root on where. flags: of mount(2), unless the root's options say otherwise. */
int nfs_mount_root(struct boot *b, const char *where, unsigned long flags) _must_check_;

#endif
