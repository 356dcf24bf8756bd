/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's news of devices (NETLINK_KOBJECT_UEVENT): what appears while somebody waits, a USB
 * card or one behind a slow bus, and what a driver asks for.
 */
#ifndef INIT_UEVENT_H
#define INIT_UEVENT_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stddef.h>

enum { UEVENT_MAX = 8192 }; /* the kernel's are at most 2 KiB */

/* Into the message; NULL: it has none. */
struct uevent {
	const char *action, *devpath, *subsystem, *modalias, *firmware;
};

/* A descriptor that is readable when there is one; or negative errno. */
int uevent_listen(void) _must_check_;

/*
 * The next message from the kernel itself, in data (size: how much fits; UEVENT_MAX). True: one
 * was read, or was lost, and then all of *e is NULL.
 */
bool uevent_read(int fd, char *data, size_t size, struct uevent *e);

/* "add@/devices/..." and NAME=value texts, each ended by a NUL. False: it is none. */
bool uevent_parse(char *data, size_t size, struct uevent *e);

#endif
