/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One kernel's modules for an initramfs: chosen with their dependencies (modules.h), unpacked,
 * with the indexes that libkmod reads, which depmod makes anew for just these modules. Nothing is
 * stripped from a module: that would break its signature.
 */
#ifndef NBDROOT_KERNEL_TREE_H
#define NBDROOT_KERNEL_TREE_H

#include "pack.h"

struct kernel_summary {
	char *version;
	char *skipped; /* "e1000 (built in), r8169 (not in this tree)", or NULL */
	size_t modules;
	size_t size_bytes; /* of the modules, unpacked */
};

void kernel_summary_deinit(struct kernel_summary *s);

/* The version that a tree's path ends in, a malloced string, or NULL with errno. */
char *kernel_version(const char *path);

/*
 * Adds the modules of the tree at path (DIR/lib/modules/VERSION). drivers is the list of
 * --drivers, its elements separated by commas. 0 or negative errno, already reported.
 */
int kernel_add(struct pack *p, const char *path, const char *drivers,
	       struct kernel_summary *s) _must_check_;

#endif
