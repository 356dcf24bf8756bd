/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A directory tree as it is to go into an image: read once, sorted by name, so that the same
 * tree gives the same image whatever order the disk has it in. Everything but the content of
 * regular files is in memory; what it will take in the image is counted. Never follows a
 * symbolic link and never enters another file system that is mounted below.
 */
#ifndef NBDROOT_TREE_H
#define NBDROOT_TREE_H

#include "ext3.h"

struct tree_node {
	char *name; /* "" at the top */
	struct ext3_attr attr;
	uint64_t size_bytes;
	uint64_t host_device, host_inode;
	struct timespec host_mtime, host_ctime; /* as read, not clamped */
	char *target;                           /* of a symbolic link */
	struct ext3_xattr *xattrs;
	size_t n_xattrs;
	struct tree_node *same_as; /* an earlier name of the same inode, or NULL */
	uint32_t inode;            /* in the image, once it is there */
	struct tree_node **children;
	size_t n_children;
	uint32_t min_blocks; /* of a directory */
};

struct tree {
	struct tree_node *top;
	uint64_t blocks; /* of 4096 bytes, that content and directories take */
	uint64_t inodes;
	bool has_max_mtime;
	int64_t max_mtime_s; /* later times become this */
	void *links;         /* by host device and inode, while reading */
};

/* An empty top directory with a lost+found. 0 or -ENOMEM. */
int tree_init(struct tree *t, int64_t now_s) _must_check_;

/*
 * Replaces the top directory by the directory at path and all below it; a lost+found is added
 * when it has none. Negative errno, already reported with the name of the culprit.
 */
int tree_read(struct tree *t, const char *path) _must_check_;

void tree_deinit(struct tree *t);

#endif
