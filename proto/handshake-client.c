/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See handshake-client.h. */
#include "handshake-client.h"

#include "wire.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum {
	GREETING_SIZE = 8 + 8 + 2,
	REPLY_HEAD_SIZE = 8 + 4 + 4 + 4,
	EXPORT_NAME_REPLY_SIZE = 8 + 2,
	EXPORT_NAME_ZEROES = 124,
	/* "Block size constraints": the minimum is a power of two of at most 2^16. */
	BLOCK_MIN_LIMIT = 65536,
};

static void set_state(struct nbd_hsc *h, int state, size_t want)
{
	h->state = state;
	h->have = 0;
	h->want = want;
}

static enum nbd_hsc_result ended(struct nbd_hsc *h, enum nbd_hsc_result result)
{
	set_state(h, NBD_HSC_ENDED, 0);
	return result;
}

/* Everything sent before has gone out when a reply arrives: the buffer starts anew. */
static struct wire_writer output(struct nbd_hsc *h)
{
	struct wire_writer w = wire_writer(h->out, sizeof(h->out));

	if (h->out_sent == h->out_used) {
		h->out_sent = 0;
		h->out_used = 0;
	}
	w.p += h->out_used;
	return w;
}

static void output_done(struct nbd_hsc *h, const struct wire_writer *w)
{
	assert(!w->full); /* NBD_HSC_OUT_MAX is the sum of what is written */
	h->out_used = wire_used(w);
}

static void put_option(struct wire_writer *w, uint32_t option, size_t size)
{
	wire_put_u64(w, NBD_IHAVEOPT);
	wire_put_u32(w, option);
	wire_put_u32(w, (uint32_t)size);
}

static void send_abort(struct nbd_hsc *h)
{
	struct wire_writer w = output(h);

	put_option(&w, NBD_OPT_ABORT, 0);
	output_done(h, &w);
}

static void put_export_name(struct nbd_hsc *h, struct wire_writer *w)
{
	put_option(w, NBD_OPT_EXPORT_NAME, strlen(h->name));
	wire_put_bytes(w, h->name, strlen(h->name));
	h->option = NBD_OPT_EXPORT_NAME;
	h->used_export_name = true;
	set_state(h, NBD_HSC_EXPORT_NAME_REPLY,
		  EXPORT_NAME_REPLY_SIZE +
			  (h->server_flags & NBD_FLAG_NO_ZEROES ? 0 : EXPORT_NAME_ZEROES));
}

static void put_info_or_go(struct nbd_hsc *h, struct wire_writer *w)
{
	static const uint16_t requests[] = { NBD_INFO_BLOCK_SIZE, NBD_INFO_NAME,
					     NBD_INFO_DESCRIPTION };
	uint16_t count = h->goal == NBD_HSC_GOAL_GO ? 1 : 3;
	size_t length = strlen(h->name);

	h->option = h->goal == NBD_HSC_GOAL_GO ? NBD_OPT_GO : NBD_OPT_INFO;
	put_option(w, h->option, 4 + length + 2 + (size_t)count * 2);
	wire_put_u32(w, (uint32_t)length);
	wire_put_bytes(w, h->name, length);
	wire_put_u16(w, count);
	for (size_t i = 0; i < count; i++)
		wire_put_u16(w, requests[i]);
	set_state(h, NBD_HSC_REPLY_HEAD, REPLY_HEAD_SIZE);
}

static void put_session(struct nbd_hsc *h, struct wire_writer *w)
{
	uint8_t data[NBD_SESSION_MAX];
	size_t size = nbd_session_encode(data, &h->session, h->name);

	h->option = NBD_OPT_X_NBDROOT_SESSION;
	put_option(w, h->option, size);
	wire_put_bytes(w, data, size);
	set_state(h, NBD_HSC_REPLY_HEAD, REPLY_HEAD_SIZE);
}

bool nbd_hsc_init(struct nbd_hsc *h, enum nbd_hsc_goal goal, const char *name)
{
	size_t length = strlen(name);

	memset(h, 0, sizeof(*h));
	if (length > NBD_STRING_MAX)
		return false;
	memcpy(h->name, name, length + 1);
	h->goal = goal;
	h->info.block_min = NBD_DEFAULT_BLOCK_MIN;
	h->info.block_preferred = NBD_DEFAULT_BLOCK_PREFERRED;
	h->info.block_max = NBD_DEFAULT_BLOCK_MAX;
	set_state(h, NBD_HSC_GREETING, GREETING_SIZE);
	return true;
}

bool nbd_hsc_set_session(struct nbd_hsc *h, const struct nbd_session *session)
{
	uint8_t data[NBD_SESSION_MAX];

	assert(h->goal == NBD_HSC_GOAL_GO && h->state == NBD_HSC_GREETING);
	if (nbd_session_encode(data, session, h->name) == 0)
		return false;
	h->session = *session;
	h->has_session = true;
	return true;
}

size_t nbd_hsc_want(const struct nbd_hsc *h)
{
	return h->want - h->have;
}

const uint8_t *nbd_hsc_output(const struct nbd_hsc *h, size_t *size)
{
	*size = h->out_used - h->out_sent;
	return h->out + h->out_sent;
}

void nbd_hsc_sent(struct nbd_hsc *h, size_t size)
{
	assert(size <= h->out_used - h->out_sent);
	h->out_sent += size;
}

static enum nbd_hsc_result on_greeting(struct nbd_hsc *h, struct wire_reader *r)
{
	struct wire_writer w = output(h);
	uint64_t magic;

	if (wire_u64(r) != NBD_MAGIC)
		return ended(h, NBD_HSC_E_NOT_NBD);
	magic = wire_u64(r);
	if (magic == NBD_OLDSTYLE_MAGIC)
		return ended(h, NBD_HSC_E_OLDSTYLE);
	if (magic != NBD_IHAVEOPT)
		return ended(h, NBD_HSC_E_NOT_NBD);
	h->server_flags = wire_u16(r);

	/* "Client flags": only what the server offered may be set. */
	wire_put_u32(&w, h->server_flags & (NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES));
	if (!(h->server_flags & NBD_FLAG_FIXED_NEWSTYLE)) {
		/* Not fixed: an option it does not know may end the session; there is one. */
		if (h->goal != NBD_HSC_GOAL_GO) {
			h->rep_error = NBD_REP_ERR_UNSUP;
			return ended(h, NBD_HSC_E_REFUSED);
		}
		put_export_name(h, &w);
	} else if (h->goal == NBD_HSC_GOAL_LIST) {
		h->option = NBD_OPT_LIST;
		put_option(&w, NBD_OPT_LIST, 0);
		set_state(h, NBD_HSC_REPLY_HEAD, REPLY_HEAD_SIZE);
	} else if (h->has_session) {
		put_session(h, &w);
	} else {
		put_info_or_go(h, &w);
	}
	output_done(h, &w);
	return NBD_HSC_MORE;
}

static enum nbd_hsc_result on_reply_head(struct nbd_hsc *h, struct wire_reader *r)
{
	uint64_t magic = wire_u64(r);
	uint32_t option = wire_u32(r);
	uint32_t length;

	h->reply = wire_u32(r);
	length = wire_u32(r);
	if (magic != NBD_OPTION_REPLY_MAGIC || option != h->option || length > NBD_HSC_DATA_MAX)
		return ended(h, NBD_HSC_E_MALFORMED);
	set_state(h, NBD_HSC_REPLY_DATA, length);
	return NBD_HSC_MORE;
}

static bool copy_string(char out[static NBD_STRING_MAX + 1], struct wire_reader *r, size_t size)
{
	const uint8_t *p = wire_bytes(r, size);

	if (!p || size > NBD_STRING_MAX || memchr(p, '\0', size))
		return false;
	memcpy(out, p, size);
	out[size] = '\0';
	return true;
}

static bool is_power_of_two(uint32_t v)
{
	return v != 0 && (v & (v - 1)) == 0;
}

static bool take_block_size(struct nbd_hsc *h, struct wire_reader *r)
{
	struct nbd_export_info got = h->info;

	got.block_min = wire_u32(r);
	got.block_preferred = wire_u32(r);
	got.block_max = wire_u32(r);
	if (r->bad || wire_left(r) != 0)
		return false;
	if (!is_power_of_two(got.block_min) || got.block_min > BLOCK_MIN_LIMIT ||
	    !is_power_of_two(got.block_preferred) || got.block_preferred < got.block_min ||
	    got.block_max < got.block_min)
		return false;
	h->info = got;
	h->has_block_size = true;
	return true;
}

static bool take_info(struct nbd_hsc *h, struct wire_reader *r)
{
	uint16_t type = wire_u16(r);
	uint64_t size;
	uint16_t flags;

	if (r->bad)
		return false;
	switch (type) {
	case NBD_INFO_EXPORT:
		size = wire_u64(r);
		flags = wire_u16(r);
		if (r->bad || wire_left(r) != 0 || size > INT64_MAX)
			return false;
		h->info.size = size;
		h->info.flags = flags;
		h->has_export_info = true;
		return true;
	case NBD_INFO_BLOCK_SIZE: return take_block_size(h, r);
	case NBD_INFO_NAME: return copy_string(h->text, r, wire_left(r));
	case NBD_INFO_DESCRIPTION: return copy_string(h->text2, r, wire_left(r));
	default: return true; /* "the client MUST ignore information it does not know" */
	}
}

/* The server has said all that it has to say of the session: the export itself is next. */
static enum nbd_hsc_result after_session(struct nbd_hsc *h)
{
	struct wire_writer w = output(h);

	put_info_or_go(h, &w);
	output_done(h, &w);
	return NBD_HSC_MORE;
}

/* Whether an error is the end of it; else the option that it answers was not needed. */
static bool is_final(const struct nbd_hsc *h)
{
	if (h->option != NBD_OPT_X_NBDROOT_SESSION)
		return true;
	/* "If the client receives NBD_REP_ERR_SHUTDOWN it MUST initiate a soft disconnect." */
	return h->reply == NBD_REP_ERR_SHUTDOWN ||
	       (h->has_session_reply && h->session_reply.is_refused);
}

static enum nbd_hsc_result on_error_reply(struct nbd_hsc *h, struct wire_reader *r)
{
	struct wire_writer w = output(h);

	if (h->reply == NBD_REP_ERR_UNSUP && h->option == NBD_OPT_GO) {
		put_export_name(h, &w);
		output_done(h, &w);
		return NBD_HSC_MORE;
	}
	if (!is_final(h))
		return after_session(h);
	/* The words are for people; when they are too long or odd, the number has to do. */
	if (!copy_string(h->text, r, wire_left(r)))
		h->text[0] = '\0';
	h->rep_error = h->reply;
	send_abort(h);
	return ended(h, NBD_HSC_E_REFUSED);
}

static bool take_session_reply(struct nbd_hsc *h, struct wire_reader *r)
{
	size_t size = wire_left(r);

	h->has_session_reply =
		nbd_session_reply_decode(&h->session_reply, wire_bytes(r, size), size);
	return h->has_session_reply;
}

/* An acknowledgement without the reply, or of a refusal, contradicts itself. */
static enum nbd_hsc_result on_session_ack(struct nbd_hsc *h)
{
	if (!h->has_session_reply || h->session_reply.is_refused)
		return ended(h, NBD_HSC_E_MALFORMED);
	return after_session(h);
}

static enum nbd_hsc_result on_reply(struct nbd_hsc *h, struct wire_reader *r)
{
	uint32_t length;

	if (h->reply & NBD_REP_FLAG_ERROR)
		return on_error_reply(h, r);
	if (h->reply == NBD_REP_ACK) {
		if (wire_left(r) != 0)
			return ended(h, NBD_HSC_E_MALFORMED);
		if (h->option == NBD_OPT_X_NBDROOT_SESSION)
			return on_session_ack(h);
		if (h->goal != NBD_HSC_GOAL_LIST && !h->has_export_info)
			return ended(h, NBD_HSC_E_MALFORMED);
		if (h->goal != NBD_HSC_GOAL_GO)
			send_abort(h);
		return ended(h, NBD_HSC_DONE);
	}

	set_state(h, NBD_HSC_REPLY_HEAD, REPLY_HEAD_SIZE);
	if (h->reply == NBD_REP_SERVER && h->option == NBD_OPT_LIST) {
		length = wire_u32(r);
		if (!copy_string(h->text, r, length) || !copy_string(h->text2, r, wire_left(r)))
			return ended(h, NBD_HSC_E_MALFORMED);
		return NBD_HSC_EXPORT;
	}
	if (h->reply == NBD_REP_X_NBDROOT_SESSION && h->option == NBD_OPT_X_NBDROOT_SESSION &&
	    !h->has_session_reply && take_session_reply(h, r))
		return NBD_HSC_MORE;
	if (h->reply == NBD_REP_INFO && (h->option == NBD_OPT_GO || h->option == NBD_OPT_INFO) &&
	    take_info(h, r))
		return NBD_HSC_MORE;
	return ended(h, NBD_HSC_E_MALFORMED);
}

static enum nbd_hsc_result on_export_name_reply(struct nbd_hsc *h, struct wire_reader *r)
{
	h->info.size = wire_u64(r);
	h->info.flags = wire_u16(r);
	h->has_export_info = true;
	if (h->info.size > INT64_MAX)
		return ended(h, NBD_HSC_E_MALFORMED);
	return ended(h, NBD_HSC_DONE);
}

enum nbd_hsc_result nbd_hsc_feed(struct nbd_hsc *h, const void *data, size_t size)
{
	enum nbd_hsc_result result = NBD_HSC_MORE;

	assert(size <= nbd_hsc_want(h));
	memcpy(h->in + h->have, data, size);
	h->have += size;

	while (result == NBD_HSC_MORE && h->state != NBD_HSC_ENDED && h->have == h->want) {
		struct wire_reader r = wire_reader(h->in, h->have);

		switch (h->state) {
		case NBD_HSC_GREETING: result = on_greeting(h, &r); break;
		case NBD_HSC_REPLY_HEAD: result = on_reply_head(h, &r); break;
		case NBD_HSC_REPLY_DATA: result = on_reply(h, &r); break;
		case NBD_HSC_EXPORT_NAME_REPLY: result = on_export_name_reply(h, &r); break;
		case NBD_HSC_ENDED: break;
		}
	}
	return result;
}

const char *nbd_hsc_result_text(enum nbd_hsc_result result)
{
	switch (result) {
	case NBD_HSC_MORE: return "the negotiation goes on";
	case NBD_HSC_EXPORT: return "an export was listed";
	case NBD_HSC_DONE: return "the negotiation is done";
	case NBD_HSC_E_NOT_NBD: return "what answers there is not an NBD server";
	case NBD_HSC_E_OLDSTYLE:
		return "the server speaks the oldstyle protocol of before 2010, which has no "
		       "exports";
	case NBD_HSC_E_MALFORMED:
		return "the server sent something that the NBD protocol does not allow";
	case NBD_HSC_E_REFUSED: return "the server refused";
	}
	return "unknown result";
}
