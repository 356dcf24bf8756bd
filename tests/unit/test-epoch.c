/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a server says of itself, and when a client must not go on. */
#include "nbdclient/epoch.h"
#include "tests/unit/tap.h"

static struct epoch epoch(uint8_t boot, uint8_t image, enum nbd_durability durability)
{
	struct nbd_session_reply reply = { .durability = durability };

	memset(reply.boot_id, boot, sizeof(reply.boot_id));
	memset(reply.image_id, image, sizeof(reply.image_id));
	return epoch_of(&reply);
}

static const struct identity writable = { .info.flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH };
static const struct identity readable = { .info.flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_READ_ONLY };
static const struct epoch unknown;
static char why[EPOCH_WHY_MAX];

TEST(restarted_server_on_the_same_boot_of_its_host_has_lost_nothing)
{
	struct epoch before = epoch(1, 7, NBD_DURABILITY_FLUSH), now = before;

	CHECK_EQ(epoch_compare(&before, &now, &writable, why), EPOCH_SAME);
}

TEST(rebooted_server_that_did_not_write_through_may_have_lost_writes)
{
	struct epoch before = epoch(1, 7, NBD_DURABILITY_FLUSH);
	struct epoch now = epoch(2, 7, NBD_DURABILITY_FLUSH);

	CHECK_EQ(epoch_compare(&before, &now, &writable, why), EPOCH_UNSAFE);
	CHECK_STR(why, "server lost power with unflushed writes");
	now.durability = NBD_DURABILITY_WRITE; /* since when? */
	CHECK_EQ(epoch_compare(&before, &now, &writable, why), EPOCH_UNSAFE);
}

TEST(rebooted_server_that_wrote_through_has_lost_nothing)
{
	struct epoch before = epoch(1, 7, NBD_DURABILITY_WRITE);
	struct epoch now = epoch(2, 7, NBD_DURABILITY_FLUSH);

	CHECK_EQ(epoch_compare(&before, &now, &writable, why), EPOCH_SAME);
}

TEST(nothing_can_be_lost_of_what_is_only_read)
{
	struct epoch before = epoch(1, 7, NBD_DURABILITY_FLUSH);
	struct epoch now = epoch(2, 7, NBD_DURABILITY_FLUSH);

	CHECK_EQ(epoch_compare(&before, &now, &readable, why), EPOCH_SAME);
}

TEST(server_of_another_kind_cannot_say_what_was_lost)
{
	struct epoch before = epoch(1, 7, NBD_DURABILITY_FLUSH);

	CHECK_EQ(epoch_compare(&before, &unknown, &writable, why), EPOCH_UNSAFE);
	before.durability = NBD_DURABILITY_WRITE;
	CHECK_EQ(epoch_compare(&before, &unknown, &writable, why), EPOCH_SAME);
	CHECK_EQ(epoch_compare(&unknown, &before, &writable, why), EPOCH_SAME);
	CHECK_EQ(epoch_compare(&unknown, &unknown, &writable, why), EPOCH_SAME);
}

TEST(other_image_is_another_one_but_for_a_file_system_that_we_made)
{
	struct epoch before = epoch(1, 7, NBD_DURABILITY_WRITE);
	struct epoch now = epoch(1, 8, NBD_DURABILITY_WRITE);
	struct identity made = writable;

	CHECK_EQ(epoch_compare(&before, &now, &writable, why), EPOCH_DIFFERENT);
	made.has_uuid = true;
	memset(made.uuid, 8, sizeof(made.uuid));
	CHECK_EQ(epoch_compare(&before, &now, &made, why), EPOCH_SAME);
	now = epoch(1, 0, NBD_DURABILITY_WRITE); /* not known */
	CHECK_EQ(epoch_compare(&before, &now, &writable, why), EPOCH_SAME);
}

TEST(image_that_took_the_others_place_is_another_one)
{
	struct epoch before = epoch(1, 7, NBD_DURABILITY_WRITE), now = before;

	before.image_generation = 3;
	CHECK_EQ(epoch_compare(&before, &now, &writable, why), EPOCH_SAME); /* not counted now */
	now.image_generation = 4;
	CHECK_EQ(epoch_compare(&before, &now, &writable, why), EPOCH_DIFFERENT);
}
