/* SPDX-License-Identifier: GPL-2.0-or-later */
/* For guest.c: which system calls a process makes. */
#ifndef TESTS_SYSTEM_GUEST_TRACE_H
#define TESTS_SYSTEM_GUEST_TRACE_H

/* Never returns unless it cannot trace; to be ended by a signal. An exit status. */
int guest_trace(const char *pid, const char *path);

#endif
