/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See handshake-server.h. */
#include "handshake-server.h"

#include "meta.h"
#include "request.h"
#include "wire.h"

#include <assert.h>
#include <string.h>

enum {
	OPTION_HEAD_SIZE = 8 + 4 + 4,
	EXPORT_NAME_ZEROES = 124,
	/* Of base:allocation, the only context. "clients MUST treat the ID as an opaque value" */
	CONTEXT_ID = 1,
};

static void set_state(struct nbd_hss *h, int state, size_t want)
{
	h->state = state;
	h->have = 0;
	h->want = want;
}

static enum nbd_hss_event next_option(struct nbd_hss *h)
{
	set_state(h, NBD_HSS_OPTION_HEAD, OPTION_HEAD_SIZE);
	return NBD_HSS_MORE;
}

static enum nbd_hss_event ended(struct nbd_hss *h, enum nbd_hss_event event)
{
	set_state(h, NBD_HSS_ENDED, 0);
	return event;
}

static struct wire_writer output(struct nbd_hss *h)
{
	struct wire_writer w = wire_writer(h->out, sizeof(h->out));

	if (h->out_sent == h->out_used) {
		h->out_sent = 0;
		h->out_used = 0;
	}
	w.p += h->out_used;
	return w;
}

static void output_done(struct nbd_hss *h, const struct wire_writer *w)
{
	assert(!w->full); /* the caller sends the output before it feeds or answers again */
	h->out_used = wire_used(w);
}

static void put_reply(struct nbd_hss *h, struct wire_writer *w, uint32_t reply, size_t size)
{
	wire_put_u64(w, NBD_OPTION_REPLY_MAGIC);
	wire_put_u32(w, h->option);
	wire_put_u32(w, reply);
	wire_put_u32(w, (uint32_t)size);
}

static void send_ack(struct nbd_hss *h)
{
	struct wire_writer w = output(h);

	put_reply(h, &w, NBD_REP_ACK, 0);
	output_done(h, &w);
}

static enum nbd_hss_event send_error(struct nbd_hss *h, uint32_t error, const char *text)
{
	size_t length = strlen(text);
	struct wire_writer w;

	if (h->option == NBD_OPT_EXPORT_NAME)
		return ended(h, NBD_HSS_CLOSE);
	if (length > NBD_HSS_TEXT_MAX) {
		length = NBD_HSS_TEXT_MAX;
		/* "Strings" are UTF-8: not cut inside a character */
		while (length > 0 && ((uint8_t)text[length] & 0xc0) == 0x80)
			length--;
	}
	w = output(h);
	put_reply(h, &w, error, length);
	wire_put_bytes(&w, text, length);
	output_done(h, &w);
	return next_option(h);
}

void nbd_hss_init(struct nbd_hss *h)
{
	struct wire_writer w;

	memset(h, 0, sizeof(*h));
	w = output(h);
	wire_put_u64(&w, NBD_MAGIC);
	wire_put_u64(&w, NBD_IHAVEOPT);
	wire_put_u16(&w, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	output_done(h, &w);
	set_state(h, NBD_HSS_CLIENT_FLAGS, 4);
}

size_t nbd_hss_want(const struct nbd_hss *h)
{
	return h->want - h->have;
}

const uint8_t *nbd_hss_output(const struct nbd_hss *h, size_t *size)
{
	*size = h->out_used - h->out_sent;
	return h->out + h->out_sent;
}

void nbd_hss_sent(struct nbd_hss *h, size_t size)
{
	assert(size <= h->out_used - h->out_sent);
	h->out_sent += size;
}

/* ---- questions to the caller ------------------------------------------------------------- */

static enum nbd_hss_event ask(struct nbd_hss *h, enum nbd_hss_event event, const uint8_t *name,
			      size_t size)
{
	/* "Strings": no NUL. With one, a name would not be what it looks like in a log. */
	if (size > NBD_STRING_MAX || memchr(name, '\0', size))
		return send_error(h, NBD_REP_ERR_INVALID, "that is not a valid export name");
	memcpy(h->name, name, size);
	h->name[size] = '\0';
	h->name_size = size;
	set_state(h, NBD_HSS_ASKED, 0);
	return event;
}

/* Whether the export that is being asked for is the one that something was set for. */
static bool is_bound(const struct nbd_hss *h)
{
	return h->name_size == h->bound_size && memcmp(h->name, h->bound, h->name_size) == 0;
}

static void bind_name(struct nbd_hss *h)
{
	memcpy(h->bound, h->name, h->name_size);
	h->bound_size = h->name_size;
}

static enum nbd_hss_event ask_export(struct nbd_hss *h, const uint8_t *name, size_t size)
{
	enum nbd_hss_event event = ask(h, NBD_HSS_ASK_EXPORT, name, size);

	if (event != NBD_HSS_ASK_EXPORT || h->option == NBD_OPT_INFO)
		return event;
	/* "a client that has used NBD_OPT_EXTENDED_HEADERS MUST NOT use this option" */
	if (h->option == NBD_OPT_EXPORT_NAME && h->mode.extended)
		return ended(h, NBD_HSS_CLOSE);
	if (h->has_session && !is_bound(h))
		return send_error(h, NBD_REP_ERR_INVALID, "the session is for another export");
	return event;
}

static enum nbd_hss_event on_info_or_go(struct nbd_hss *h, struct wire_reader *r)
{
	uint32_t name_size = wire_u32(r);
	const uint8_t *name = wire_bytes(r, name_size);
	uint16_t count = wire_u16(r);

	h->wants_name = false;
	h->wants_block_size = false;
	for (uint32_t i = 0; i < count && !r->bad; i++) {
		uint16_t type = wire_u16(r);

		h->wants_name |= type == NBD_INFO_NAME;
		h->wants_block_size |= type == NBD_INFO_BLOCK_SIZE;
	}
	if (r->bad || wire_left(r) != 0)
		return send_error(h, NBD_REP_ERR_INVALID, "the lengths in the option do not agree");
	return ask_export(h, name, name_size);
}

static enum nbd_hss_event on_structured_reply(struct nbd_hss *h, size_t size)
{
	if (size != 0)
		return send_error(h, NBD_REP_ERR_INVALID, "NBD_OPT_STRUCTURED_REPLY takes no data");
	if (h->mode.extended)
		return send_error(h, NBD_REP_ERR_EXT_HEADER_REQD,
				  "extended headers are in use already");
	h->mode.structured = true;
	send_ack(h);
	return next_option(h);
}

static enum nbd_hss_event on_extended_headers(struct nbd_hss *h, size_t size)
{
	if (size != 0)
		return send_error(h, NBD_REP_ERR_INVALID, "NBD_OPT_EXTENDED_HEADERS takes no data");
	h->mode.structured = true;
	h->mode.extended = true;
	send_ack(h);
	return next_option(h);
}

/* is_whole: the data has been kept; else it was too long and has gone by. */
static enum nbd_hss_event on_meta_context(struct nbd_hss *h, size_t size, bool is_whole)
{
	bool is_set = h->option == NBD_OPT_SET_META_CONTEXT;
	struct nbd_meta_query query;

	if (is_set)
		h->has_context = false; /* "replaces ... including when this command fails" */
	if (!h->mode.structured)
		return send_error(h, NBD_REP_ERR_INVALID,
				  "structured replies have to be negotiated before");
	if (!is_whole)
		return send_error(h, NBD_REP_ERR_TOO_BIG, "there are too many queries");
	if (!nbd_meta_decode(&query, h->in, size))
		return send_error(h, NBD_REP_ERR_INVALID, "the lengths in the option do not agree");
	/* "base:" lists all of its namespace and selects nothing; so does no query at all. */
	h->wants_context =
		query.has_base_allocation || (!is_set && (query.has_base || query.count == 0));
	return ask(h, NBD_HSS_ASK_META, query.name, query.name_size);
}

static enum nbd_hss_event on_session(struct nbd_hss *h, size_t size, bool is_whole)
{
	const uint8_t *name;
	size_t name_size;

	h->has_session = false; /* as a failed NBD_OPT_SET_META_CONTEXT does */
	if (!is_whole)
		return send_error(h, NBD_REP_ERR_TOO_BIG, "the option is too long");
	if (!nbd_session_decode(&h->session, &name, &name_size, h->in, size))
		return send_error(h, NBD_REP_ERR_INVALID, "that is not a valid session");
	return ask(h, NBD_HSS_ASK_SESSION, name, name_size);
}

static enum nbd_hss_event on_option(struct nbd_hss *h, size_t size)
{
	struct wire_reader r = wire_reader(h->in, size);

	switch (h->option) {
	case NBD_OPT_EXPORT_NAME: return ask_export(h, h->in, size);
	case NBD_OPT_ABORT:
		send_ack(h); /* "the server SHOULD reply with NBD_REP_ACK", data or not */
		return ended(h, NBD_HSS_CLOSE);
	case NBD_OPT_LIST:
		if (size != 0)
			return send_error(h, NBD_REP_ERR_INVALID, "NBD_OPT_LIST takes no data");
		set_state(h, NBD_HSS_ASKED, 0);
		return NBD_HSS_ASK_LIST;
	case NBD_OPT_STARTTLS:
		if (size != 0)
			return send_error(h, NBD_REP_ERR_INVALID, "NBD_OPT_STARTTLS takes no data");
		return send_error(h, NBD_REP_ERR_UNSUP, "this server does not speak TLS");
	case NBD_OPT_INFO:
	case NBD_OPT_GO: return on_info_or_go(h, &r);
	case NBD_OPT_STRUCTURED_REPLY: return on_structured_reply(h, size);
	case NBD_OPT_EXTENDED_HEADERS: return on_extended_headers(h, size);
	case NBD_OPT_LIST_META_CONTEXT:
	case NBD_OPT_SET_META_CONTEXT: return on_meta_context(h, size, true);
	case NBD_OPT_X_NBDROOT_SESSION: return on_session(h, size, true);
	default: return send_error(h, NBD_REP_ERR_UNSUP, "this server does not know that option");
	}
}

/* An option that was too long to keep has gone by. */
static enum nbd_hss_event on_skipped(struct nbd_hss *h)
{
	switch (h->option) {
	case NBD_OPT_INFO:
	case NBD_OPT_GO:
	case NBD_OPT_EXPORT_NAME:
		return send_error(h, NBD_REP_ERR_TOO_BIG, "the option is too long");
	case NBD_OPT_LIST_META_CONTEXT:
	case NBD_OPT_SET_META_CONTEXT: return on_meta_context(h, 0, false);
	case NBD_OPT_X_NBDROOT_SESSION: return on_session(h, 0, false);
	default: return on_option(h, 1); /* some data: what it was does not matter to these */
	}
}

static enum nbd_hss_event on_option_head(struct nbd_hss *h, struct wire_reader *r)
{
	uint64_t magic = wire_u64(r);
	uint32_t length;

	h->option = wire_u32(r);
	length = wire_u32(r);
	if (magic != NBD_IHAVEOPT)
		return ended(h, NBD_HSS_E_MAGIC);
	if (length > NBD_HSS_SKIP_MAX)
		return ended(h, NBD_HSS_E_TOO_LONG);
	if (++h->options > NBD_HSS_OPTIONS_MAX)
		return ended(h, NBD_HSS_E_TOO_MANY);
	if (length <= NBD_HSS_DATA_MAX) {
		set_state(h, NBD_HSS_OPTION_DATA, length);
	} else {
		h->skip_left = length - NBD_HSS_DATA_MAX;
		set_state(h, NBD_HSS_SKIPPING, NBD_HSS_DATA_MAX);
	}
	return NBD_HSS_MORE;
}

static enum nbd_hss_event on_skip(struct nbd_hss *h)
{
	size_t n = h->skip_left < NBD_HSS_DATA_MAX ? h->skip_left : NBD_HSS_DATA_MAX;

	if (n == 0)
		return on_skipped(h);
	h->skip_left -= n;
	set_state(h, NBD_HSS_SKIPPING, n);
	return NBD_HSS_MORE;
}

static enum nbd_hss_event on_client_flags(struct nbd_hss *h, struct wire_reader *r)
{
	uint32_t flags = wire_u32(r);

	if (flags & ~(uint32_t)(NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES))
		return ended(h, NBD_HSS_E_CLIENT_FLAGS);
	h->no_zeroes = flags & NBD_FLAG_C_NO_ZEROES;
	return next_option(h);
}

enum nbd_hss_event nbd_hss_feed(struct nbd_hss *h, const void *data, size_t size)
{
	enum nbd_hss_event event = NBD_HSS_MORE;

	assert(size <= nbd_hss_want(h));
	memcpy(h->in + h->have, data, size);
	h->have += size;

	while (event == NBD_HSS_MORE && h->have == h->want) {
		struct wire_reader r = wire_reader(h->in, h->have);

		switch (h->state) {
		case NBD_HSS_CLIENT_FLAGS: event = on_client_flags(h, &r); break;
		case NBD_HSS_OPTION_HEAD: event = on_option_head(h, &r); break;
		case NBD_HSS_OPTION_DATA: event = on_option(h, h->have); break;
		case NBD_HSS_SKIPPING: event = on_skip(h); break;
		case NBD_HSS_ASKED:
		case NBD_HSS_ENDED: return event;
		}
	}
	return event;
}

/* ---- answers of the caller --------------------------------------------------------------- */

enum nbd_hss_event nbd_hss_accept(struct nbd_hss *h, const struct nbd_export_info *info)
{
	struct wire_writer w = output(h);
	uint16_t flags = nbd_mode_flags(&h->mode, info->flags);

	assert(h->state == NBD_HSS_ASKED);
	if (h->option != NBD_OPT_INFO && h->has_context && is_bound(h)) {
		h->mode.has_base_allocation = true;
		h->mode.context_id = CONTEXT_ID;
	}
	if (h->option == NBD_OPT_EXPORT_NAME) {
		wire_put_u64(&w, info->size);
		wire_put_u16(&w, flags);
		wire_put_zeroes(&w, h->no_zeroes ? 0 : EXPORT_NAME_ZEROES);
		output_done(h, &w);
		return ended(h, NBD_HSS_DONE);
	}

	put_reply(h, &w, NBD_REP_INFO, 2 + 8 + 2);
	wire_put_u16(&w, NBD_INFO_EXPORT);
	wire_put_u64(&w, info->size);
	wire_put_u16(&w, flags);
	if (h->wants_block_size) {
		put_reply(h, &w, NBD_REP_INFO, 2 + 3 * 4);
		wire_put_u16(&w, NBD_INFO_BLOCK_SIZE);
		wire_put_u32(&w, info->block_min);
		wire_put_u32(&w, info->block_preferred);
		wire_put_u32(&w, info->block_max);
	}
	if (h->wants_name) {
		put_reply(h, &w, NBD_REP_INFO, 2 + h->name_size);
		wire_put_u16(&w, NBD_INFO_NAME);
		wire_put_bytes(&w, h->name, h->name_size);
	}
	put_reply(h, &w, NBD_REP_ACK, 0);
	output_done(h, &w);
	return h->option == NBD_OPT_GO ? ended(h, NBD_HSS_DONE) : next_option(h);
}

enum nbd_hss_event nbd_hss_refuse(struct nbd_hss *h, uint32_t error, const char *text)
{
	assert(h->state == NBD_HSS_ASKED);
	return send_error(h, error, text);
}

void nbd_hss_list(struct nbd_hss *h, const char *name)
{
	struct wire_writer w = output(h);
	size_t length = strlen(name);

	assert(h->state == NBD_HSS_ASKED && length <= NBD_STRING_MAX);
	put_reply(h, &w, NBD_REP_SERVER, 4 + length);
	wire_put_u32(&w, (uint32_t)length);
	wire_put_bytes(&w, name, length);
	output_done(h, &w);
}

enum nbd_hss_event nbd_hss_list_end(struct nbd_hss *h)
{
	assert(h->state == NBD_HSS_ASKED);
	send_ack(h);
	return next_option(h);
}

enum nbd_hss_event nbd_hss_meta_ok(struct nbd_hss *h)
{
	static const char context[] = NBD_META_BASE_ALLOCATION;
	bool is_set = h->option == NBD_OPT_SET_META_CONTEXT;
	struct wire_writer w = output(h);

	assert(h->state == NBD_HSS_ASKED);
	if (h->wants_context) {
		put_reply(h, &w, NBD_REP_META_CONTEXT, 4 + sizeof(context) - 1);
		wire_put_u32(&w, is_set ? CONTEXT_ID : 0);
		wire_put_bytes(&w, context, sizeof(context) - 1);
	}
	put_reply(h, &w, NBD_REP_ACK, 0);
	output_done(h, &w);
	if (is_set && h->has_session) {
		/* For another export than the session's it can never count: GO has to be for that.
		 */
		h->has_context = h->wants_context && is_bound(h);
	} else if (is_set) {
		h->has_context = h->wants_context;
		bind_name(h);
	}
	return next_option(h);
}

enum nbd_hss_event nbd_hss_session(struct nbd_hss *h, const struct nbd_session_reply *reply)
{
	uint8_t data[NBD_SESSION_REPLY_MAX];
	size_t size = nbd_session_reply_encode(data, reply);
	struct wire_writer w = output(h);

	assert(h->state == NBD_HSS_ASKED);
	h->has_context &= is_bound(h);
	bind_name(h);
	h->has_session = true;
	put_reply(h, &w, NBD_REP_X_NBDROOT_SESSION, size);
	wire_put_bytes(&w, data, size);
	output_done(h, &w);
	if (reply->is_refused)
		return send_error(h, NBD_REP_ERR_POLICY, reply->holder);
	send_ack(h);
	return next_option(h);
}

const char *nbd_hss_event_text(enum nbd_hss_event event)
{
	switch (event) {
	case NBD_HSS_MORE: return "the negotiation goes on";
	case NBD_HSS_ASK_EXPORT: return "an export was asked for";
	case NBD_HSS_ASK_LIST: return "the list of exports was asked for";
	case NBD_HSS_ASK_META: return "an export's metadata contexts were asked for";
	case NBD_HSS_ASK_SESSION: return "a client said who it is";
	case NBD_HSS_DONE: return "the negotiation is done";
	case NBD_HSS_CLOSE: return "the negotiation ended without an export";
	case NBD_HSS_E_CLIENT_FLAGS: return "the client set a flag that does not exist";
	case NBD_HSS_E_MAGIC: return "an option does not begin with the option magic";
	case NBD_HSS_E_TOO_LONG: return "an option is longer than any option can be";
	case NBD_HSS_E_TOO_MANY: return "the client sent thousands of options";
	}
	return "unknown event";
}
