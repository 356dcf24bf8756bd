/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a client hears (see serve-client.h): a reader that takes bytes as they come. */
#include "serve-client.h"

#include "proto/wire.h"

#include <string.h>

static void expect(struct client *c, int state, size_t need)
{
	c->rx = state;
	c->need = need;
	c->have = 0;
	c->left = 0;
}

static void expect_reply(struct client *c)
{
	expect(c, RX_REPLY, c->wire.extended ? NBD_EXTENDED_CHUNK_SIZE : NBD_SIMPLE_REPLY_SIZE);
}

static void admit(struct client *c, uint64_t size, uint16_t flags)
{
	must(size == IMAGE_SIZE && c->export < EXPORTS);
	must(!(flags & NBD_FLAG_READ_ONLY) == client_is_writing(c));
	c->info = (struct nbd_export_info){
		.size = size,
		.flags = flags,
		.block_min = NBD_DEFAULT_BLOCK_MIN,
		.block_max = NBD_DEFAULT_BLOCK_MAX,
	};
	image_fence(c);
	c->admitted = ++play.seq;
	expect_reply(c);
}

static void on_option_reply(struct client *c)
{
	struct wire_reader r = wire_reader(c->in, c->have);

	if (c->is_raw) {
		expect(c, RX_OPTION, 20);
		return;
	}
	if (c->option_reply == NBD_REP_INFO && wire_u16(&r) == NBD_INFO_EXPORT) {
		c->info.size = wire_u64(&r);
		c->info.flags = wire_u16(&r);
		must(!r.bad);
	}
	expect(c, RX_OPTION, 20);
	if (c->option_reply & NBD_REP_FLAG_ERROR) {
		/* A session that is refused is refused again by GO; no other option may be. */
		must(c->option == NBD_OPT_GO || c->option == NBD_OPT_X_NBDROOT_SESSION ||
		     c->export >= EXPORTS);
		if (c->option == NBD_OPT_GO)
			c->is_refused = true;
	} else if (c->option == NBD_OPT_GO && c->option_reply == NBD_REP_ACK) {
		admit(c, c->info.size, c->info.flags);
	}
	if (c->is_refused)
		c->rx = RX_ANYTHING;
}

static void on_option_head(struct client *c)
{
	struct wire_reader r = wire_reader(c->in, c->have);
	uint64_t magic = wire_u64(&r);
	uint32_t size;

	c->option = wire_u32(&r);
	c->option_reply = wire_u32(&r);
	size = wire_u32(&r);
	if (c->is_raw && magic != UINT64_C(0x3e889045565a9)) { /* NBD_OPT_EXPORT_NAME */
		c->rx = RX_ANYTHING;
		return;
	}
	must(magic == UINT64_C(0x3e889045565a9) && size <= 8192);
	if (c->is_raw && c->option == NBD_OPT_GO && c->option_reply == NBD_REP_ACK) {
		c->rx = RX_ANYTHING;
		return;
	}
	expect(c, RX_OPTION_DATA, size < WHOLE_OPTION ? size : WHOLE_OPTION);
	c->left = size - c->need;
}

/* The answer to c->now has come to its end. */
static void answered(struct client *c, uint32_t error)
{
	struct asked *a = c->now;
	uint32_t due = nbd_request_check(&a->req, &c->info, &c->wire);
	bool is_slow = a->req.type == NBD_CMD_WRITE_ZEROES && a->req.flags & NBD_CMD_FLAG_FAST_ZERO;

	if (error != due && !(due == NBD_OK && error == NBD_ENOTSUP && is_slow))
		fail("error %u, and not %u, for command %u, flags %#x, offset %llu, length %llu",
		     error, due, a->req.type, a->req.flags, (unsigned long long)a->req.offset,
		     (unsigned long long)a->req.length);
	if (error == NBD_OK && a->req.type == NBD_CMD_READ)
		must(a->covered == a->req.length);
	a->is_answered = true;
	c->n_answered++;
	if (a->change)
		image_change_ended(a->change, error == NBD_OK);
	expect_reply(c);
}

static void find_asked(struct client *c, uint64_t cookie)
{
	for (unsigned i = 0; i < c->n_asked; i++)
		if (!c->asked[i].is_answered && c->asked[i].req.cookie == cookie) {
			c->now = &c->asked[i];
			must(c->now->is_whole);
			return;
		}
	fail("a reply to nothing that was asked: cookie %llx", (unsigned long long)cookie);
}

static void expect_data(struct client *c, uint64_t offset, uint64_t size)
{
	must(size <= c->now->req.length - c->now->covered);
	must(offset >= c->now->req.offset &&
	     offset - c->now->req.offset <= c->now->req.length - size);
	expect(c, RX_READ, 0);
	c->at = offset;
	c->left = size;
	c->now->covered += size;
}

static void on_simple(struct client *c)
{
	struct nbd_simple_reply reply;

	must(nbd_simple_reply_decode(&reply, c->in));
	find_asked(c, reply.cookie);
	must(!c->wire.structured || (c->now->req.type != NBD_CMD_READ &&
				     (reply.error || c->now->req.type != NBD_CMD_BLOCK_STATUS)));
	c->is_done = true;
	if (reply.error == NBD_OK && c->now->req.type == NBD_CMD_READ && c->now->req.length > 0)
		expect_data(c, c->now->req.offset, c->now->req.length);
	else
		answered(c, reply.error);
}

static void on_chunk(struct client *c)
{
	struct nbd_chunk chunk;

	must(nbd_chunk_decode(&chunk, &c->wire, c->in));
	find_asked(c, chunk.cookie);
	must(!c->wire.extended || chunk.offset == c->now->req.offset);
	c->is_done = chunk.flags & NBD_REPLY_FLAG_DONE;
	must((chunk.flags & ~NBD_REPLY_FLAG_DONE) == 0);
	switch (chunk.type) {
	case NBD_REPLY_TYPE_NONE:
		must(chunk.length == 0 && c->is_done && c->now->req.type != NBD_CMD_BLOCK_STATUS);
		answered(c, NBD_OK);
		return;
	case NBD_REPLY_TYPE_OFFSET_DATA:
		must(chunk.length > 8 && c->now->req.type == NBD_CMD_READ);
		expect(c, RX_READ_OFFSET, 8);
		c->left = chunk.length - 8;
		return;
	case NBD_REPLY_TYPE_ERROR:
		must(chunk.length >= 6 && chunk.length < 4096 && c->is_done);
		expect(c, RX_ERROR, 6);
		c->left = chunk.length - 6;
		return;
	case NBD_REPLY_TYPE_BLOCK_STATUS:
	case NBD_REPLY_TYPE_BLOCK_STATUS_EXT: {
		size_t head = c->wire.extended ? 8 : 4, each = 2 * head;

		must(c->wire.extended == (chunk.type == NBD_REPLY_TYPE_BLOCK_STATUS_EXT));
		must(c->now->req.type == NBD_CMD_BLOCK_STATUS && c->is_done);
		must(chunk.length > head && (chunk.length - head) % each == 0);
		c->extents_left = (chunk.length - head) / each;
		c->extent_at = 0;
		must(!(c->now->req.flags & NBD_CMD_FLAG_REQ_ONE) || c->extents_left == 1);
		expect(c, RX_STATUS, head);
		return;
	}
	default: fail("a chunk of type %u", chunk.type);
	}
}

/* Of structured replies those without data may be simple. */
static void on_reply(struct client *c)
{
	struct nbd_simple_reply reply;

	if (c->wire.extended || c->need == NBD_STRUCTURED_CHUNK_SIZE)
		on_chunk(c);
	else if (!c->wire.structured || nbd_simple_reply_decode(&reply, c->in))
		on_simple(c);
	else
		c->need = NBD_STRUCTURED_CHUNK_SIZE;
}

static void on_extent(struct client *c)
{
	uint64_t start = c->now->req.offset + c->extent_at;
	struct nbd_extent extent;

	nbd_extent_decode(&extent, &c->wire, c->in);
	must(extent.length > 0 && c->extent_at < c->now->req.length);
	must(!(c->now->req.flags & NBD_CMD_FLAG_REQ_ONE) || extent.length <= c->now->req.length);
	must(extent.flags == 0 || extent.flags == (NBD_STATE_HOLE | NBD_STATE_ZERO));
	if (c->export == EXPORT_RO && extent.flags != 0)
		must(image_read_only_byte(start) == 0 &&
		     image_read_only_byte(start + extent.length / 2) == 0 &&
		     image_read_only_byte(start + extent.length - 1) == 0);
	c->extent_at += extent.length;
	if (--c->extents_left == 0)
		answered(c, NBD_OK);
	else
		expect(c, RX_EXTENT, c->need);
}

/* c->need bytes are there. */
static void on_whole(struct client *c)
{
	struct wire_reader r = wire_reader(c->in, c->have);

	switch (c->rx) {
	case RX_GREETING:
		must(memcmp(c->in, "NBDMAGICIHAVEOPT", 16) == 0);
		if (c->uses_name && c->mode == 0 && !c->has_session)
			expect(c, RX_NAME, 10);
		else
			expect(c, RX_OPTION, 20);
		return;
	case RX_OPTION: on_option_head(c); return;
	case RX_OPTION_DATA:
	case RX_WORDS:
	case RX_READ: return; /* when c->left is 0 */
	case RX_NAME: {
		uint64_t size = wire_u64(&r);

		admit(c, size, wire_u16(&r));
		return;
	}
	case RX_REPLY: on_reply(c); return;
	case RX_READ_OFFSET: expect_data(c, wire_u64(&r), c->left); return;
	case RX_ERROR: {
		uint32_t error = wire_u32(&r);
		uint64_t left = c->left;

		must(error != NBD_OK && wire_u16(&r) <= left);
		c->option_reply = error;
		expect(c, RX_WORDS, 0);
		c->left = left;
		return;
	}
	case RX_STATUS:
		(void)wire_u32(&r);
		must(!c->wire.extended || wire_u32(&r) == c->extents_left);
		expect(c, RX_EXTENT, c->wire.extended ? 16 : 8);
		return;
	case RX_EXTENT: on_extent(c); return;
	case RX_ANYTHING: return;
	}
}

static bool has_tail(const struct client *c)
{
	return c->rx == RX_OPTION_DATA || c->rx == RX_WORDS || c->rx == RX_READ;
}

static void on_tail(struct client *c)
{
	if (c->rx == RX_OPTION_DATA)
		on_option_reply(c);
	else if (c->rx == RX_WORDS)
		answered(c, c->option_reply);
	else if (c->is_done)
		answered(c, NBD_OK);
	else
		expect_reply(c);
}

void client_hear(struct client *c, const uint8_t *data, size_t size)
{
	while (c->rx != RX_ANYTHING) {
		size_t n = c->need - c->have;

		n = n < size ? n : size;
		memcpy(c->in + c->have, data, n);
		c->have += n;
		data += n;
		size -= n;
		if (c->have < c->need)
			return;
		if (c->need > 0 && !has_tail(c)) {
			on_whole(c);
			continue;
		}
		n = c->left < size ? (size_t)c->left : size;
		if (n > 0 && c->rx == RX_READ)
			image_check(c, data, n);
		c->at += n;
		c->left -= n;
		data += n;
		size -= n;
		if (c->left > 0)
			return;
		on_tail(c);
	}
}

void client_expect_greeting(struct client *c)
{
	expect(c, RX_GREETING, 18);
}

void client_hear_end(struct client *c)
{
	c->is_at_eof = true;
	if (c->is_raw || c->is_cut || c->is_broken)
		return;
	if (c->admitted == 0) { /* another has it, or there is none */
		must(c != play.clients || c->export >= EXPORTS || c->ending == END_INSIDE);
		return;
	}
	must(c->rx == RX_REPLY && c->have == 0);
	must(c->is_over || c->tx_sent == c->tx_size);
	for (unsigned i = 0; i < c->n_asked; i++)
		if (c->asked[i].is_whole && !c->asked[i].is_answered)
			fail("command %u, number %u of %u, was not answered", c->asked[i].req.type,
			     i, c->n_asked);
}
