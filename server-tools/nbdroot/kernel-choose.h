/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which modules of a kernel an initramfs takes: what every client needs (a network block device,
 * file systems, NFS), and the network drivers of --drivers. Marks them in k->modules, and notes in
 * k->skipped what was asked for and is not there.
 */
#ifndef NBDROOT_KERNEL_CHOOSE_H
#define NBDROOT_KERNEL_CHOOSE_H

#include "kernel-tree.h"

/* 0 or negative errno, already reported. */
int kernel_choose(struct kernel *k, const char *drivers) _must_check_;

#endif
