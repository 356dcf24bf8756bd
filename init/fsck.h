/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nbdroot.fsck=: whether an ext2, ext3 or ext4 is checked before it is mounted, and by what: a
 * static e2fsck in the initramfs, if there is one. Replaying a journal is the kernel's business: a
 * file system that was merely not unmounted is not checked.
 */
#ifndef INIT_FSCK_H
#define INIT_FSCK_H

#include "boot.h"

/* What is to be done with one device. */
enum fsck_plan {
	FSCK_NOTHING,
	FSCK_PREEN, /* e2fsck -p */
	FSCK_FORCE, /* e2fsck -f -p */
};

/* Pure. */
struct blockfs_ext_state;
enum fsck_plan fsck_plan(enum cmdline_fsck wish, const struct blockfs_ext_state *state);

/* An exit status of e2fsck in words. can_go_on: what the kernel may mount. Pure. */
const char *fsck_verdict(int status, bool *can_go_on);

/* 0: the device may be mounted. Or LASTWORDS_FAILED: it has damage that a person must look at. */
int fsck_device(struct boot *b, const char *device) _must_check_;

#endif
