/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine's way down while the server is away: finds out that a shutdown was asked for, and
 * does what ending.h decides. All that it reads is opened before the device is attached, for the
 * root may be gone; afterwards no file that is not in memory is touched.
 *
 * How it learns of a request, without PID 1's help:
 *
 * - /run/nbdclient/down: a name that disappears there (reboot, poweroff, halt, kexec) is a request;
 *   systemd removes its sockets itself when it begins to stop.
 * - /run/utmp: sysvinit writes its run level there before it does anything.
 * - /proc: a shutdown(8) of sysvinit that sleeps in sync(2), before it tells init; and the name of
 *   process 1, if that is past the point of no return.
 * - Ctrl-Alt-Del: while the server is away, the kernel sends it to us and not to process 1.
 * - SIGTERM of process 1, and of nobody else: killall5 or a person must not end the machine. Not of
 *   systemd, which sends it for `systemctl kill` only.
 */
#ifndef NBDCLIENT_WAY_DOWN_H
#define NBDCLIENT_WAY_DOWN_H

#include "ending.h"

#include <sys/signalfd.h>

struct client;

struct way_down {
	struct ending ending;
	int watch_fd;  /* inotify on /run/nbdclient/down; poll it for reading; -1: none */
	int keys_fd;   /* /proc/sys/kernel/cad_pid, to whom Ctrl-Alt-Del goes; -1: not to us */
	int memory_fd; /* /proc/meminfo */
	bool has_keys;
	uint64_t next_look_ns; /* at init and keys, while the server is away */
};

/* Opens what is needed; what is not there is done without. */
void way_down_open(struct way_down *w, enum ending_role role, unsigned outage_s);

/*
 * Lists this process and its helper (0: none) among those that sysvinit's scripts do not kill.
 * Forks must be over.
 */
void way_down_spare(pid_t helper);

/* At the end of the process: takes that back, and gives the keys back. */
void way_down_close(struct client *c);

/* True if the signal was a request, or the keys. */
bool way_down_on_signal(struct client *c, const struct signalfd_siginfo *si);
void way_down_on_watch(struct client *c);

/* Does what is due. */
void way_down_look(struct client *c, uint64_t now_ns);
uint64_t way_down_deadline(const struct client *c);

#endif
