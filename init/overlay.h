/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A root that is read-only (BOOT_LOWER), and writable all the same: what is written goes to memory,
 * or to this machine's own device (BOOT_UPPER). Nothing is written to the lower half.
 */
#ifndef INIT_OVERLAY_H
#define INIT_OVERLAY_H

#include "boot.h"

/*
 * Mounts both on where. BOOT_LOWER has to be mounted; upper: the device that is to take the writes,
 * already mounted on BOOT_UPPER, or NULL for memory. 0 or LASTWORDS_FAILED.
 */
int overlay_mount(struct boot *b, const struct boot_device *upper, const char *where) _must_check_;

#endif
