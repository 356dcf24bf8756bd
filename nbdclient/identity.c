/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See identity.h. */
#include "identity.h"

#include "base/parse.h"
#include "proto/names.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Documentation/filesystems/ext4/super.rst */
enum {
	EXT_SUPERBLOCK = 1024,
	EXT_S_MTIME = EXT_SUPERBLOCK + 0x2c,
	EXT_S_MNT_COUNT = EXT_SUPERBLOCK + 0x34,
	EXT_S_MAGIC = EXT_SUPERBLOCK + 0x38,
	EXT_S_UUID = EXT_SUPERBLOCK + 0x68,
};

void identity_read_head(struct identity *id, const uint8_t head[static IDENTITY_HEAD_SIZE])
{
	id->has_uuid = head[EXT_S_MAGIC] == 0x53 && head[EXT_S_MAGIC + 1] == 0xef;
	if (!id->has_uuid)
		return;
	memcpy(id->uuid, head + EXT_S_UUID, sizeof(id->uuid));
	id->mount_time_s = (uint32_t)head[EXT_S_MTIME] | (uint32_t)head[EXT_S_MTIME + 1] << 8 |
			   (uint32_t)head[EXT_S_MTIME + 2] << 16 |
			   (uint32_t)head[EXT_S_MTIME + 3] << 24;
	id->mount_count =
		(uint16_t)(head[EXT_S_MNT_COUNT] | (unsigned)head[EXT_S_MNT_COUNT + 1] << 8);
}

void identity_take_head(struct identity *id, const struct identity *from)
{
	id->has_uuid = from->has_uuid;
	memcpy(id->uuid, from->uuid, sizeof(id->uuid));
	id->mount_time_s = from->mount_time_s;
	id->mount_count = from->mount_count;
}

bool identity_same(const struct identity *first, const struct identity *now,
		   char why[static IDENTITY_WHY_MAX])
{
	/* What the kernel's queue was set up with and will go on to send. */
	const uint16_t needed = NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_TRIM |
				NBD_FLAG_SEND_WRITE_ZEROES;
	uint16_t lost = first->info.flags & needed & (uint16_t)~now->info.flags;
	char text[100], text2[PARSE_UUID_TEXT];

	if (now->info.size != first->info.size) {
		snprintf(why, IDENTITY_WHY_MAX, "its size is %" PRIu64 " bytes, not %" PRIu64,
			 now->info.size, first->info.size);
		return false;
	}
	if ((now->info.flags ^ first->info.flags) & NBD_FLAG_READ_ONLY) {
		snprintf(why, IDENTITY_WHY_MAX, "it is %s now",
			 now->info.flags & NBD_FLAG_READ_ONLY ? "read-only" : "writable");
		return false;
	}
	if (lost) {
		snprintf(why, IDENTITY_WHY_MAX, "the server no longer offers %s",
			 nbd_flags_text(lost, text, sizeof(text)));
		return false;
	}
	if (now->info.block_min > 512 && now->info.block_min > first->info.block_min) {
		snprintf(why, IDENTITY_WHY_MAX, "its smallest block is %u bytes, not %u",
			 now->info.block_min, first->info.block_min);
		return false;
	}
	if (now->info.block_max < first->info.block_max &&
	    now->info.block_max < NBD_DEFAULT_BLOCK_MAX) {
		snprintf(why, IDENTITY_WHY_MAX, "its largest request is %u bytes, not %u",
			 now->info.block_max, first->info.block_max);
		return false;
	}
	if (first->has_uuid && !now->has_uuid) {
		parse_format_uuid(first->uuid, text2);
		snprintf(why, IDENTITY_WHY_MAX, "the file system %s is not on it", text2);
		return false;
	}
	if (first->has_uuid && memcmp(first->uuid, now->uuid, sizeof(now->uuid)) != 0) {
		parse_format_uuid(first->uuid, text2);
		parse_format_uuid(now->uuid, text);
		snprintf(why, IDENTITY_WHY_MAX, "it holds the file system %s, not %s", text, text2);
		return false;
	}
	/*
	 * Both together: e2fsck sets the count back but not the time, and a client whose clock is
	 * wrong sets the time back but not the count.
	 */
	if (first->has_uuid && now->mount_time_s < first->mount_time_s &&
	    now->mount_count < first->mount_count) {
		snprintf(why, IDENTITY_WHY_MAX,
			 "it is an older copy: last mounted at %u (mount %u), not at %u (mount %u)",
			 now->mount_time_s, now->mount_count, first->mount_time_s,
			 first->mount_count);
		return false;
	}
	return true;
}
