/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the commands of the test guest's program share. */
#ifndef TESTS_SYSTEM_GUEST_H
#define TESTS_SYSTEM_GUEST_H

/* Seconds of CLOCK_REALTIME, which guest and host share. */
double now(void);

/* Says what failed and why (errno), and ends the program. */
_Noreturn void die(const char *what);

#endif
