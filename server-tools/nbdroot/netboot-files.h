/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The files that a netboot tree takes from elsewhere: boot programs from where Debian's packages
 * have them, kernels and initramfs archives from where the configuration says. Each is looked at:
 * what is no kernel is refused here and not by a machine in another room.
 */
#ifndef NBDROOT_NETBOOT_FILES_H
#define NBDROOT_NETBOOT_FILES_H

#include "netboot-text.h"
#include "netboot-tree.h"

/* The boot programs that the plan needs; sets has_ia32. 0 or negative errno, already reported. */
int netboot_add_programs(struct netboot_plan *p, struct netboot_tree *t) _must_check_;

/* Kernels and initramfs archives; fills images. 0 or negative errno, already reported. */
int netboot_add_images(struct netboot_plan *p, struct netboot_tree *t) _must_check_;

#endif
