/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `nbdroot initramfs`: its options. What goes into the archive is in pack.h and kernel-tree.h. */
#ifndef NBDROOT_INITRAMFS_H
#define NBDROOT_INITRAMFS_H

/* argv[0] is "initramfs". Returns an exit status. */
int initramfs_main(int argc, char *argv[]);

#endif
