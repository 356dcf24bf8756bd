/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A folder in TMPDIR in which depmod indexes the modules that were chosen, and only those. It is
 * gone when it goes out of scope.
 */
#ifndef NBDROOT_DEPMOD_H
#define NBDROOT_DEPMOD_H

#include "base/cleanup.h"

#include <stddef.h>

struct depmod {
	char *folder;        /* NULL: none */
	char *modules;       /* lib/modules/VERSION in it */
	const char *version; /* the caller's */
};

/* All of these: 0 or negative errno, already reported. */
int depmod_init(struct depmod *d, const char *version) _must_check_;
/* A file below lib/modules/VERSION, with the directories that its name goes through. */
int depmod_put(const struct depmod *d, const char *name, const void *data,
	       size_t size) _must_check_;
/* Runs it. tree: for messages. Only its own rules count, not this machine's /etc/depmod.d. */
int depmod_run(const struct depmod *d, const char *tree) _must_check_;

void depmod_deinit(struct depmod *d);

#endif
