/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Puts a tree that was read (tree.h) into a fresh ext3: inodes, content, links, attributes. */
#ifndef NBDROOT_FILL_H
#define NBDROOT_FILL_H

#include "tree.h"

/*
 * path is the directory the tree was read from, for the content of its files; NULL when the tree
 * has none. Returns 0 or what failed (negative errno or EXT3_E_*), already reported.
 */
int fill_image(struct ext3 *fs, struct tree *t, const char *path) _must_check_;

#endif
