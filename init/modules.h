/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Kernel modules: coldplug by modalias and loading by name, with dependencies and softdeps.
 * The only file that includes libkmod.h. What the initramfs does not carry is not loaded and
 * not missed here: whoever needs a thing checks that it is there.
 */
#ifndef INIT_MODULES_H
#define INIT_MODULES_H

#include "boot.h"

enum {
	MODULES_E_ABSENT = 1, /* this initramfs has no such module, or no tree for this kernel */
};

/* Loads what the devices of all buses ask for, until no new one appears. Cheap to repeat. */
void modules_coldplug(void);

/* By name or alias; options as for modprobe, or NULL. 0, MODULES_E_ABSENT, negative errno. */
int modules_load(const char *name, const char *options) _must_check_;

/* Whether the running kernel can mount this file system, after an attempt to load it. */
bool modules_have_filesystem(const char *fstype);

/* The step: the tree of the running kernel, coldplug, the nbd driver, file systems. */
int modules_up(struct boot *b) _must_check_;

#endif
