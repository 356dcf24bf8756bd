/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The archive writer and reader of `nbdroot initramfs`: newc heads to the byte, padding, refusals.
 */
#include "tests/unit/tap.h"

#include "server-tools/nbdroot/cpio-read.h"
#include "server-tools/nbdroot/cpio.h"

#include <errno.h>
#include <sys/stat.h>

TEST(file_has_a_newc_head_its_name_and_its_content_each_padded_to_four)
{
	static const char head[] = "070701"
				   "00000001" /* inode */
				   "000081a4" /* mode 0100644 */
				   "00000000" /* uid */
				   "00000000" /* gid */
				   "00000001" /* links */
				   "00000064" /* mtime */
				   "00000005" /* size */
				   "00000000"
				   "00000000" /* of the device it is on */
				   "00000000"
				   "00000000" /* of the device it is */
				   "00000004" /* name, with its end */
				   "00000000";
	struct cpio c;

	cpio_init(&c, 100);
	CHECK_EQ(cpio_add(&c, &(struct cpio_entry){ .name = "abc",
						    .mode = S_IFREG | 0644,
						    .data = "hello",
						    .size = 5 }),
		 0);
	CHECK_EQ(c.size, 116 + 8); /* 110 + 4 to 116; 5 to 8 */
	CHECK(memcmp(c.data, head, 110) == 0);
	CHECK(memcmp(c.data + 110, "abc\0\0\0", 6) == 0);
	CHECK(memcmp(c.data + 116, "hello\0\0\0", 8) == 0);
	cpio_deinit(&c);
}

TEST(inodes_count_from_one_and_a_directory_has_two_links)
{
	struct cpio c;

	cpio_init(&c, 0);
	CHECK_EQ(cpio_add(&c, &(struct cpio_entry){ .name = "a", .mode = S_IFDIR | 0755 }), 0);
	CHECK_EQ(cpio_add(&c, &(struct cpio_entry){ .name = "b", .mode = S_IFDIR | 0755 }), 0);
	CHECK(memcmp(c.data + 6, "00000001", 8) == 0);
	CHECK(memcmp(c.data + 6 + 4 * 8, "00000002", 8) == 0);
	CHECK(memcmp(c.data + 112 + 6, "00000002", 8) == 0);
	cpio_deinit(&c);
}

TEST(device_node_carries_its_numbers)
{
	struct cpio c;

	cpio_init(&c, 0);
	CHECK_EQ(cpio_add(&c, &(struct cpio_entry){ .name = "dev/console",
						    .mode = S_IFCHR | 0600,
						    .device_major = 5,
						    .device_minor = 1 }),
		 0);
	CHECK(memcmp(c.data + 6 + 9 * 8, "0000000500000001", 16) == 0);
	cpio_deinit(&c);
}

TEST(archive_ends_with_the_trailer_on_a_boundary_of_four)
{
	struct cpio c;

	cpio_init(&c, 7);
	CHECK_EQ(cpio_end(&c), 0);
	CHECK_EQ(c.size, 124);
	CHECK(memcmp(c.data + 110, "TRAILER!!!\0", 11) == 0);
	/* The kernel takes the trailer's time for nobody's; zero keeps it so. */
	CHECK(memcmp(c.data + 6 + 5 * 8, "00000000", 8) == 0);
	cpio_deinit(&c);
}

TEST(name_that_is_empty_absolute_or_too_long_is_refused_and_nothing_is_added)
{
	char name[CPIO_NAME_MAX + 2];
	struct cpio c;

	cpio_init(&c, 0);
	CHECK_EQ(cpio_add(&c, &(struct cpio_entry){ .name = "" }), -EINVAL);
	CHECK_EQ(cpio_add(&c, &(struct cpio_entry){ .name = "/init" }), -EINVAL);
	memset(name, 'x', sizeof(name) - 1);
	name[CPIO_NAME_MAX + 1] = '\0';
	CHECK_EQ(cpio_add(&c, &(struct cpio_entry){ .name = name }), -ENAMETOOLONG);
	CHECK_EQ(c.size, 0);
	name[CPIO_NAME_MAX] = '\0';
	CHECK_EQ(cpio_add(&c, &(struct cpio_entry){ .name = name }), 0);
	cpio_deinit(&c);
}

TEST(file_of_four_gib_is_refused)
{
	struct cpio c;

	cpio_init(&c, 0);
	CHECK_EQ(cpio_add(&c, &(struct cpio_entry){ .name = "a",
						    .mode = S_IFREG,
						    .data = "",
						    .size = (size_t)UINT32_MAX + 1 }),
		 -EFBIG);
	CHECK_EQ(c.size, 0);
	cpio_deinit(&c);
}

/* ---- reading ------------------------------------------------------------------------------ */

TEST(what_was_written_is_read_back_to_the_end)
{
	struct cpio_reader r = { 0 };
	struct cpio_item it;
	struct cpio c;

	cpio_init(&c, 0);
	CHECK_EQ(cpio_add(&c, &(struct cpio_entry){ .name = "abcd",
						    .mode = S_IFREG | 0755,
						    .data = "hello",
						    .size = 5 }),
		 0);
	CHECK_EQ(cpio_end(&c), 0);
	r.data = c.data;
	r.size = c.size;
	CHECK_EQ(cpio_next(&r, &it), 0);
	CHECK_STR(it.name, "abcd");
	CHECK_EQ(it.name_length, 4);
	CHECK_EQ(it.mode, S_IFREG | 0755);
	CHECK_EQ(it.size, 5);
	CHECK(memcmp(it.data, "hello", 5) == 0);
	CHECK_EQ(cpio_next(&r, &it), CPIO_E_END);
	CHECK_EQ(r.at, r.size);
	cpio_deinit(&c);
}

/* One entry with these fields in hexadecimal, and nothing after it. */
static int read_head(const char *magic, const char *size, const char *name_size, const char *name,
		     size_t length)
{
	char text[256];
	struct cpio_item it;
	struct cpio_reader r = { .data = (const uint8_t *)text };
	int n = snprintf(text, sizeof(text), "%s%048d%s%032d%s%08d", magic, 0, size, 0, name_size,
			 0);

	memcpy(text + n, name, length);
	r.size = (size_t)n + length;
	return cpio_next(&r, &it);
}

TEST(heads_with_a_wrong_magic_number_no_digit_or_a_strange_name_are_refused)
{
	CHECK_EQ(read_head("070701", "00000000", "00000002", "a", 2), 0);
	CHECK_EQ(read_head("070702", "00000000", "00000002", "a", 2), 0);
	CHECK_EQ(read_head("070707", "00000000", "00000002", "a", 2), CPIO_E_MALFORMED);
	CHECK_EQ(read_head("070701", "0000000g", "00000002", "a", 2), CPIO_E_MALFORMED);
	CHECK_EQ(read_head("070701", "00000000", "00000000", "", 0), CPIO_E_MALFORMED);
	CHECK_EQ(read_head("070701", "00000000", "00001001", "a", 2), CPIO_E_MALFORMED);
	/* no zero at the end, one in the middle */
	CHECK_EQ(read_head("070701", "00000000", "00000002", "ab", 2), CPIO_E_MALFORMED);
	CHECK_EQ(read_head("070701", "00000000", "00000004", "a\0b", 4), CPIO_E_MALFORMED);
}

TEST(entry_that_is_one_byte_short_is_short)
{
	CHECK_EQ(read_head("070701", "00000004", "00000002", "a\0xxxx", 6), 0);
	CHECK_EQ(read_head("070701", "00000004", "00000002", "a\0xxx", 5), CPIO_E_SHORT);
	CHECK_EQ(read_head("070701", "ffffffff", "00000002", "a\0xxx", 5), CPIO_E_SHORT);
	CHECK_EQ(read_head("070701", "00000000", "00000002", "a", 1), CPIO_E_SHORT);
	CHECK_EQ(read_head("070701", "00000000", "0000000", "", 0), CPIO_E_SHORT);
}
