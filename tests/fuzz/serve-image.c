/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What there may be on the images (see serve-client.h): only places of what is read are looked at.
 */
#include "serve-client.h"

enum { CHANGES = 128 };

/* A write, zeroing or trim, and when it was asked for and had ended. */
static struct change {
	unsigned export;
	uint64_t offset, length, sent, ended;
	int value; /* of each byte; -1: any */
	bool is_certain;
	const struct client *by;
} changes[CHANGES];
static unsigned n_changes;
static bool is_lost; /* there were too many */

/* Islands of data in a sea of holes. */
uint8_t image_read_only_byte(uint64_t offset)
{
	bool is_island = offset < 4 * 1024 * 1024 && offset / 65536 % 3 == 0;

	return is_island ? (uint8_t)(1 + (offset / 512 * 7 + offset) % 255) : 0;
}

void image_forget_changes(void)
{
	n_changes = 0;
	is_lost = false;
}

static bool is_inside(uint64_t at, uint64_t offset, uint64_t length)
{
	return at >= offset && at - offset < length;
}

/* Whether a read that was asked for at `sent`, and is answered now, may have found a byte. */
static bool may_be(unsigned export, uint64_t at, uint8_t byte, uint64_t sent)
{
	uint64_t since = 0; /* what had ended before this was written over */

	if (export == EXPORT_RO)
		return byte == image_read_only_byte(at);
	for (unsigned i = 0; i < n_changes; i++) {
		const struct change *c = &changes[i];

		if (c->export == export && c->is_certain && c->ended < sent && c->sent > since &&
		    is_inside(at, c->offset, c->length))
			since = c->sent;
	}
	if (byte == 0 && since == 0)
		return true; /* as it was in the beginning */
	for (unsigned i = 0; i < n_changes; i++) {
		const struct change *c = &changes[i];

		if (c->export == export && c->ended >= since &&
		    (c->value < 0 || c->value == byte) && is_inside(at, c->offset, c->length))
			return true;
	}
	return false;
}

void image_check(const struct client *c, const uint8_t *data, size_t size)
{
	const size_t places[] = { 0, size / 2, size - 1 };

	for (unsigned i = 0; i < ARRAY_SIZE(places) && !is_lost; i++) {
		uint64_t at = c->at + places[i];

		if (!may_be(c->export, at, data[places[i]], c->now->sent))
			fail("read %#x at %llu of %s, which was never there", data[places[i]],
			     (unsigned long long)at, export_names[c->export]);
	}
}

struct change *image_change(const struct client *c, const struct nbd_request *req)
{
	bool is_change = req->type == NBD_CMD_WRITE || req->type == NBD_CMD_TRIM ||
			 req->type == NBD_CMD_WRITE_ZEROES;

	if (!is_change || is_lost)
		return NULL;
	if (n_changes == CHANGES) {
		is_lost = true;
		return NULL;
	}
	changes[n_changes] = (struct change){
		.export = c->export,
		.offset = req->offset,
		.length = req->length,
		.sent = ++play.seq,
		.ended = UINT64_MAX,
		.value = req->type == NBD_CMD_WRITE_ZEROES ? 0 : -1,
		.by = c,
	};
	return &changes[n_changes++];
}

void image_set_value(struct change *change, uint8_t value)
{
	change->value = value;
}

void image_change_ended(struct change *change, bool is_done)
{
	if (change->ended == UINT64_MAX)
		change->ended = ++play.seq;
	change->is_certain = is_done && change->value >= 0;
	if (!is_done)
		change->length = 0;
}

/* c has the export: of those before it nothing is under way any more. */
void image_fence(const struct client *c)
{
	play.seq++;
	for (unsigned i = 0; i < n_changes; i++)
		if (changes[i].ended == UINT64_MAX && changes[i].by->admitted > 0 &&
		    changes[i].by->admitted < c->opened && client_is_rival(changes[i].by, c))
			changes[i].ended = play.seq;
}
