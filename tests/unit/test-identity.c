/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What counts as the same export. */
#include "nbdclient/identity.h"
#include "tests/unit/tap.h"

static char why[IDENTITY_WHY_MAX];

static struct identity example(void)
{
	return (struct identity){
		.info = { .size = 1 << 20,
			  .flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA,
			  .block_min = 1,
			  .block_preferred = 4096,
			  .block_max = 32 << 20 },
		.has_uuid = true,
		.uuid = { 1, 2, 3 },
	};
}

TEST(same_is_same)
{
	struct identity a = example(), b = example();

	CHECK(identity_same(&a, &b, why));
}

TEST(size_that_differs_by_one_byte_either_way_is_another_export)
{
	struct identity a = example(), b = example();

	b.info.size--;
	CHECK(!identity_same(&a, &b, why));
	b.info.size += 2;
	CHECK(!identity_same(&a, &b, why));
	CHECK(strstr(why, "1048577"));
}

TEST(each_lost_capability_is_named)
{
	static const struct {
		uint16_t flag;
		const char *word;
	} flags[] = { { NBD_FLAG_SEND_FLUSH, "flush" },
		      { NBD_FLAG_SEND_FUA, "fua" },
		      { NBD_FLAG_SEND_TRIM, "trim" },
		      { NBD_FLAG_SEND_WRITE_ZEROES, "write-zeroes" } };

	for (size_t i = 0; i < 4; i++) {
		struct identity a = example(), b = example();

		a.info.flags |= flags[i].flag;
		b.info.flags &= (uint16_t)~flags[i].flag;
		CHECK(!identity_same(&a, &b, why));
		CHECK(strstr(why, flags[i].word));
	}
}

TEST(new_capabilities_are_welcome)
{
	struct identity a = example(), b = example();

	b.info.flags |= NBD_FLAG_SEND_TRIM | NBD_FLAG_CAN_MULTI_CONN;
	CHECK(identity_same(&a, &b, why));
}

TEST(read_only_flips_neither_way)
{
	struct identity a = example(), b = example();

	b.info.flags |= NBD_FLAG_READ_ONLY;
	CHECK(!identity_same(&a, &b, why));
	CHECK(!identity_same(&b, &a, why));
}

TEST(block_sizes_may_not_become_stricter)
{
	struct identity a = example(), b = example();

	b.info.block_min = 512; /* what the kernel sends anyway */
	CHECK(identity_same(&a, &b, why));
	b.info.block_min = 1024;
	CHECK(!identity_same(&a, &b, why));
	b = example();
	b.info.block_max = 1 << 20;
	CHECK(!identity_same(&a, &b, why));
	CHECK(identity_same(&b, &a, why));
}

TEST(other_file_system_is_another_export)
{
	struct identity a = example(), b = example();

	b.uuid[15] = 1;
	CHECK(!identity_same(&a, &b, why));
	CHECK(strstr(why, "01020300-0000-0000-0000-000000000001"));
	b = example();
	b.has_uuid = false;
	CHECK(!identity_same(&a, &b, why));
	CHECK(strstr(why, "is not on it"));
}

TEST(older_copy_of_the_same_file_system_is_another_export)
{
	struct identity a = example(), b = example();

	a.mount_time_s = 1000;
	a.mount_count = 5;
	b = a;
	CHECK(identity_same(&a, &b, why));
	b.mount_time_s = 999;
	b.mount_count = 4;
	CHECK(!identity_same(&a, &b, why));
	CHECK(strstr(why, "older copy"));
	b.mount_time_s = 1001; /* mounted since, and checked: the count began anew */
	b.mount_count = 1;
	CHECK(identity_same(&a, &b, why));
	b.mount_time_s = 10; /* mounted since, by a client without a clock */
	b.mount_count = 6;
	CHECK(identity_same(&a, &b, why));
}

TEST(first_session_without_a_file_system_says_nothing_of_uuids)
{
	struct identity a = example(), b = example();

	a.has_uuid = false;
	CHECK(identity_same(&a, &b, why));
}

TEST(uuid_comes_from_an_ext_superblock_only)
{
	static uint8_t head[IDENTITY_HEAD_SIZE];
	struct identity id = { 0 };

	identity_read_head(&id, head);
	CHECK(!id.has_uuid);
	head[1024 + 0x38] = 0x53;
	identity_read_head(&id, head);
	CHECK(!id.has_uuid);
	head[1024 + 0x39] = 0xef;
	head[1024 + 0x68] = 7;
	head[1024 + 0x68 + 15] = 9;
	identity_read_head(&id, head);
	CHECK(id.has_uuid);
	CHECK_EQ(id.uuid[0], 7);
	CHECK_EQ(id.uuid[15], 9);
	head[1024 + 0x2c] = 0x78;
	head[1024 + 0x2f] = 0x12;
	head[1024 + 0x34] = 0x34;
	head[1024 + 0x35] = 0x56;
	identity_read_head(&id, head);
	CHECK_EQ(id.mount_time_s, 0x12000078);
	CHECK_EQ(id.mount_count, 0x5634);
}
