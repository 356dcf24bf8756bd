/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From what the command line says of the root, and what DHCP says, to one root: with a server, a
 * path or a URI, and no placeholders. What nobody has said is taken from where the kernel and
 * dracut take it, and said.
 */
#ifndef INIT_ROOT_FIND_H
#define INIT_ROOT_FIND_H

#include "values.h"

/* Fills b->root and b->root_name; not the first time, DHCP is asked anew. 0 or LASTWORDS_FAILED. */
int root_find(struct boot *b, const struct values *values) _must_check_;

#endif
