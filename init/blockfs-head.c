/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The pure half of blockfs.h: what the first bytes of a device say, and what mount options mean. */
#include "blockfs.h"

#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

#ifndef MS_LAZYTIME
#define MS_LAZYTIME (1 << 25)
#endif

enum { EXT_SUPERBLOCK = 0x400, EXT_SUPERBLOCK_SIZE = 0x400 };

static uint32_t le32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/*
 * The three ext file systems differ in their feature sets only (Documentation/filesystems/ext4).
 * Mounted as "ext3", the driver keeps to what an ext3 of old would do.
 */
static const char *ext_type(const uint8_t *superblock)
{
	enum {
		COMPAT_JOURNAL = 0x4,
		INCOMPAT_EXT3 = 0x2 | 0x4 | 0x10, /* filetype, recover, meta_bg */
		RO_COMPAT_EXT3 = 0x1 | 0x2 | 0x4, /* sparse_super, large_file, btree_dir */
	};
	bool has_journal = (le32(superblock + 0x5c) & COMPAT_JOURNAL) != 0;
	bool is_old = (le32(superblock + 0x60) & ~(uint32_t)INCOMPAT_EXT3) == 0 &&
		      (le32(superblock + 0x64) & ~(uint32_t)RO_COMPAT_EXT3) == 0;

	return has_journal && is_old ? "ext3" : "ext4";
}

void blockfs_ext_state(const uint8_t *head, size_t size, struct blockfs_ext_state *out)
{
	enum { STATE_VALID = 0x1, STATE_ERRORS = 0x2, COMPAT_JOURNAL = 0x4 };
	const uint8_t *superblock = head + EXT_SUPERBLOCK;
	unsigned int state;

	*out = (struct blockfs_ext_state){ 0 };
	if (size < EXT_SUPERBLOCK + EXT_SUPERBLOCK_SIZE ||
	    memcmp(superblock + 0x38, "\x53\xef", 2) != 0)
		return;
	state = superblock[0x3a] | (unsigned int)superblock[0x3b] << 8;
	out->is_ext = true;
	out->has_errors = (state & STATE_ERRORS) != 0;
	out->is_unclean = (state & STATE_VALID) == 0;
	out->has_journal = (le32(superblock + 0x5c) & COMPAT_JOURNAL) != 0;
}

const char *blockfs_type(const uint8_t *head, size_t size)
{
	static const struct {
		const char *type;
		size_t offset;
		const char *mark;
		size_t mark_size;
	} known[] = {
		{ "ext4", 0x438, "\x53\xef", 2 },    { "xfs", 0, "XFSB", 4 },
		{ "squashfs", 0, "hsqs", 4 },        { "erofs", 0x400, "\xe2\xe1\xf5\xe0", 4 },
		{ "btrfs", 0x10040, "_BHRfS_M", 8 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (size < known[i].offset + known[i].mark_size ||
		    memcmp(head + known[i].offset, known[i].mark, known[i].mark_size) != 0)
			continue;
		if (known[i].offset == 0x438 && size >= 0x468)
			return ext_type(head + EXT_SUPERBLOCK);
		return known[i].type;
	}
	return NULL;
}

int blockfs_options(const char *options, unsigned long *flags, char data[static BLOCKFS_DATA_MAX])
{
	static const struct {
		const char *name;
		unsigned long set, clear;
	} known[] = {
		{ "defaults", 0, 0 },
		{ "auto", 0, 0 },
		{ "noauto", 0, 0 },
		{ "_netdev", 0, 0 },
		{ "nofail", 0, 0 },
		{ "ro", MS_RDONLY, 0 },
		{ "rw", 0, MS_RDONLY },
		{ "sync", MS_SYNCHRONOUS, 0 },
		{ "async", 0, MS_SYNCHRONOUS },
		{ "dirsync", MS_DIRSYNC, 0 },
		{ "suid", 0, MS_NOSUID },
		{ "nosuid", MS_NOSUID, 0 },
		{ "dev", 0, MS_NODEV },
		{ "nodev", MS_NODEV, 0 },
		{ "exec", 0, MS_NOEXEC },
		{ "noexec", MS_NOEXEC, 0 },
		{ "atime", 0, MS_NOATIME },
		{ "noatime", MS_NOATIME, 0 },
		{ "nodiratime", MS_NODIRATIME, 0 },
		{ "relatime", MS_RELATIME, 0 },
		{ "strictatime", MS_STRICTATIME, 0 },
		{ "lazytime", MS_LAZYTIME, 0 },
	};
	size_t used = 0;

	data[0] = '\0';
	for (const char *word = options; word != NULL && *word != '\0';) {
		size_t size = strcspn(word, ","), i;

		for (i = 0; i < ARRAY_SIZE(known); i++)
			if (strlen(known[i].name) == size && memcmp(known[i].name, word, size) == 0)
				break;
		if (i < ARRAY_SIZE(known)) {
			*flags = (*flags | known[i].set) & ~known[i].clear;
		} else if (size > 0) {
			if (size + 2 > BLOCKFS_DATA_MAX - used)
				return -ENOSPC;
			if (used > 0)
				data[used++] = ',';
			memcpy(data + used, word, size);
			used += size;
			data[used] = '\0';
		}
		word += size;
		word += *word == ',';
	}
	return 0;
}
