/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A folder that is made to hold certain files, while machines boot from it: each file appears
 * whole, what others refer to (kernels) before what refers to it (menus), and what nothing refers
 * to any more stays for an hour, for a machine that has read the old menu. What is ours is written
 * down in FOLDER/.nbdroot-netboot with a checksum: files of others, and ours that somebody has
 * changed, are neither replaced (without force) nor removed.
 */
#ifndef NBDROOT_NETBOOT_TREE_H
#define NBDROOT_NETBOOT_TREE_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NETBOOT_TREE_FILE_MAX = 1 << 30, NETBOOT_TREE_GRACE_S = 3600 };

/* A file that is wanted. Its content is held in memory, or mapped from where it comes from. */
struct netboot_tree_file {
	char *name; /* below the folder; no "..", no "." */
	const void *data;
	size_t size;
	uint32_t hash;
	bool is_mapped; /* else allocated */
};

/* A line of the list of what is ours. */
struct netboot_tree_owned {
	char *name;
	size_t size;
	uint32_t hash;
	int64_t unused_since; /* seconds since 1970; 0: it was wanted when it was written */
};

struct netboot_tree {
	const char *folder;
	struct netboot_tree_file *files; /* in the order in which they are written */
	size_t n_files;
	struct netboot_tree_owned *owned;
	size_t n_owned;
};

struct netboot_tree_result {
	size_t written, unchanged, removed, kept;
	bool has_changed_dnsmasq;
};

/* A file with this content, which becomes the tree's. 0 or -ENOMEM. */
int netboot_tree_add_text(struct netboot_tree *t, const char *name, char *text,
			  size_t size) _must_check_;

/*
 * A copy of a file. "%" in the name stands for its checksum, so that another content has another
 * name; *out (may be NULL) is the name that came of it, the tree's. 0 or negative errno, already
 * reported.
 */
int netboot_tree_add_file(struct netboot_tree *t, const char *name, const char *source,
			  const char **out) _must_check_;

/* Makes the folder hold them. 0 or negative errno, already reported. */
int netboot_tree_write(struct netboot_tree *t, bool is_forced,
		       struct netboot_tree_result *result) _must_check_;

/* Compares, and prints each difference. The number of them, or negative errno, already reported. */
int netboot_tree_check(struct netboot_tree *t) _must_check_;

void netboot_tree_deinit(struct netboot_tree *t);

#endif
