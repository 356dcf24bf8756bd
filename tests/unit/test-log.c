/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Log lines through a pipe: each is one write of one line, whatever was put into it, and errno
 * goes in and comes out unharmed.
 */
#include "base/log.h"

#include "tests/unit/tap.h"

#include <fcntl.h>

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
