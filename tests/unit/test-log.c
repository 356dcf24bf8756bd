/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Log lines through a pipe: each is one write of one line, whatever was put into it, and errno
 * goes in and comes out unharmed.
 */
#include "base/log.h"

#include "tests/unit/tap.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <time.h>

enum { LINE_MAX_BYTES = 1024 - 48 }; /* what the kernel takes as one record, less its prefix */

static int pipe_fds[2] = { -1, -1 };

static void open_pipe(int is_kmsg)
{
	if (pipe_fds[0] < 0 && pipe2(pipe_fds, O_NONBLOCK | O_DIRECT | O_CLOEXEC) < 0)
		abort();
	log_init("prog");
	log_set_level(LOG_LEVEL_INFO);
	log_set_fd(pipe_fds[1], is_kmsg);
}

/* The next line as one write(2) made it (a pipe in packet mode), "" for none. */
static const char *next_line(void)
{
	static char line[8192];
	ssize_t n = read(pipe_fds[0], line, sizeof(line) - 1);

	line[n > 0 ? n : 0] = '\0';
	return line;
}

TEST(a_line_is_program_colon_text_newline)
{
	open_pipe(0);
	log_info("sda%d: %s", 1, "gone");
	CHECK_STR(next_line(), "prog: sda1: gone\n");
	CHECK_STR(next_line(), "");
}

TEST(a_kernel_log_line_begins_with_daemon_and_level)
{
	open_pipe(1);
	log_error("e");
	log_warn("w");
	log_info("i");
	CHECK_STR(next_line(), "<27>prog: e\n");
	CHECK_STR(next_line(), "<28>prog: w\n");
	CHECK_STR(next_line(), "<30>prog: i\n");
	log_set_level(LOG_LEVEL_DEBUG);
	log_debug("d");
	CHECK_STR(next_line(), "<31>prog: d\n");
}

TEST(lines_above_the_level_are_dropped)
{
	open_pipe(0);
	log_debug("not this");
	CHECK_STR(next_line(), "");
	log_set_level(LOG_LEVEL_ERROR);
	log_warn("nor this");
	CHECK_STR(next_line(), "");
	log_error("but this");
	CHECK_STR(next_line(), "prog: but this\n");
}

TEST(control_characters_cannot_start_a_line_or_steer_a_terminal)
{
	open_pipe(0);
	log_info("a%sb", "\n<3>x\r\t\033[31m\x7f\x01");
	CHECK_STR(next_line(), "prog: a?<3>x???[31m??b\n");
	CHECK_STR(next_line(), "");
}

TEST(letters_beyond_ascii_are_kept)
{
	open_pipe(0);
	log_info("\xc3\xbc");
	CHECK_STR(next_line(), "prog: \xc3\xbc\n");
}

TEST(percent_m_shows_the_callers_errno_and_errno_survives)
{
	open_pipe(0);
	errno = ENOENT;
	log_info("open: %m");
	CHECK_EQ(errno, ENOENT);
	CHECK_STR(next_line(), "prog: open: No such file or directory\n");

	errno = EPERM;
	log_debug("dropped");
	CHECK_EQ(errno, EPERM);
}

TEST(errno_survives_a_descriptor_that_cannot_be_written)
{
	open_pipe(0);
	log_set_fd(-1, 0);
	errno = ENOSPC;
	log_info("lost");
	CHECK_EQ(errno, ENOSPC);
}

TEST(a_long_text_is_cut_and_is_still_one_whole_line)
{
	static char text[5000];
	size_t longest = 0;

	open_pipe(1);
	for (size_t size = 900; size < sizeof(text); size += size < 1100 ? 1 : 997) {
		const char *line;
		size_t length;

		memset(text, 'x', size);
		text[size] = '\0';
		log_info("%s", text);
		line = next_line();
		length = strlen(line);
		CHECK(length > 900 && length <= LINE_MAX_BYTES);
		CHECK(strchr(line, '\n') == line + length - 1);
		CHECK(length == strlen("<30>prog: \n") + size || length >= longest);
		longest = length > longest ? length : longest;
		CHECK_STR(next_line(), "");
	}
}

TEST(a_program_name_longer_than_a_line_is_cut_too)
{
	static char name[1100];

	/* around the line's size, so that a write past it lands where the sanitizer looks */
	for (size_t size = 930; size < sizeof(name); size++) {
		const char *line;

		memset(name, 'n', size);
		name[size] = '\0';
		open_pipe(size % 2);
		log_init(name);
		log_info("text");
		log_init("prog");
		line = next_line();
		CHECK(strlen(line) > 930 && strlen(line) <= LINE_MAX_BYTES);
		CHECK(strchr(line, '\n') == line + strlen(line) - 1);
	}
}

/* ---- JSON --------------------------------------------------------------------------------- */

/* The next line without its time, which must have the form that it is said to have. */
static const char *next_json(void)
{
	static const char form[] = "{\"time\":\"dddd-dd-ddTdd:dd:dd.dddZ\",";
	const char *line = next_line();

	for (size_t i = 0; i < sizeof(form) - 1; i++)
		if (form[i] == 'd' && i > 8 ? line[i] < '0' || line[i] > '9' : line[i] != form[i])
			return "(not the form)";
	return line + sizeof(form) - 1;
}

static void open_json(int is_kmsg)
{
	open_pipe(is_kmsg);
	log_set_json(1);
	log_set_level(LOG_LEVEL_DEBUG);
}

TEST(a_json_line_is_an_object_with_time_level_program_and_message)
{
	open_json(0);
	log_error("sda%d: %s", 1, "gone");
	log_warn("w");
	log_info("%s", "");
	log_debug("d");
	log_set_json(0);
	CHECK_STR(next_json(), "\"level\":\"error\",\"program\":\"prog\","
			       "\"message\":\"sda1: gone\"}\n");
	CHECK_STR(next_json(), "\"level\":\"warning\",\"program\":\"prog\",\"message\":\"w\"}\n");
	CHECK_STR(next_json(), "\"level\":\"info\",\"program\":\"prog\",\"message\":\"\"}\n");
	CHECK_STR(next_json(), "\"level\":\"debug\",\"program\":\"prog\",\"message\":\"d\"}\n");
	CHECK_STR(next_line(), "");
}

/* This program's clock, in the place of the C library's: it stands where a test puts it. */
static struct timespec stands_at;

int clock_gettime(clockid_t clock, struct timespec *out)
{
	if (clock != CLOCK_REALTIME || stands_at.tv_sec == 0)
		return (int)syscall(SYS_clock_gettime, clock, out);
	*out = stands_at;
	return 0;
}

TEST(the_time_of_a_json_line_is_utc_in_the_gregorian_calendar)
{
	static const struct {
		time_t second;
		const char *text;
	} cases[] = {
		{ 1, "1970-01-01T00:00:01.987Z" },
		{ 951782399, "2000-02-28T23:59:59.987Z" },
		{ 951782400, "2000-02-29T00:00:00.987Z" },
		{ 951868800, "2000-03-01T00:00:00.987Z" },
		{ 1798761599, "2026-12-31T23:59:59.987Z" },
		{ 1798761600, "2027-01-01T00:00:00.987Z" },
		{ 4107542399, "2100-02-28T23:59:59.987Z" },
		{ 4107542400, "2100-03-01T00:00:00.987Z" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		stands_at = (struct timespec){ cases[i].second, 987654321 };
		open_json(0);
		log_info("now");
		log_set_json(0);
		stands_at.tv_sec = 0;
		CHECK(strncmp(next_line() + strlen("{\"time\":\""), cases[i].text, 24) == 0);
	}
	/* and a day in each month of a hundred years, against the C library */
	for (time_t t = 86400; t < 3155760000; t += 86400 * 29) {
		char expected[32];
		struct tm tm;

		strftime(expected, sizeof(expected), "%FT%T", gmtime_r(&t, &tm));
		stands_at = (struct timespec){ t, 0 };
		open_json(0);
		log_info("now");
		log_set_json(0);
		stands_at.tv_sec = 0;
		CHECK(strncmp(next_line() + strlen("{\"time\":\""), expected, 19) == 0);
	}
}

TEST(a_json_line_for_the_system_log_keeps_its_priority)
{
	const char *line;

	open_json(1);
	log_warn("w");
	log_set_json(0);
	line = next_line();
	CHECK(strncmp(line, "<28>prog: {\"time\":\"", 19) == 0);
	CHECK(strstr(line, "\"message\":\"w\"}\n") != NULL);
}

TEST(quotes_and_backslashes_are_escaped_in_json)
{
	open_json(0);
	log_info("a\"b\\c\",\"level\":\"\xc3\xbc/\n\t\xff\xc2\x9b");
	log_set_json(0);
	CHECK_STR(next_json(), "\"level\":\"info\",\"program\":\"prog\","
			       "\"message\":\"a\\\"b\\\\c\\\",\\\"level\\\":\\\"\xc3\xbc/"
			       "?????\"}\n");
}

TEST(a_long_json_message_is_cut_and_is_still_json)
{
	static char text[5000];

	for (int is_kmsg = 0; is_kmsg <= 1; is_kmsg++)
		for (size_t size = 700; size < 1100; size++) {
			size_t length, limit = is_kmsg ? 960 : 2048;
			const char *line, *message, *p;

			/* "ü" and quotes: what may be cut in the middle */
			for (size_t i = 0; i < size; i++)
				text[i] = "\xc3\xbc\"\\x"[i % 5];
			text[size] = '\0';
			open_json(is_kmsg);
			log_info("%s", text);
			log_set_json(0);
			line = next_line();
			length = strlen(line);
			CHECK(length <= limit);
			CHECK(length > 700 && strcmp(line + length - 3, "\"}\n") == 0);
			message = strstr(line, "\"message\":\"");
			CHECK(message != NULL);
			for (p = message + 11; *p != '"'; p++) {
				CHECK((unsigned char)*p >= 0x20);
				if (*p == '\\')
					p++;
				else if ((unsigned char)*p == 0xc3)
					CHECK((unsigned char)*++p == 0xbc);
			}
			CHECK_STR(p, "\"}\n");
			CHECK_STR(next_line(), "");
		}
}

/* ---- names from peers --------------------------------------------------------------------- */

TEST(c1_control_characters_and_bytes_that_are_not_utf_8_are_not_shown)
{
	open_pipe(0);
	log_info("a\xc2\x9b[31m\x9b\xff\xc3\xc3\xbc");
	CHECK_STR(next_line(), "prog: a??[31m???\xc3\xbc\n");
}

TEST(a_quoted_name_cannot_end_early)
{
	char out[LOG_QUOTED_MAX];

	CHECK_STR(log_quote("root", out), "\"root\"");
	CHECK_STR(log_quote("", out), "\"\"");
	CHECK_STR(log_quote("a\": granted \"b\\", out), "\"a\\\": granted \\\"b\\\\\"");
	CHECK_STR(log_quote("\n\x7f\xff\xc2\x9b\xc3\xbc", out),
		  "\"\\x0a\\x7f\\xff\\xc2\\x9b\xc3\xbc\"");
}

TEST(a_long_quoted_name_is_cut_between_characters)
{
	char out[LOG_QUOTED_MAX], name[400];

	for (size_t size = 100; size < sizeof(name); size++)
		for (int kind = 0; kind < 4; kind++) {
			static const char *const units[] = { "x", "\"", "\n", "\xc3\xbc" };
			static const size_t shown[] = { 1, 2, 4, 2 };
			size_t unit = strlen(units[kind]), n = size / unit;
			size_t full = n * shown[kind] + 2;

			for (size_t i = 0; i < n; i++)
				memcpy(name + i * unit, units[kind], unit);
			name[n * unit] = '\0';
			log_quote(name, out);
			CHECK(strlen(out) < LOG_QUOTED_MAX);
			CHECK(out[strlen(out) - 1] == '"');
			if (full + 1 + 3 <= LOG_QUOTED_MAX) {
				CHECK_EQ(strlen(out), full);
			} else if (full + 1 > LOG_QUOTED_MAX) {
				CHECK(strlen(out) > LOG_QUOTED_MAX - 1 - 4);
				CHECK_STR(out + strlen(out) - 4, "...\"");
				CHECK_EQ((strlen(out) - 5) % shown[kind], 0);
			}
		}
}
