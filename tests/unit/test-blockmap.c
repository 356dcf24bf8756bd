/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The block map of ext3 inodes, against a disk that hands out numbers and remembers writes. */
#include "tests/unit/tap.h"

#include "server-tools/nbdroot/blockmap.h"

#include <endian.h>
#include <errno.h>

enum { DISK_BLOCKS = 8192 };

static struct disk {
	uint32_t next, limit;
	int writes;
	uint32_t content[DISK_BLOCKS][BLOCKMAP_PER_BLOCK];
	int written[DISK_BLOCKS];
} disk;

static int disk_allocate(void *arg, uint32_t *block)
{
	(void)arg;
	if (disk.next == disk.limit)
		return 77;
	*block = disk.next++;
	return 0;
}

static int disk_write(void *arg, uint32_t block, const uint32_t *numbers)
{
	(void)arg;
	disk.writes++;
	disk.written[block]++;
	memcpy(disk.content[block], numbers, sizeof(disk.content[block]));
	return 0;
}

static struct blockmap map;

static void start(void)
{
	memset(&disk, 0, sizeof(disk));
	disk.next = 100;
	disk.limit = DISK_BLOCKS;
	memset(&map, 0, sizeof(map));
	map.allocate = disk_allocate;
	map.write = disk_write;
}

/* What the kernel would find for a block of the file: fs/ext4/indirect.c, in short. */
static uint32_t look_up(uint64_t logical)
{
	uint64_t size = 1024;
	uint32_t block;
	int depth = 1;

	if (logical < 12)
		return map.top[logical];
	logical -= 12;
	while (logical >= size) {
		logical -= size;
		size *= 1024;
		depth++;
	}
	block = map.top[11 + depth];
	for (; depth > 0 && block != 0; depth--)
		block = le32toh(
			disk.content[block][(logical >> (10 * (depth - 1))) % BLOCKMAP_PER_BLOCK]);
	return block;
}

TEST(twelve_blocks_need_no_tree_and_the_thirteenth_needs_one_block)
{
	uint32_t block;

	start();
	for (uint32_t i = 0; i < 12; i++)
		CHECK_EQ(blockmap_add(&map, i, &block), 0);
	CHECK_EQ(map.used, 12);
	CHECK_EQ(blockmap_add(&map, 12, &block), 0);
	CHECK_EQ(map.used, 14);
	CHECK_EQ(blockmap_finish(&map), 0);
	CHECK_EQ(disk.writes, 1);
	CHECK_EQ(map.top[12], 112);
	CHECK_EQ(look_up(12), 113);
}

TEST(every_block_of_a_file_with_two_levels_is_found_again)
{
	static uint32_t blocks[4000];

	start();
	for (uint32_t i = 0; i < 4000; i++)
		CHECK_EQ(blockmap_add(&map, i, &blocks[i]), 0);
	CHECK_EQ(blockmap_finish(&map), 0);
	for (uint32_t i = 0; i < 4000; i++)
		CHECK_EQ(look_up(i), blocks[i]);
	CHECK_EQ(look_up(4000), 0);
	for (int i = 0; i < DISK_BLOCKS; i++)
		CHECK(disk.written[i] <= 1);
}

TEST(file_of_holes_has_only_the_trees_that_lead_to_its_blocks)
{
	static const uint64_t at[] = { 3,
				       12 + 1023,
				       12 + 1024,
				       12 + 1024 + 5000,
				       12 + 1024 + 1048575,
				       12 + 1024 + 1048576,
				       UINT64_C(1) << 29 };
	uint32_t blocks[7];

	start();
	for (int i = 0; i < 7; i++)
		CHECK_EQ(blockmap_add(&map, at[i], &blocks[i]), 0);
	CHECK_EQ(blockmap_finish(&map), 0);
	for (int i = 0; i < 7; i++)
		CHECK_EQ(look_up(at[i]), blocks[i]);
	CHECK_EQ(look_up(4), 0);
	CHECK_EQ(look_up(12 + 1024 + 5001), 0);
	/* 7 data; 1 for the first tree; 1 + 3 for the second; 1 + 2 + 2 for the third. */
	CHECK_EQ(map.used, 17);
}

TEST(cost_is_what_the_map_then_takes)
{
	static const struct {
		uint64_t first, count;
	} ranges[][3] = {
		{ { 0, 1 }, { 0, 0 }, { 0, 0 } },
		{ { 0, 12 }, { 12, 1 }, { 13, 1 } },
		{ { 0, 1036 }, { 1036, 1 }, { 2059, 2 } },
		{ { 11, 2 }, { 1035, 2 }, { 1049611, 2 } },
		{ { 1049612, 1 }, { 1050636, 1 }, { 3000000, 2000 } },
	};

	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		struct blockmap_cost cost = { 0 };
		uint32_t block;

		start();
		for (int k = 0; k < 3; k++) {
			CHECK_EQ(blockmap_cost_add(&cost, ranges[i][k].first, ranges[i][k].count),
				 0);
			for (uint64_t n = 0; n < ranges[i][k].count; n++)
				CHECK_EQ(blockmap_add(&map, ranges[i][k].first + n, &block), 0);
		}
		CHECK_EQ(cost.blocks, map.used);
	}
}

TEST(block_past_the_third_level_is_too_far_the_last_one_is_not)
{
	const uint64_t end = 12 + 1024 + UINT64_C(1024) * 1024 + UINT64_C(1024) * 1024 * 1024;
	struct blockmap_cost cost = { 0 };
	uint32_t block;

	start();
	CHECK_EQ(blockmap_add(&map, end - 1, &block), 0);
	CHECK_EQ(blockmap_add(&map, end, &block), -EFBIG);
	CHECK_EQ(blockmap_cost_add(&cost, end - 1, 1), 0);
	CHECK_EQ(blockmap_cost_add(&cost, end - 1, 2), -EFBIG);
}

TEST(full_disk_is_passed_on_wherever_it_happens)
{
	for (uint32_t limit = 100; limit < 104; limit++) {
		uint32_t block;

		start();
		disk.limit = limit;
		/* Three tree blocks and the data block. */
		CHECK_EQ(blockmap_add(&map, 12 + 1024 + 1048576, &block), 77);
	}
}
