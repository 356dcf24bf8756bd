/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a systemd in the root is told of nbdroot, in /run and never in the root itself: sockets
 * that nobody connects to, one for each way of ending the machine. They conflict with the target
 * of the same name: when that is asked for, PID 1 closes them first of all, and removes their
 * names, without starting a program, which could not be read from a root that is away. nbdclient
 * watches the names (nbdclient(8), --on-shutdown). And since they refer to those targets, systemd
 * has read them, and what they need, when the machine came up.
 */
#ifndef INIT_RUNTIME_UNITS_H
#define INIT_RUNTIME_UNITS_H

/*
 * real_init: the root's init, symlinks resolved. Nothing is written for one that is not systemd:
 * /run/systemd/system is how others tell that systemd runs the machine.
 */
void runtime_units_write(const char *real_init);

#endif
