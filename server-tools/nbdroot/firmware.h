/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The files that modules want to load into their cards, from a folder such as /lib/firmware, looked
 * for where a kernel looks: updates/VERSION, updates, VERSION and the folder itself; plain, .zst or
 * .xz. They are packed unpacked, for not every kernel can unpack them. A name may be a pattern.
 * That a file is not there is no error: most modules name files for cards that nobody has.
 */
#ifndef NBDROOT_FIRMWARE_H
#define NBDROOT_FIRMWARE_H

#include "pack.h"

#include <stdbool.h>

struct firmware {
	const char *folder; /* NULL: the one beside each kernel's modules */
	bool is_off;
	char **names; /* in the archive, that have been packed; in order of their names */
	size_t count;
	size_t size_bytes;
};

/* The folder for the tree at path, malloced; NULL: no memory. */
char *firmware_folder(const struct firmware *fw, const char *path);

/*
 * Packs what is there of the name for a kernel of this version. *found: how many files. 0 or
 * negative errno, already reported.
 */
int firmware_add(struct firmware *fw, struct pack *p, const char *folder, const char *version,
		 const char *name, size_t *found) _must_check_;

void firmware_deinit(struct firmware *fw);

#endif
