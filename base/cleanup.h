/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ownership written into the declaration: a variable marked _cleanup_free_ or _cleanup_close_
 * gives its resource back on every way out of its scope; steal_ptr()/steal_fd() make giving it
 * away visible. An invalid descriptor is -1.
 */
#ifndef BASE_CLEANUP_H
#define BASE_CLEANUP_H

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define _must_check_ __attribute__((warn_unused_result))
#define _printf_(a, b) __attribute__((format(printf, a, b)))
#define _cleanup_(f) __attribute__((cleanup(f)))
#define _cleanup_free_ _cleanup_(cleanup_free)
#define _cleanup_close_ _cleanup_(cleanup_close)

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}

/* Closes and keeps errno, so that a scope may end between a failure and its report. */
static inline void cleanup_close(int *fd)
{
	if (*fd >= 0) {
		int saved = errno;

		close(*fd);
		errno = saved;
	}
}

static inline int steal_fd(int *fd)
{
	int stolen = *fd;

	*fd = -1;
	return stolen;
}

static inline void *steal_ptr_(void *pp)
{
	void *stolen = *(void **)pp;

	*(void **)pp = NULL;
	return stolen;
}

#define steal_ptr(pp) ((__typeof__(*(pp)))steal_ptr_(pp))

#endif
