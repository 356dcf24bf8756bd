/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The programs of an initramfs, for the machines that it is to boot: which of the builds, where
 * they are, and a static e2fsck from elsewhere.
 */
#ifndef NBDROOT_PROGRAMS_H
#define NBDROOT_PROGRAMS_H

#include "elf.h"
#include "kernel-tree.h"

#include <limits.h>

struct programs {
	enum elf_machine machine;
	char folder[PATH_MAX];  /* with init, nbdclient, busybox for that machine */
	char scripts[PATH_MAX]; /* with udhcpc.script, and a busybox that this machine runs */
};

/*
 * Chooses: wanted (of --arch, or ELF_NONE), else 32-bit when one of the kernels is, else what this
 * machine is. given: --program-dir or NULL. 0 or negative errno, already reported.
 */
int programs_find(struct programs *g, enum elf_machine wanted, const char *given,
		  const struct kernel *kernels, size_t n_kernels) _must_check_;

/* Adds a static e2fsck; path may be "auto". 0 or negative errno, already reported. */
int programs_add_fsck(const struct programs *g, struct pack *p, const char *path) _must_check_;

#endif
