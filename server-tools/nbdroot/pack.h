/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an initramfs is made of, collected in any order and written sorted: the directories, our
 * programs, busybox and a link for each of its commands, and whatever is added. Adds parent
 * directories by itself. A name given twice is a mistake, not a question of order.
 */
#ifndef NBDROOT_PACK_H
#define NBDROOT_PACK_H

#include "base/cleanup.h"
#include "cpio.h"

enum { PACK_FILE_MAX = 64 << 20 }; /* of a program or a module */

struct pack_entry {
	char *name;
	mode_t mode;
	void *data;
	size_t size;
	uint32_t device_major, device_minor;
};

struct pack {
	struct pack_entry *list;
	size_t count;
};

/* Adds an entry. data becomes the pack's, or is freed. 0 or -ENOMEM. */
int pack_add(struct pack *p, const char *name, mode_t mode, void *data, size_t size) _must_check_;

/* What was added under this name, or NULL. */
const struct pack_entry *pack_find(const struct pack *p, const char *name);

/* Adds a static program, without what is not loaded of it. 0 or negative errno, reported. */
int pack_add_program(struct pack *p, const char *path, const char *name) _must_check_;

/*
 * The directories, /dev/console, and the programs from folder, the script of the DHCP client from
 * its own. 0 or negative errno, already reported.
 */
int pack_add_base(struct pack *p, const char *folder, const char *script_folder) _must_check_;

/* The archive of it all. 0 or negative errno; -EEXIST, already reported, for a name given twice. */
int pack_archive(struct pack *p, struct cpio *c) _must_check_;

void pack_deinit(struct pack *p);

#endif
