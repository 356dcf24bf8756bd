/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See epoch.h. */
#include "epoch.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static bool is_zero(const uint8_t id[static NBD_SESSION_ID_SIZE])
{
	static const uint8_t zero[NBD_SESSION_ID_SIZE];

	return memcmp(id, zero, sizeof(zero)) == 0;
}

static bool is_equal(const uint8_t a[static NBD_SESSION_ID_SIZE],
		     const uint8_t b[static NBD_SESSION_ID_SIZE])
{
	return memcmp(a, b, NBD_SESSION_ID_SIZE) == 0;
}

struct epoch epoch_of(const struct nbd_session_reply *reply)
{
	struct epoch e = { .is_known = reply != NULL };

	if (!reply)
		return e;
	memcpy(e.boot_id, reply->boot_id, sizeof(e.boot_id));
	memcpy(e.image_id, reply->image_id, sizeof(e.image_id));
	e.image_generation = reply->generation;
	e.durability = reply->durability;
	return e;
}

/* An image id may be the file system's UUID: then it changes when a new one is made, by us. */
static bool is_other_image(const struct epoch *before, const struct epoch *now,
			   const struct identity *first)
{
	if (is_zero(before->image_id) || is_zero(now->image_id) ||
	    is_equal(before->image_id, now->image_id))
		return false;
	return !first->has_uuid || !is_equal(now->image_id, first->uuid);
}

enum epoch_verdict epoch_compare(const struct epoch *before, const struct epoch *now,
				 const struct identity *first, char why[static EPOCH_WHY_MAX])
{
	if (!before->is_known)
		return EPOCH_SAME;
	if (now->is_known && is_other_image(before, now, first)) {
		snprintf(why, EPOCH_WHY_MAX, "the server says that it is another image");
		return EPOCH_DIFFERENT;
	}
	if (now->is_known && before->image_generation != 0 && now->image_generation != 0 &&
	    before->image_generation != now->image_generation) {
		snprintf(why, EPOCH_WHY_MAX,
			 "the server says that another image has taken its place (generation "
			 "%" PRIu64 ", not %" PRIu64 ")",
			 now->image_generation, before->image_generation);
		return EPOCH_DIFFERENT;
	}
	if (before->durability == NBD_DURABILITY_WRITE || first->info.flags & NBD_FLAG_READ_ONLY)
		return EPOCH_SAME;
	if (!now->is_known) {
		snprintf(why, EPOCH_WHY_MAX,
			 "another kind of server has it now, and cannot say whether the last one "
			 "lost power with unflushed writes");
		return EPOCH_UNSAFE;
	}
	if (is_equal(before->boot_id, now->boot_id) && !is_zero(now->boot_id))
		return EPOCH_SAME;
	snprintf(why, EPOCH_WHY_MAX, "server lost power with unflushed writes");
	return EPOCH_UNSAFE;
}
