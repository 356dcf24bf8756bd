/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A file that appears whole or not at all: written beside its place as PATH.XXXXXX, synced, then
 * renamed. Without force it never replaces a file, not even one that appeared meanwhile; with
 * force it replaces a regular file that nobody has locked, and nothing else. Every function
 * says on stderr what failed: callers just give up.
 */
#ifndef NBDROOT_OUTFILE_H
#define NBDROOT_OUTFILE_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <sys/types.h>

struct outfile {
	const char *path; /* the caller's */
	char *temp;       /* NULL: nothing to remove */
	int fd;
	int old_fd; /* the file that is to be replaced, locked until it is; -1 */
	bool may_replace;
};

/*
 * Creates the file beside its place, with the mode given (as it is) or, when it replaces a file,
 * that file's mode and, as far as allowed, owner. 0 or negative errno, already reported.
 */
int outfile_open(struct outfile *o, const char *path, mode_t mode, bool may_replace) _must_check_;

/* Puts it into its place. 0 or negative errno, already reported. */
int outfile_commit(struct outfile *o) _must_check_;

/* Removes what is not committed. Must be called on every way out. */
void outfile_deinit(struct outfile *o);

#define _cleanup_outfile_ _cleanup_(outfile_deinit)

/*
 * Has somebody a lock (flock or fcntl) on this open file? Servers lock what they export: shared
 * when it is read-only. With only_writers a shared lock does not count.
 */
bool outfile_is_locked(int fd, bool only_writers);

#endif
