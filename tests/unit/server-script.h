/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What test-handshake-server.c is written in: a script of what the client says and of what the
 * server is to answer, and differs(), which plays it in every split and tells what went
 * differently. Behind the script stand bytes of the transmission phase, which must not be wanted.
 */
#ifndef TESTS_UNIT_SERVER_SCRIPT_H
#define TESTS_UNIT_SERVER_SCRIPT_H

#include "proto/handshake-server.h"

#include "tests/unit/bytes.h"

#include <stdio.h>

enum {
	BOTH = NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES,
	EXPORT_FLAGS = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_CAN_MULTI_CONN |
		       NBD_FLAG_SEND_DF | NBD_FLAG_BLOCK_STATUS_PAYLOAD,
	TRANSMISSION = 40, /* how many bytes follow the negotiation */
	ANY_TEXT = 1,      /* in a script of the server: an error's words, whatever they are */
};

static const struct nbd_export_info disk = { .size = UINT64_C(0x0123456789abc000),
					     .flags = EXPORT_FLAGS,
					     .block_min = 512,
					     .block_preferred = 4096,
					     .block_max = 1 << 25 };

/* ---- scripts: what the client says, what the server is to say -------------------------- */

static struct bytes client, server;
static uint16_t seen_flags; /* of the export, as far as they are to be told by now */

static inline void flags(uint32_t client_flags)
{
	client.n = 0;
	server.n = 0;
	seen_flags = EXPORT_FLAGS & ~(NBD_FLAG_SEND_DF | NBD_FLAG_BLOCK_STATUS_PAYLOAD);
	put_text(&server, "NBDMAGICIHAVEOPT");
	put_be(&server, 3, 2);
	put_be(&client, client_flags, 4);
}

static inline void asks_head(uint32_t option, uint32_t size)
{
	put_text(&client, "IHAVEOPT");
	put_be(&client, option, 4);
	put_be(&client, size, 4);
}

static inline void asks(uint32_t option, const void *data, uint32_t size)
{
	asks_head(option, size);
	put_mem(&client, data, size);
}

/* NBD_OPT_GO or NBD_OPT_INFO with count information requests. */
static inline void asks_for(uint32_t option, const char *name, const uint16_t *requests,
			    uint16_t count)
{
	asks_head(option, 4 + (uint32_t)strlen(name) + 2 + 2u * count);
	put_be(&client, strlen(name), 4);
	put_text(&client, name);
	put_be(&client, count, 2);
	for (size_t i = 0; i < count; i++)
		put_be(&client, requests[i], 2);
}

static inline void asks_go(const char *name)
{
	asks_for(7, name, NULL, 0);
}

static inline void says_head(uint32_t option, uint32_t reply, uint32_t size)
{
	put_be(&server, 0x0003e889045565a9, 8);
	put_be(&server, option, 4);
	put_be(&server, reply, 4);
	put_be(&server, size, 4);
}

static inline void says_ack(uint32_t option)
{
	says_head(option, 1, 0);
}

/* An error whose words are the server's own; see strip_texts(). */
static inline void says_error(uint32_t option, uint32_t error)
{
	says_head(option, error, ANY_TEXT);
}

static inline void says_export(uint32_t option)
{
	says_head(option, 3, 12);
	put_be(&server, 0, 2);
	put_be(&server, disk.size, 8);
	put_be(&server, seen_flags, 2);
}

static inline void says_block_size(uint32_t option)
{
	says_head(option, 3, 14);
	put_be(&server, 3, 2);
	put_be(&server, disk.block_min, 4);
	put_be(&server, disk.block_preferred, 4);
	put_be(&server, disk.block_max, 4);
}

static inline void says_name(uint32_t option, const char *name)
{
	says_head(option, 3, 2 + (uint32_t)strlen(name));
	put_be(&server, 1, 2);
	put_text(&server, name);
}

static inline void says_listed(const char *name)
{
	says_head(3, 2, 4 + (uint32_t)strlen(name));
	put_be(&server, strlen(name), 4);
	put_text(&server, name);
}

/* What else is negotiated before an export, each with the answer that it is to get. */
static inline void gets_structured_replies(void)
{
	asks(8, NULL, 0);
	says_ack(8);
	seen_flags |= NBD_FLAG_SEND_DF;
}

static inline void gets_extended_headers(void)
{
	asks(11, NULL, 0);
	says_ack(11);
	seen_flags |= NBD_FLAG_SEND_DF | NBD_FLAG_BLOCK_STATUS_PAYLOAD;
}

/* NBD_OPT_LIST_META_CONTEXT or NBD_OPT_SET_META_CONTEXT with the queries up to NULL. */
static inline void asks_meta(uint32_t option, const char *name, const char *const *queries)
{
	uint32_t size = 4 + (uint32_t)strlen(name) + 4, count;

	for (count = 0; queries[count]; count++)
		size += 4 + (uint32_t)strlen(queries[count]);
	asks_head(option, size);
	put_be(&client, strlen(name), 4);
	put_text(&client, name);
	put_be(&client, count, 4);
	for (size_t i = 0; i < count; i++) {
		put_be(&client, strlen(queries[i]), 4);
		put_text(&client, queries[i]);
	}
}

static inline void says_context(uint32_t option, uint32_t id)
{
	says_head(option, 4, 4 + 15);
	put_be(&server, id, 4);
	put_text(&server, "base:allocation");
}

/* The end of every script that should still be in sync: a GO that succeeds. */
static inline void ends_with_go(void)
{
	asks_go("disk");
	says_export(7);
	says_ack(7);
}

/* ---- the caller of the server ---------------------------------------------------------- */

static struct nbd_hss h;
/* asked: the names in ASK_EXPORT, each with a ; and those in ASK_META and ASK_SESSION after a word
 */
static struct bytes sent, asked;
static size_t used;
static char last_text[NBD_STRING_MAX + 1]; /* the words of the last error reply */

/* What this server exports; "disk", "" and names that begin with n exist in any case. */
static const char *const *list_names;
static size_t list_count;
static uint32_t refuse_error = NBD_REP_ERR_UNKNOWN;
static const char *refuse_text = "no such export";
static struct nbd_session_reply session_reply;

static inline void take_output(uint32_t *seed)
{
	const uint8_t *out;
	size_t size;

	while (out = nbd_hss_output(&h, &size), size > 0) {
		if (seed)
			size = 1 + draw(seed, (uint32_t)size);
		put_mem(&sent, out, size);
		nbd_hss_sent(&h, size);
	}
}

static inline enum nbd_hss_event answer(enum nbd_hss_event event, uint32_t *seed)
{
	if (event == NBD_HSS_ASK_LIST) {
		for (size_t i = 0; i < list_count; i++) {
			nbd_hss_list(&h, list_names[i]);
			take_output(seed);
		}
		return nbd_hss_list_end(&h);
	}
	if (strlen(h.name) != h.name_size)
		return NBD_HSS_E_MAGIC; /* nothing that a script expects here */
	put_text(&asked, event == NBD_HSS_ASK_META      ? "meta "
			 : event == NBD_HSS_ASK_SESSION ? "session "
							: "");
	put_mem(&asked, h.name, h.name_size);
	put_text(&asked, ";");
	if (strcmp(h.name, "disk") != 0 && h.name[0] != '\0' && h.name[0] != 'n')
		return nbd_hss_refuse(&h, refuse_error, refuse_text);
	return event == NBD_HSS_ASK_META      ? nbd_hss_meta_ok(&h)
	       : event == NBD_HSS_ASK_SESSION ? nbd_hss_session(&h, &session_reply)
					      : nbd_hss_accept(&h, &disk);
}

static inline enum nbd_hss_event converse(size_t first, uint32_t *seed)
{
	static struct bytes stream;
	enum nbd_hss_event event = NBD_HSS_MORE;
	size_t arrived = first;

	stream.n = 0;
	put_mem(&stream, client.b, client.n);
	put_fill(&stream, 0xa5, TRANSMISSION);
	sent.n = 0;
	asked.n = 0;
	used = 0;
	nbd_hss_init(&h);
	take_output(seed);
	while (event == NBD_HSS_MORE) {
		size_t size = nbd_hss_want(&h);

		if (size == 0 || used == client.n)
			break;
		if (used == arrived)
			arrived = seed ? used + 1 + draw(seed, 40) : stream.n;
		if (arrived > stream.n)
			arrived = stream.n;
		if (size > arrived - used)
			size = arrived - used;
		event = nbd_hss_feed(&h, stream.b + used, size);
		used += size;
		if (event >= NBD_HSS_ASK_EXPORT && event <= NBD_HSS_ASK_SESSION) {
			if (nbd_hss_want(&h) != 0)
				return NBD_HSS_ASK_EXPORT; /* wants bytes while it asks */
			event = answer(event, seed);
		}
		take_output(seed);
	}
	return event;
}

/*
 * Replaces the words of error replies in what was sent by none, with ANY_TEXT as their length, as
 * says_error() writes it; keeps the last. Empty or overlong words stay and make a difference.
 */
static inline void strip_texts(void)
{
	static struct bytes out;
	size_t p = 18;

	out.n = 0;
	last_text[0] = '\0';
	put_mem(&out, sent.b, sent.n < 18 ? sent.n : 18);
	while (p + 20 <= sent.n && memcmp(sent.b + p, "\x00\x03\xe8\x89\x04\x55\x65\xa9", 8) == 0) {
		size_t size = (size_t)sent.b[p + 18] << 8 | sent.b[p + 19];
		int is_error = sent.b[p + 12] >> 7;

		if (size > sent.n - p - 20)
			break;
		if (is_error && size > 0 && size <= NBD_STRING_MAX) {
			put_mem(&out, sent.b + p, 16);
			put_be(&out, ANY_TEXT, 4);
			memcpy(last_text, sent.b + p + 20, size);
			last_text[size] = '\0';
		} else {
			put_mem(&out, sent.b + p, 20 + size);
		}
		p += 20 + size;
	}
	if (p < sent.n)
		put_mem(&out, sent.b + p, sent.n - p);
	sent = out;
}

static inline const char *differs_in(size_t first, uint32_t *seed, enum nbd_hss_event expected)
{
	static char why[160];
	enum nbd_hss_event event = converse(first, seed);
	const char *what;

	strip_texts();
	what = event != expected             ? nbd_hss_event_text(event)
	       : used != client.n            ? "not all, or too much, was read"
	       : !same_bytes(&sent, &server) ? "the server said something else"
	       : (event != NBD_HSS_MORE) != (nbd_hss_want(&h) == 0)
		       ? "what is wanted does not fit the event"
		       : NULL;
	if (!what)
		return NULL;
	snprintf(why, sizeof(why), "first %zu, read %zu of %zu, said %zu of %zu: %s", first, used,
		 client.n, sent.n, server.n, what);
	return why;
}

/* "" when the script goes as written in every split, else what went differently. */
static inline const char *differs(enum nbd_hss_event expected)
{
	size_t step = client.n < 1000 ? 1 : client.n / 61;
	uint32_t seed = 20240229;
	const char *why;

	for (size_t first = 1; first <= client.n; first += step) {
		why = differs_in(first, NULL, expected);
		if (why)
			return why;
	}
	for (int i = 0; i < 20; i++) {
		why = differs_in(1, &seed, expected);
		if (why)
			return why;
	}
	why = differs_in(client.n + TRANSMISSION, NULL, expected);
	return why ? why : "";
}

static inline const char *asked_names(void)
{
	put_be(&asked, 0, 1);
	return (char *)asked.b;
}

#endif
