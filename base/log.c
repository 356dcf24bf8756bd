/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See log.h. */
#include "log.h"

#include "json.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum {
	/* The kernel cuts a record at 1024 bytes less its prefix (printk: PRINTKRB_RECORD_MAX). */
	LOG_LINE_MAX = 960,
	/* Room for what JSON adds to a line of the other format; a pipe takes it in one piece. */
	LOG_JSON_MAX = 2048,
};

enum { LOG_FACILITY_DAEMON = 3 << 3 };

static struct {
	const char *program;
	enum log_level max;
	int fd;
	int is_kmsg;
	int is_json;
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

void log_set_json(int is_json)
{
	target.is_json = is_json;
}

/* ---- text that is safe to show ------------------------------------------------------------ */

/*
 * The size of the character at p when it is printable, 0 when it steers a terminal or is not
 * UTF-8. U+0080 to U+009F are control characters too: U+009B begins a terminal's sequences.
 */
static size_t printable_size(const char *p)
{
	unsigned char c = (unsigned char)*p;

	if (c < 0x20 || c == 0x7f || (c == 0xc2 && (unsigned char)p[1] < 0xa0))
		return 0;
	return json_utf8_length(p);
}

/* In place; each byte of what is not printable becomes a question mark. */
static void make_printable(char *p)
{
	while (*p != '\0') {
		size_t size = printable_size(p);

		if (size == 0)
			*p = '?';
		p += size ? size : 1;
	}
}

const char *log_quote(const char *text, char out[static LOG_QUOTED_MAX])
{
	static const char hex[] = "0123456789abcdef", end[] = "...\"";
	char *q = out;

	*q++ = '"';
	while (*text != '\0') {
		size_t size = printable_size(text), needs = size;

		if (size == 0)
			needs = 4;
		else if (*text == '"' || *text == '\\')
			needs = 2;
		if (needs + sizeof(end) > (size_t)(out + LOG_QUOTED_MAX - q)) {
			memcpy(q, end, sizeof(end));
			return out;
		}
		if (size == 0) {
			*q++ = '\\';
			*q++ = 'x';
			*q++ = hex[(unsigned char)*text >> 4];
			*q++ = hex[(unsigned char)*text & 15];
			text++;
			continue;
		}
		if (needs > size)
			*q++ = '\\';
		memcpy(q, text, size);
		q += size;
		text += size;
	}
	*q++ = '"';
	*q = '\0';
	return out;
}

/* ---- JSON --------------------------------------------------------------------------------- */

/* A line that is being made; what does not fit in max is left out. */
struct line {
	char *text;
	size_t used, max;
};

_printf_(2, 3) static void put(struct line *l, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(l->text + l->used, l->max - l->used, fmt, ap);
	va_end(ap);
	if (n > 0)
		l->used += (size_t)n < l->max - l->used ? (size_t)n : l->max - l->used - 1;
	l->text[l->used] = '\0';
}

/* A JSON string that leaves `reserve` bytes free; the text is printable. */
static void put_string(struct line *l, const char *text, size_t reserve)
{
	put(l, "\"");
	while (*text != '\0') {
		size_t size = json_utf8_length(text);
		bool is_special = *text == '"' || *text == '\\';

		if (l->used + is_special + size + reserve + 1 >= l->max)
			break;
		if (is_special)
			l->text[l->used++] = '\\';
		memcpy(l->text + l->used, text, size);
		l->used += size;
		text += size;
	}
	put(l, "\"");
}

/*
 * The date of a day, counted from 1970-01-01, in the calendar in which years begin in March, so
 * that a leap day is the last of its year. Not gmtime_r(3): glibc's reads the time zone's file.
 */
static void put_date(struct line *l, long long day)
{
	long long since_0 = day + 719468; /* 0000-03-01 */
	long long era = since_0 / 146097, day_of_era = since_0 % 146097;
	long long year_of_era =
		(day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	long long day_of_year =
		day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	long long month = (5 * day_of_year + 2) / 153; /* 0 is March */

	put(l, "%04lld-%02lld-%02lld", era * 400 + year_of_era + (month >= 10),
	    month < 10 ? month + 3 : month - 9, day_of_year - (153 * month + 2) / 5 + 1);
}

static void put_time(struct line *l)
{
	struct timespec now = { 0 };
	long long second;

	clock_gettime(CLOCK_REALTIME, &now);
	second = now.tv_sec % 86400;
	put_date(l, now.tv_sec / 86400);
	put(l, "T%02lld:%02lld:%02lld.%03ldZ", second / 3600, second / 60 % 60, second % 60,
	    now.tv_nsec / 1000000);
}

static const char *level_name(enum log_level level)
{
	switch (level) {
	case LOG_LEVEL_ERROR: return "error";
	case LOG_LEVEL_WARN: return "warning";
	case LOG_LEVEL_INFO: return "info";
	case LOG_LEVEL_DEBUG: return "debug";
	}
	return "info";
}

static void put_json(struct line *l, enum log_level level, const char *message)
{
	enum { PROGRAM_MAX = 64 };
	char program[PROGRAM_MAX];

	snprintf(program, sizeof(program), "%s", target.program);
	make_printable(program);
	put(l, "{\"time\":\"");
	put_time(l);
	put(l, "\",\"level\":\"%s\",\"program\":", level_name(level));
	put_string(l, program, 0);
	put(l, ",\"message\":");
	put_string(l, message, strlen("}"));
	put(l, "}");
}

/* ---- a line ------------------------------------------------------------------------------- */

void log_line(enum log_level level, const char *fmt, ...)
{
	char text[LOG_JSON_MAX] = { 0 }, message[LOG_LINE_MAX] = { 0 };
	struct line l = { .text = text, .max = LOG_LINE_MAX - 1 }; /* less the newline */
	int saved_errno = errno;
	va_list ap;

	if (level > target.max)
		return;

	va_start(ap, fmt);
	errno = saved_errno; /* for %m */
	if (vsnprintf(message, sizeof(message), fmt, ap) < 0)
		message[0] = '\0';
	va_end(ap);

	if (target.is_kmsg)
		put(&l, "<%d>", LOG_FACILITY_DAEMON | (int)level);
	if (target.is_kmsg || !target.is_json)
		put(&l, "%s: ", target.program);
	if (target.is_json) {
		make_printable(message);
		if (!target.is_kmsg)
			l.max = LOG_JSON_MAX - 1;
		put_json(&l, level, message);
	} else {
		put(&l, "%s", message);
	}
	make_printable(text);
	text[l.used++] = '\n';

	while (write(target.fd, text, l.used) < 0 && errno == EINTR)
		;
	errno = saved_errno;
}
