/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Log lines, to stderr or to the kernel log. Every line is one write(2) from a buffer on the
 * stack: no stdio, no allocation, so that a resident process may log while its root is away.
 * Grammar of a line: "subject: what failed: why (what happens next)". Whatever is put into a
 * line, it stays one line, and is UTF-8 without control characters.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "cleanup.h"

enum log_level {
	LOG_LEVEL_ERROR = 3, /* the kernel's own numbers, see syslog(2) */
	LOG_LEVEL_WARN = 4,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7,
};

/* Sets the program's name, which starts every line. Must be called first; keeps the pointer. */
void log_init(const char *program);

/* Lines above this level are dropped. The default is LOG_LEVEL_INFO. */
void log_set_level(enum log_level max);

/*
 * Sends lines to fd, as "<n>program: ..." when is_kmsg (see Documentation/ABI/testing/dev-kmsg;
 * with the facility "daemon"), else as "program: ...". The descriptor stays the caller's and
 * must outlive the last line. The default is stderr.
 */
void log_set_fd(int fd, int is_kmsg);

/*
 * Makes each line a JSON object with the members time (RFC 3339, UTC, milliseconds), level
 * ("error", "warning", "info", "debug"), program and message; with is_kmsg, after the prefix.
 */
void log_set_json(int is_json);

/*
 * A name from a peer, for a line: in double quotes, with a backslash before quotes and
 * backslashes and \xNN for bytes that are not printable UTF-8, so that no name can pretend that
 * it ends and the line goes on. A long one is cut and ends with ...". Returns out.
 */
enum { LOG_QUOTED_MAX = 132 };
const char *log_quote(const char *text, char out[static LOG_QUOTED_MAX]);

void log_line(enum log_level level, const char *fmt, ...) _printf_(2, 3);

#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
