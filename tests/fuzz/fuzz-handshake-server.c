/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The server's negotiation against a client that says anything. An input is: a byte that seeds
 * the splits, a byte of which two bits at a time answer the questions (accept, refuse, refuse at
 * length, by turns), then what the client says. Besides the sanitizers, what must hold at every
 * step is checked here: each option has one final reply, what is sent consists of whole replies,
 * nothing is read beyond the option that ends the negotiation, and an export is only asked for
 * under the session and with the contexts that were set for it.
 */
#include "proto/handshake-server.h"

#include "proto/wire.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool is_true)
{
	if (!is_true)
		abort();
}

static char long_text[NBD_STRING_MAX + 1];
static struct nbd_hss h;
static unsigned n_final; /* replies that end an option */

static struct {
	char name[NBD_STRING_MAX + 1];
	bool is_set;
} session, context;

static void note(char out[static NBD_STRING_MAX + 1], bool *is_set)
{
	memcpy(out, h.name, h.name_size + 1);
	*is_set = true;
}

/* One of the server's replies to an option. */
static void check_reply(struct wire_reader *r)
{
	uint32_t option, reply, length;
	const uint8_t *data;

	must(wire_u64(r) == NBD_OPTION_REPLY_MAGIC);
	option = wire_u32(r);
	reply = wire_u32(r);
	length = wire_u32(r);
	data = wire_bytes(r, length);
	must(data != NULL && option != NBD_OPT_EXPORT_NAME);
	n_final += reply == NBD_REP_ACK || (reply & NBD_REP_FLAG_ERROR);
	switch (reply) {
	case NBD_REP_ACK: must(length == 0); break;
	case NBD_REP_SERVER: must(option == NBD_OPT_LIST); break;
	case NBD_REP_INFO: must(option == NBD_OPT_INFO || option == NBD_OPT_GO); break;
	case NBD_REP_META_CONTEXT:
		must(option == NBD_OPT_LIST_META_CONTEXT || option == NBD_OPT_SET_META_CONTEXT);
		must(length == 4 + strlen(NBD_META_BASE_ALLOCATION) && h.mode.structured);
		break;
	case NBD_REP_X_NBDROOT_SESSION: must(option == NBD_OPT_X_NBDROOT_SESSION); break;
	default: must((reply & NBD_REP_FLAG_ERROR) && length <= NBD_HSS_TEXT_MAX);
	}
}

static void send_all(enum nbd_hss_event event)
{
	size_t size;
	const uint8_t *out = nbd_hss_output(&h, &size);
	struct wire_reader r = wire_reader(out, size);

	must(size <= NBD_HSS_OUT_MAX);
	if (event == NBD_HSS_DONE && h.option == NBD_OPT_EXPORT_NAME) {
		must(size == 8 + 2 || size == 8 + 2 + 124);
	} else {
		while (wire_left(&r) > 0)
			check_reply(&r);
	}
	nbd_hss_sent(&h, size);
}

static enum nbd_hss_event answer_export(unsigned choice)
{
	static const struct nbd_export_info info = { 1 << 20, 0xffff, 512, 4096, 1 << 25 };

	if (h.option != NBD_OPT_INFO && h.has_session)
		must(session.is_set && strcmp(h.name, session.name) == 0);
	if (choice >= 2)
		return nbd_hss_refuse(&h, NBD_REP_ERR_UNKNOWN, choice == 2 ? "" : long_text);
	return nbd_hss_accept(&h, &info);
}

static enum nbd_hss_event answer_session(unsigned choice)
{
	static struct nbd_session_reply reply;

	must(h.session.machine[0] && !h.has_session);
	must(nbd_is_plain_text(h.session.machine, strlen(h.session.machine)));
	must(nbd_is_plain_text(h.session.host, strlen(h.session.host)));
	session.is_set = false;
	if (choice == 3)
		return nbd_hss_refuse(&h, NBD_REP_ERR_UNKNOWN, "");
	note(session.name, &session.is_set);
	memset(reply.holder, 'h', NBD_SESSION_HOLDER_MAX);
	reply.is_refused = choice == 2;
	return nbd_hss_session(&h, &reply);
}

static enum nbd_hss_event answer_meta(unsigned choice)
{
	must(h.mode.structured);
	if (h.option == NBD_OPT_SET_META_CONTEXT)
		context.is_set = false;
	if (choice >= 2)
		return nbd_hss_refuse(&h, NBD_REP_ERR_UNKNOWN, choice == 2 ? "" : long_text);
	if (h.option == NBD_OPT_SET_META_CONTEXT)
		note(context.name, &context.is_set);
	return nbd_hss_meta_ok(&h);
}

static enum nbd_hss_event answer(enum nbd_hss_event event, unsigned choice)
{
	must(nbd_hss_want(&h) == 0);
	must(nbd_hss_feed(&h, "", 0) == NBD_HSS_MORE);
	must(strlen(h.name) == h.name_size && h.name_size <= NBD_STRING_MAX);
	if (event == NBD_HSS_ASK_EXPORT)
		return answer_export(choice);
	if (event == NBD_HSS_ASK_SESSION)
		return answer_session(choice);
	if (event == NBD_HSS_ASK_META)
		return answer_meta(choice);
	if (choice == 3)
		return nbd_hss_refuse(&h, NBD_REP_ERR_POLICY, "not for you");
	for (unsigned i = 0; i < choice; i++) {
		nbd_hss_list(&h, i ? long_text : "disk");
		send_all(NBD_HSS_MORE);
	}
	return nbd_hss_list_end(&h);
}

/* How many options end within the first used bytes; *rest: how many bytes stand behind the last. */
static unsigned count_options(const uint8_t *data, size_t used, size_t *rest)
{
	struct wire_reader r = wire_reader(data, used);
	unsigned n = 0;

	wire_u32(&r);
	*rest = wire_left(&r);
	for (;;) {
		uint32_t length;

		wire_bytes(&r, 12);
		length = wire_u32(&r);
		if (!wire_bytes(&r, length))
			return n;
		n++;
		*rest = wire_left(&r);
	}
}

static void check_mode(void)
{
	const struct nbd_mode *m = &h.mode;

	must(m->structured || !(m->extended || m->has_base_allocation));
	must(m->has_base_allocation == (m->context_id != 0));
	if (m->has_base_allocation)
		must(context.is_set && strcmp(context.name, h.name) == 0);
	must(!m->extended || h.option == NBD_OPT_GO);
}

static void check_step(enum nbd_hss_event event, const uint8_t *start, size_t used)
{
	bool is_export_name = h.option == NBD_OPT_EXPORT_NAME;
	size_t rest;
	unsigned n = count_options(start, used, &rest);

	must((event == NBD_HSS_MORE) == (nbd_hss_want(&h) > 0));
	must(nbd_hss_want(&h) <= NBD_HSS_DATA_MAX);
	if (event > NBD_HSS_CLOSE)
		return; /* broken off, in the middle of an option */
	if (event != NBD_HSS_MORE)
		must(rest == 0); /* not a byte of what follows */
	must(n_final + (event != NBD_HSS_MORE && is_export_name) == n);
	if (event == NBD_HSS_DONE)
		check_mode();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum nbd_hss_event event = NBD_HSS_MORE;
	const uint8_t *start = data + 2;
	uint8_t split, answers;

	if (size < 2)
		return 0;
	memset(long_text, 0xc3, NBD_STRING_MAX);
	session.is_set = false;
	context.is_set = false;
	n_final = 0;
	split = data[0];
	answers = data[1];
	data += 2;
	size -= 2;
	nbd_hss_init(&h);
	nbd_hss_sent(&h, 8 + 8 + 2);
	while (size > 0 && event == NBD_HSS_MORE) {
		size_t n = nbd_hss_want(&h);

		if (n > size)
			n = size;
		if (split) { /* 0: as large pieces as there can be */
			split = (uint8_t)(split * 5 + 1);
			if (n > split % 32u + 1u)
				n = split % 32u + 1u;
		}
		event = nbd_hss_feed(&h, data, n);
		data += n;
		size -= n;
		if (event >= NBD_HSS_ASK_EXPORT && event <= NBD_HSS_ASK_SESSION) {
			event = answer(event, answers & 3);
			answers = (uint8_t)(answers >> 2 | answers << 6);
		}
		send_all(event);
		check_step(event, start, (size_t)(data - start));
	}
	must(nbd_hss_event_text(event) != NULL);
	return 0;
}
