/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading an initramfs as a kernel does: parts, replacement, links, limits. */
#include "tests/unit/tap.h"

#include "server-tools/nbdroot/archive.h"
#include "server-tools/nbdroot/cpio.h"

#include <sys/stat.h>

static struct cpio one;

/* A file, and with a NULL the end of an archive; they follow one another in `one`. */
static void put(const char *name, const char *content, mode_t type)
{
	const struct cpio_entry e = { .name = name ? name : "",
				      .mode = type | 0644,
				      .data = content,
				      .size = name ? strlen(content) : 0 };

	if ((name ? cpio_add(&one, &e) : cpio_end(&one)) < 0)
		abort();
}

static void start(void)
{
	cpio_deinit(&one);
	cpio_init(&one, 0);
}

/* The file's content as a string; "" when it has none, NULL when it is not there. */
static const char *content(const struct archive *a, const char *path)
{
	const struct archive_file *f = archive_find(a, path);
	static char text[64];

	if (f)
		snprintf(text, sizeof(text), "%.*s", (int)f->size, (const char *)f->data);
	return f ? text : NULL;
}

TEST(later_archive_replaces_files_of_an_earlier_one_and_keeps_the_others)
{
	struct archive a;

	start();
	put("init", "old", S_IFREG);
	put("kept", "kept", S_IFREG);
	put(NULL, NULL, 0);
	put("init", "new", S_IFREG);
	put(NULL, NULL, 0);
	CHECK_EQ(archive_read(&a, one.data, one.size), 0);
	CHECK(!a.problem);
	CHECK_EQ(a.n_files, 2);
	CHECK_EQ(a.n_parts, 1);
	CHECK_EQ(a.parts[0].entries, 3);
	CHECK_STR(content(&a, "init"), "new");
	CHECK_STR(content(&a, "kept"), "kept");
	archive_deinit(&a);
}

TEST(links_are_followed_through_folders_and_a_circle_ends)
{
	struct archive a;

	start();
	put("bin", "usr/bin", S_IFLNK);
	put("init", "/bin/up", S_IFLNK);
	put("usr/bin/up", "../bin/real", S_IFLNK);
	put("usr/bin/real", "program", S_IFREG);
	put("x", "y", S_IFLNK);
	put("y", "x", S_IFLNK);
	put("far", "../../../usr/bin/real", S_IFLNK);
	put("empty", "", S_IFLNK);
	put(NULL, NULL, 0);
	CHECK_EQ(archive_read(&a, one.data, one.size), 0);
	CHECK_STR(content(&a, "init"), "program");
	CHECK_STR(content(&a, "/bin/real"), "program");
	CHECK_STR(content(&a, "far"), "program");
	CHECK(!archive_find(&a, "x"));
	CHECK(!archive_find(&a, "empty"));
	CHECK(!archive_find(&a, "bin/none"));
	archive_deinit(&a);
}

TEST(names_begin_where_the_root_ends)
{
	struct archive a;

	start();
	put("./init", "program", S_IFREG);
	put(".", "", S_IFDIR);
	put(NULL, NULL, 0);
	CHECK_EQ(archive_read(&a, one.data, one.size), 0);
	CHECK_STR(content(&a, "init"), "program");
	archive_deinit(&a);
}

TEST(archive_that_ends_one_byte_early_keeps_what_came_before)
{
	struct archive a;

	start();
	put("a", "whole", S_IFREG);
	put("b", "cut!", S_IFREG);
	for (size_t less = 1; less <= 4; less++) {
		CHECK_EQ(archive_read(&a, one.data, one.size - less), 0);
		CHECK(a.problem && strstr(a.problem, "middle"));
		CHECK_EQ(a.n_files, 1);
		CHECK_STR(content(&a, "a"), "whole");
		archive_deinit(&a);
	}
}

TEST(archive_without_its_last_entry_is_cut_off)
{
	struct archive a;

	start();
	put("a", "whole", S_IFREG);
	CHECK_EQ(archive_read(&a, one.data, one.size), 0);
	CHECK(a.problem && strstr(a.problem, "middle"));
	archive_deinit(&a);
}

TEST(zeros_between_archives_are_nothing_and_other_bytes_are_named_with_their_place)
{
	uint8_t both[1024] = { 0 };
	struct archive a;

	start();
	put("a", "1", S_IFREG);
	put(NULL, NULL, 0);
	memcpy(both, one.data, one.size);
	memcpy(both + 512, one.data, one.size);
	CHECK_EQ(archive_read(&a, both, sizeof(both)), 0);
	CHECK(!a.problem);
	archive_deinit(&a);
	both[511] = 'x';
	CHECK_EQ(archive_read(&a, both, sizeof(both)), 0);
	CHECK(a.problem && strstr(a.problem, "at byte 511"));
	archive_deinit(&a);
	/* one byte off, no kernel looks for it */
	memset(both + 511, 0, sizeof(both) - 511);
	memcpy(both + 513, one.data, one.size);
	CHECK_EQ(archive_read(&a, both, sizeof(both)), 0);
	CHECK(a.problem && strstr(a.problem, "multiple of four"));
	archive_deinit(&a);
}

TEST(nothing_at_all_has_no_parts)
{
	struct archive a;

	CHECK_EQ(archive_read(&a, (const uint8_t *)"", 0), 0);
	CHECK_EQ(a.n_parts, 0);
	CHECK(!archive_find(&a, "init"));
	archive_deinit(&a);
}
