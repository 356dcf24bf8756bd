/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The block map of an ext3 inode: twelve direct blocks, then a tree of one, two and three levels
 * of blocks full of block numbers (fs/ext4/indirect.c). Built front to back, each block of the
 * tree written once, when the file has moved past it. Pure: allocating and writing are the
 * caller's. Why not the library's ext2fs_bmap2(): it writes zeros to every block that it
 * allocates, which would fill the holes of a sparse image and writes everything twice.
 */
#ifndef NBDROOT_BLOCKMAP_H
#define NBDROOT_BLOCKMAP_H

#include "base/cleanup.h"

#include <stdint.h>

enum {
	BLOCKMAP_DIRECT = 12,
	BLOCKMAP_PER_BLOCK = 1024, /* block numbers in a block of 4096 bytes */
	BLOCKMAP_DEPTH = 3,
	BLOCKMAP_TOP = BLOCKMAP_DIRECT + BLOCKMAP_DEPTH, /* numbers in the inode itself */
};

struct blockmap_node {
	uint32_t block;                       /* 0: none yet */
	int depth;                            /* of the tree it belongs to, 1 to 3 */
	uint64_t index;                       /* which block of its level */
	uint32_t numbers[BLOCKMAP_PER_BLOCK]; /* as on disk: little-endian */
};

struct blockmap {
	/* Both return 0, or anything else, which ends the work and is passed on. */
	int (*allocate)(void *arg, uint32_t *block);
	int (*write)(void *arg, uint32_t block, const uint32_t *numbers);
	void *arg;

	uint32_t top[BLOCKMAP_TOP]; /* host order, for the inode */
	uint64_t next;              /* the lowest logical block that may still come */
	uint64_t used;              /* blocks allocated, data and tree */
	struct blockmap_node node[BLOCKMAP_DEPTH]; /* [0] holds numbers of data blocks */
};

/* The caller fills in the two functions and arg of a zeroed map. */

/*
 * Allocates the file's block number logical, after what the tree needs to reach it. Numbers
 * must rise. -EFBIG beyond what three levels reach (4 TiB).
 */
int blockmap_add(struct blockmap *m, uint64_t logical, uint32_t *block) _must_check_;

/* Writes what is still in memory of the tree. */
int blockmap_finish(struct blockmap *m) _must_check_;

/* How many blocks a file takes, by the same rules, without making it. Zeroed at first. */
struct blockmap_cost {
	uint64_t blocks;
	struct {
		int depth;
		uint64_t index;
	} last[BLOCKMAP_DEPTH];
};

/* Counts blocks first to first + count - 1. Ranges must rise. -EFBIG as above. */
int blockmap_cost_add(struct blockmap_cost *c, uint64_t first, uint64_t count) _must_check_;

#endif
