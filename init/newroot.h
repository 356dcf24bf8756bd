/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The real root: mounted, looked at, filled with the extra mounts, and entered. Paths in the
 * root are resolved inside of it, by a child that has it as its root directory. Refuses to
 * enter a root without an init.
 */
#ifndef INIT_NEWROOT_H
#define INIT_NEWROOT_H

#include "boot.h"

/* The step: /newroot with everything mounted below, and b->real_init found. */
int newroot_mount(struct boot *b) _must_check_;

/* The step: switch_root and exec. Returns only when it failed. */
int newroot_exec(struct boot *b) _must_check_;

#endif
