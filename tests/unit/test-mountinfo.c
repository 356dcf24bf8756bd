/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is mounted, as the kernel lists it. */
#include "init/mountinfo.h"
#include "tests/unit/tap.h"

static struct mountinfo m;
static char line[16384];

static bool parse(const char *text)
{
	snprintf(line, sizeof(line), "%s", text);
	return mountinfo_parse(line, &m);
}

TEST(fields_are_found_with_and_without_optional_ones)
{
	CHECK(parse("29 1 43:0 / / rw,relatime - ext4 /dev/nbd0 rw\n"));
	CHECK_STR(m.where, "/");
	CHECK_STR(m.type, "ext4");
	CHECK_STR(m.source, "/dev/nbd0");
	CHECK(parse("36 35 0:40 / /oldroot rw shared:1 master:2 - nfs4 srv:/x rw,vers=4.2\n"));
	CHECK_STR(m.where, "/oldroot");
	CHECK_STR(m.type, "nfs4");
	CHECK_STR(m.source, "srv:/x");
}

TEST(blanks_tabs_newlines_and_backslashes_get_their_characters_back)
{
	CHECK(parse("1 1 43:1 / /mnt/my\\040disk\\011\\134n rw - ext3 srv:/a\\040-\\040b rw\n"));
	CHECK_STR(m.where, "/mnt/my disk\t\\n");
	CHECK_STR(m.source, "srv:/a - b");
	/* what is no such thing stays */
	CHECK(parse("1 1 43:1 / /a\\09\\1234\\ rw - ext3 \\04 rw\n"));
	CHECK_STR(m.where, "/a\\09S4\\");
	CHECK_STR(m.source, "\\04");
}

TEST(long_paths_and_options_are_whole)
{
	static char path[8192], text[16000];

	memset(path, 'x', sizeof(path) - 1);
	path[0] = '/';
	snprintf(text, sizeof(text), "1 1 0:1 / %s rw - overlay o lowerdir=%s\n", path,
		 path + 4096);
	CHECK(parse(text));
	CHECK_STR(m.where, path);
	CHECK_STR(m.type, "overlay");
}

TEST(empty_source_is_not_taken_from_the_options)
{
	CHECK(parse("1 1 0:1 / /x rw - tmpfs  rw\n"));
	CHECK_STR(m.source, "");
}

TEST(lines_that_end_early_are_none)
{
	static const char *const bad[] = {
		"",
		"\n",
		"1 1 0:1 /",
		"1 1 0:1 / /x",
		"1 1 0:1 / /x rw",
		"1 1 0:1 / /x rw -",
		"1 1 0:1 / /x rw - ext4",
		"1 1 0:1 /  rw - a b c",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK(!parse(bad[i]));
}
