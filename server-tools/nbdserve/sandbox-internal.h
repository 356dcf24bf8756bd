/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What sandbox.c and sandbox-calls.c share. */
#ifndef NBDSERVE_SANDBOX_INTERNAL_H
#define NBDSERVE_SANDBOX_INTERNAL_H

#include <stdbool.h>

/*
 * A sanitizer's run time does what no server should: it traces the process for leaks, starts
 * programs, and maps memory as it likes. Its builds are for tests, and have no seccomp.
 */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANDBOX_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
	__has_feature(memory_sanitizer)
#define SANDBOX_SANITIZER 1
#endif
#endif
#ifndef SANDBOX_SANITIZER
#define SANDBOX_SANITIZER 0
#endif

/* Lets seccomp refuse all system calls but those of a server. False: it is not on, and the log
 * says why. */
bool sandbox_limit_calls(void);

#endif
