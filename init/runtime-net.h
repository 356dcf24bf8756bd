/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tells the network managers of the new root, before it starts, to leave the boot card alone: by
 * files in /run, which is the new root's later, and by nothing in the root itself.
 */
#ifndef INIT_RUNTIME_NET_H
#define INIT_RUNTIME_NET_H

#include "boot.h"

/* A file that cannot be written is a warning: @nbdroot-net gives back what a manager takes. */
void runtime_net_write(const struct boot *b);

#endif
