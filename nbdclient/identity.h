/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What makes an export the same one as before: size, flags, block sizes and the UUID of an
 * ext2/3/4 file system; and, as far as its superblock tells, that it is not an older copy. Compared
 * before a new connection is given to the kernel, because a write into another image cannot be
 * taken back. Pure.
 */
#ifndef NBDCLIENT_IDENTITY_H
#define NBDCLIENT_IDENTITY_H

#include "base/cleanup.h"
#include "proto/nbd.h"

#include <stdbool.h>

enum {
	/* The superblock lies at 1024 and is 1024 bytes long, whatever the block size is. */
	IDENTITY_HEAD_SIZE = 4096,
	IDENTITY_WHY_MAX = 200,
};

struct identity {
	struct nbd_export_info info;
	bool has_uuid;
	uint8_t uuid[16];
	/* of the same superblock; each mount moves both forward, clocks and e2fsck willing */
	uint32_t mount_time_s;
	uint16_t mount_count;
};

/*
 * Takes what the superblock says from the first IDENTITY_HEAD_SIZE bytes of the export; without an
 * ext superblock there is none.
 */
void identity_read_head(struct identity *id, const uint8_t head[static IDENTITY_HEAD_SIZE]);

/* What identity_read_head() said of one, for another of the same export. */
void identity_take_head(struct identity *id, const struct identity *from);

/*
 * Whether now may go on where first began. False: why says the difference, for a person. A
 * superset of flags is the same; a first session without a file system says nothing of UUIDs.
 */
bool identity_same(const struct identity *first, const struct identity *now,
		   char why[static IDENTITY_WHY_MAX]);

#endif
