/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See resident.h. */
#include "resident.h"

#include "base/log.h"
#include "base/spare.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

/* The deepest stack of the reconnect path is a few KiB of buffers; this is far more. */
enum { RESIDENT_STACK_BYTES = 64 * 1024 };

/* Touches the stack that will be needed, so that it is there and locked from now on. */
__attribute__((noinline)) static void touch_stack(void)
{
	volatile char stack[RESIDENT_STACK_BYTES];

	for (size_t i = 0; i < sizeof(stack); i += 512)
		stack[i] = 0;
}

void resident_mark(char *argv0)
{
	int r;

	/* systemd spares processes of root whose name begins with '@' when it kills the rest. */
	if (argv0[0] != '@')
		argv0[0] = '@';

	r = spare_from_oom_killer();
	if (r < 0)
		log_warn("cannot be exempt from the OOM killer: %s (going on without)",
			 strerror(-r));
	r = spare_be_io_flusher();
	if (r < 0)
		log_warn("cannot be marked as an I/O flusher: %s (going on without)", strerror(-r));
}

int resident_lock(void)
{
	if (chdir("/") < 0)
		return -errno;

	if (mlockall(MCL_CURRENT | MCL_FUTURE) < 0)
		return -errno;
	touch_stack();
	return 0;
}

void resident_detach_stdio(int kmsg_fd)
{
	_cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	log_set_fd(kmsg_fd, 1);
	for (int fd = 0; null >= 0 && fd <= 2; fd++)
		(void)dup2(null, fd);
}
