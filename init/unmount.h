/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The end of the file systems that hang on the network: on block devices, NFS, and the root's
 * overlay. Whatever may touch one is done by a child with a time limit: an umount whose server is
 * away sleeps uninterruptibly, and nothing wakes it.
 */
#ifndef INIT_UNMOUNT_H
#define INIT_UNMOUNT_H

#include <stdbool.h>
#include <stdint.h>

/* Called first: the time limits count from here. is_init: nobody else lives on these mounts. */
void unmount_begin(bool is_init);

/* The earlier of two moments: so long after unmount_begin(), so long after now. */
uint64_t unmount_deadline(unsigned int from_start_s, unsigned int from_now_s);

/* sync(2); false when it takes too long. */
bool unmount_sync(void);

/*
 * True when everything is written. *in_use: some of it is still mounted, read-only.
 */
bool unmount_all(bool *in_use);

#endif
