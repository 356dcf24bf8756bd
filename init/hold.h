/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * "nbdroot-hold", a process that keeps in memory what it takes to ask a machine to shut down:
 * PID 1's program and libraries, systemctl or shutdown, and the names that lead to them. Otherwise
 * a command like "reboot", typed while the server is away, sleeps in its first page fault, and
 * nobody ever hears of it. Some 20 MB with systemd, 4 MB with sysvinit; never more than a
 * sixteenth of the memory.
 *
 * It dies with the others at a shutdown (no '@' in its name): by then it has done its work, and
 * files that it holds and that an upgrade has deleted would keep the root from becoming read-only.
 */
#ifndef INIT_HOLD_H
#define INIT_HOLD_H

#define HOLD_NAME "nbdroot-hold"

/* Starts it, in the root that is / now. A failure is said, and nothing else. */
void hold_start(void);

/* The process itself. */
_Noreturn void hold_run(void);

#endif
