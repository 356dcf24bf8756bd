/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ctrl-C and kill: long work asks interrupt_pending() now and then and takes its ordinary way
 * out, which removes what is half done; main() then dies of the signal, as the caller expects.
 * Nothing is done in the handler itself.
 */
#ifndef NBDROOT_INTERRUPT_H
#define NBDROOT_INTERRUPT_H

/* From now on SIGINT, SIGTERM and SIGHUP are remembered instead of fatal. */
void interrupt_install(void);

/* The signal that came, or 0. */
int interrupt_pending(void);

/* Dies of the signal that came; returns when none did. */
void interrupt_die_if_pending(void);

#endif
