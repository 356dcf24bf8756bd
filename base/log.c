/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See log.h. */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* The kernel cuts a record at 1024 bytes less its prefix (kernel/printk: PRINTKRB_RECORD_MAX). */
enum { LOG_LINE_MAX = 960 };

enum { LOG_FACILITY_DAEMON = 3 << 3 };

static struct {
	const char *program;
	enum log_level max;
	int fd;
	int is_kmsg;
} target = { .program = "nbdroot", .max = LOG_LEVEL_INFO, .fd = STDERR_FILENO };

void log_init(const char *program)
{
	target.program = program;
}

void log_set_level(enum log_level max)
{
	target.max = max;
}

void log_set_fd(int fd, int is_kmsg)
{
	target.fd = fd;
	target.is_kmsg = is_kmsg;
}

void log_line(enum log_level level, const char *fmt, ...)
{
	char line[LOG_LINE_MAX];
	int saved_errno = errno;
	size_t used;
	va_list ap;
	int n;

	if (level > target.max)
		return;

	if (target.is_kmsg)
		n = snprintf(line, sizeof(line), "<%d>%s: ", LOG_FACILITY_DAEMON | (int)level,
			     target.program);
	else
		n = snprintf(line, sizeof(line), "%s: ", target.program);
	used = n < 0 ? 0 : (size_t)n;
	if (used > sizeof(line) - 1) /* a program name of many hundred letters was cut */
		used = sizeof(line) - 1;

	errno = saved_errno; /* for %m */
	va_start(ap, fmt);
	n = vsnprintf(line + used, sizeof(line) - used, fmt, ap);
	va_end(ap);
	used += n < 0 ? 0 : (size_t)n;
	if (used > sizeof(line) - 2)
		used = sizeof(line) - 2;

	/* A name from a peer must not be able to start a line of its own. */
	for (size_t i = 0; i < used; i++)
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?';
	line[used++] = '\n';

	while (write(target.fd, line, used) < 0 && errno == EINTR)
		;
	errno = saved_errno;
}
