/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Kernel modules: coldplug by modalias, news of devices that appear later, and loading by name,
 * with dependencies and softdeps. The only file that includes libkmod.h. What the initramfs does
 * not carry is not loaded and not missed here: whoever needs a thing checks that it is there.
 *
 * A boot waits for its network first: the step loads what network cards ask for, and a child loads
 * all else meanwhile.
 */
#ifndef INIT_MODULES_H
#define INIT_MODULES_H

#include "boot.h"

enum {
	MODULES_E_ABSENT = 1, /* this initramfs has no such module, or no tree for this kernel */
};

/* By name or alias; options as for modprobe, or NULL. 0, MODULES_E_ABSENT, negative errno. */
int modules_load(const char *name, const char *options) _must_check_;

/* Whether the running kernel can mount this file system, after an attempt to load it. */
bool modules_have_filesystem(const char *fstype);

/* The step: the tree of the running kernel, network cards, the rest in the background. */
int modules_up(struct boot *b) _must_check_;

/* A descriptor that is readable when a device has appeared; -1: there is none. */
int modules_uevent_fd(void);

/* Has a child load what the devices ask for that have appeared since. Does not wait. */
void modules_on_uevents(void);

/* Waits for the nbd driver from the background. 0, or LASTWORDS_FAILED. */
int modules_wait_for_nbd(struct boot *b) _must_check_;

#endif
