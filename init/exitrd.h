/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The way out: /run/initramfs/shutdown, which systemd-shutdown makes its root and executes as
 * PID 1 when only the root itself is still mounted. Unmounts what lies on network block
 * devices, detaches them, and ends the machine within a minute whatever happens: with the
 * server away, file systems cannot be written, and the words say so.
 */
#ifndef INIT_EXITRD_H
#define INIT_EXITRD_H

#include <stdbool.h>

/* verb: poweroff, reboot, halt or kexec, as systemd-shutdown says it. */
_Noreturn void exitrd_run(const char *verb);
bool exitrd_knows(const char *verb);

#endif
