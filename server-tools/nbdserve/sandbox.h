/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the server gives up once its sockets and images are open, so that whoever breaks into it
 * through the network has not much: it becomes another user, can gain no privilege, sees only
 * the folders of its images, of its configuration and of its sockets (Landlock), can start no
 * program and has only the system calls that serving needs (seccomp).
 *
 * It does not open, serve or close anything itself. A kernel without Landlock or seccomp is no
 * reason not to serve: that is logged, and the rest applies.
 */
#ifndef NBDSERVE_SANDBOX_H
#define NBDSERVE_SANDBOX_H

#include "config.h"

/*
 * Must be called before the process has a second thread, for Landlock and the capabilities of
 * threads are each thread's own. config_paths are the files that a reload reads again; they and
 * the paths in the configuration are resolved here, so relative ones need the folder in which
 * they are meant.
 *
 * Afterwards: no fork(), no other program, no name service, and no pthread_exit() or
 * pthread_cancel(), for which glibc loads a library: threads return.
 *
 * 0, or negative errno when the user cannot be changed: then it has been logged, and the process
 * must not go on.
 */
int sandbox_enter(const struct config *c, const char *const *config_paths,
		  size_t n_config_paths) _must_check_;

#endif
