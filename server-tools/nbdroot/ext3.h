/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ext3 file systems in image files, by way of libext2fs; the only file that includes its headers.
 * Makes what `mke2fs -t ext3 -b 4096` makes, but with every time, number and seed decided by the
 * caller, so that the same input gives the same bytes. Knows nothing of where content comes
 * from. Refuses: images that cannot hold a journal; more than 65000 links to one inode.
 */
#ifndef NBDROOT_EXT3_H
#define NBDROOT_EXT3_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	EXT3_BLOCK = 4096,
	EXT3_ROOT_INODE = 2,
	EXT3_LABEL_MAX = 16,
	EXT3_MIN_BLOCKS = 2048, /* libext2fs makes no journal for less */
	EXT3_LINKS_MAX = 65000,
	EXT3_FAST_LINK = 60, /* shorter targets of symbolic links live in the inode */
};

/* What the functions below return besides 0 and negative errno. ext3_strerror() has the words. */
enum {
	EXT3_E_NO_BLOCKS = 1,
	EXT3_E_NO_INODES,
	EXT3_E_XATTR_SPACE, /* an inode's extended attributes must fit in one block */
	EXT3_E_LIBRARY,     /* what the library said last */
	EXT3_E_NOT_EXT,     /* no ext2, ext3 or ext4 */
};
const char *ext3_strerror(int r);

struct ext3_format {
	uint64_t blocks; /* of the image; EXT3_MIN_BLOCKS to 2^32 - 1 */
	uint32_t inodes; /* at least so many beside the reserved ones */
	uint32_t now;    /* every time stamp that is not a file's; not 0 */
	const char *label;
	uint8_t uuid[16];
	uint8_t hash_seed[16]; /* of directory indexes */
};

/* A hash seed that depends on the UUID alone. */
void ext3_seed_from_uuid(const uint8_t uuid[static 16], uint8_t seed[static 16]);

struct ext3;

/* Makes a file system, but for its root directory, in the file, which must be all holes. */
int ext3_create(const char *path, const struct ext3_format *f, struct ext3 **out) _must_check_;

/* Writes everything out. The object is gone in any case. */
int ext3_close(struct ext3 *fs) _must_check_;
/* Gives up. NULL is fine. */
void ext3_abandon(struct ext3 *fs);

uint64_t ext3_blocks_free(const struct ext3 *fs);
/* Blocks of the journal that a file system of this size gets. */
uint32_t ext3_journal_blocks(uint64_t blocks);

struct ext3_attr {
	uint32_t mode; /* with the type */
	uint32_t uid, gid, links;
	int64_t mtime_s; /* atime and ctime become the same: reading must not change an image */
	uint32_t mtime_ns;
	uint32_t device_major, device_minor;
};

/* A free inode near its directory's. The root's own is EXT3_ROOT_INODE, taken from the start. */
int ext3_new_inode(struct ext3 *fs, uint32_t parent, uint32_t mode, uint32_t *inode) _must_check_;

/* A regular file's content: begin, write (offsets rise), end. */
struct ext3_file;
int ext3_file_begin(struct ext3 *fs, uint32_t inode, struct ext3_file **out) _must_check_;
/* data is count whole blocks for logical block first on. */
int ext3_file_write(struct ext3_file *f, uint64_t first, const void *data,
		    uint32_t count) _must_check_;
/* Ends it and writes the inode. Frees f in any case. */
int ext3_file_end(struct ext3_file *f, const struct ext3_attr *a, uint64_t size) _must_check_;
void ext3_file_abandon(struct ext3_file *f);

int ext3_symlink(struct ext3 *fs, uint32_t inode, const struct ext3_attr *a,
		 const char *target) _must_check_;
/* Device nodes, fifos, sockets. */
int ext3_special(struct ext3 *fs, uint32_t inode, const struct ext3_attr *a) _must_check_;

struct ext3_entry {
	const char *name; /* 1 to 255 bytes, no '/' */
	uint32_t inode;
	uint32_t mode;
};
/* "." and ".." are added here; min_blocks is for lost+found. */
int ext3_directory(struct ext3 *fs, uint32_t inode, uint32_t parent, const struct ext3_attr *a,
		   const struct ext3_entry *entries, size_t n, uint32_t min_blocks) _must_check_;

/* Where entries come to lie in a directory's blocks; start with a zeroed one, "." and "..". */
struct ext3_layout {
	uint32_t blocks;
	uint32_t used; /* of the last block */
};
/* Takes room for a name: the offset in the block l->blocks - 1. */
uint32_t ext3_layout_add(struct ext3_layout *l, size_t name_length);

struct ext3_xattr {
	char *name; /* with its prefix */
	void *value;
	size_t size;
};
bool ext3_xattr_is_known(const char *name);
/* For an inode that has been written. */
int ext3_set_xattrs(struct ext3 *fs, uint32_t inode, const struct ext3_xattr *x,
		    size_t n) _must_check_;

struct ext3_info {
	uint64_t blocks, blocks_free, blocks_reserved;
	uint32_t block_size, inodes, inodes_free, inode_size, mounts;
	uint8_t uuid[16];
	char label[EXT3_LABEL_MAX + 1];
	char last_mounted[64 + 1];
	char features[512]; /* separated by blanks */
	bool has_journal, has_extents, needs_recovery, has_errors, was_unmounted;
	int64_t created, checked, mounted, written; /* seconds since 1970, 0: never */
};
/* Reads the superblock of any ext2, ext3 or ext4; writes nothing. */
int ext3_probe(const char *path, struct ext3_info *info) _must_check_;

/* Mounted, through a loop device perhaps? */
bool ext3_is_mounted(const char *path);

#endif
