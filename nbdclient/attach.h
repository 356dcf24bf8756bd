/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nbdclient attach: everything before the loop of client.h. Finds the device, or one that an
 * earlier instance left attached; resolves names; goes to the background and becomes resident.
 * Up to the first attach it may give up with a message; after it, it does not.
 */
#ifndef NBDCLIENT_ATTACH_H
#define NBDCLIENT_ATTACH_H

#include "options.h"

/* Returns the program's exit status. argv0 is renamed, see resident.h. */
int attach_run(const struct options *o, char *argv0);

/* nbdclient detach: asks the resident instance, or does it itself without one. Exit status. */
int detach_run(const struct options *o);

/* nbdclient resume: has it go on with what it holds back. Exit status. */
int resume_run(const struct options *o);

#endif
