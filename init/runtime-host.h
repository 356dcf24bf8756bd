/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the boot knows of this machine, for the new root to find in /run: who it is (machine id),
 * its name servers and its time servers. Nothing is written to the root: where a program looks in
 * /etc alone, a file of /run is mounted over an empty one there.
 */
#ifndef INIT_RUNTIME_HOST_H
#define INIT_RUNTIME_HOST_H

#include "boot.h"

/* A file of /run; one that cannot be written is a warning, with what that means. */
void runtime_write_file(const char *path, const char *text, const char *consequence);

/* Before /run is moved into the root. What fails is a warning. */
void runtime_host_write(struct boot *b);

#endif
