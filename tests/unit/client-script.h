/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What test-handshake-client.c is written in: a script of what the server says and of what the
 * client is to answer, and differs(), which plays it in every split and tells what went
 * differently. Behind the script stand bytes of the transmission phase, which must not be wanted.
 */
#ifndef TESTS_UNIT_CLIENT_SCRIPT_H
#define TESTS_UNIT_CLIENT_SCRIPT_H

#include "proto/handshake-client.h"

#include "tests/unit/bytes.h"

#include <stdio.h>

enum {
	FIXED = NBD_FLAG_FIXED_NEWSTYLE,
	BOTH = NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES,
	EXPORT_FLAGS = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA,
	TRANSMISSION = 40, /* how many bytes follow the negotiation */
};

static const uint64_t export_size = UINT64_C(0x0123456789abc000);

/* ---- scripts: what the server says, what the client is to say -------------------------- */

static struct bytes server, client;

static inline void greeting(uint16_t flags)
{
	server.n = 0;
	client.n = 0;
	put_text(&server, "NBDMAGICIHAVEOPT");
	put_be(&server, flags, 2);
	put_be(&client, flags & BOTH, 4);
}

static inline void says_head(uint32_t option, uint32_t reply, uint32_t size)
{
	put_be(&server, 0x0003e889045565a9, 8);
	put_be(&server, option, 4);
	put_be(&server, reply, 4);
	put_be(&server, size, 4);
}

static inline void says(uint32_t option, uint32_t reply, const void *data, uint32_t size)
{
	says_head(option, reply, size);
	put_mem(&server, data, size);
}

static inline void says_export(uint32_t option)
{
	says_head(option, 3, 12);
	put_be(&server, 0, 2);
	put_be(&server, export_size, 8);
	put_be(&server, EXPORT_FLAGS, 2);
}

static inline void says_block_size(uint32_t option, uint32_t min, uint32_t preferred, uint32_t max)
{
	says_head(option, 3, 14);
	put_be(&server, 3, 2);
	put_be(&server, min, 4);
	put_be(&server, preferred, 4);
	put_be(&server, max, 4);
}

static inline void says_info_text(uint32_t option, uint16_t type, const void *text, uint32_t size)
{
	says_head(option, 3, 2 + size);
	put_be(&server, type, 2);
	put_mem(&server, text, size);
}

static inline void says_listed(const char *name, uint32_t name_size, const char *description,
			       uint32_t description_size)
{
	says_head(3, 2, 4 + name_size + description_size);
	put_be(&server, name_size, 4);
	put_mem(&server, name, name_size);
	put_mem(&server, description, description_size);
}

static inline void asks_head(uint32_t option, uint32_t size)
{
	put_text(&client, "IHAVEOPT");
	put_be(&client, option, 4);
	put_be(&client, size, 4);
}

static inline void asks_go(const char *name)
{
	asks_head(7, 4 + (uint32_t)strlen(name) + 2 + 2);
	put_be(&client, strlen(name), 4);
	put_text(&client, name);
	put_be(&client, 1, 2);
	put_be(&client, 3, 2);
}

static inline void asks_info(const char *name)
{
	asks_head(6, 4 + (uint32_t)strlen(name) + 2 + 6);
	put_be(&client, strlen(name), 4);
	put_text(&client, name);
	put_be(&client, 3, 2);
	put_be(&client, 3, 2);
	put_be(&client, 1, 2);
	put_be(&client, 2, 2);
}

static inline void asks_list(void)
{
	asks_head(3, 0);
}

static inline void asks_export_name(const char *name)
{
	asks_head(1, (uint32_t)strlen(name));
	put_text(&client, name);
}

static inline void asks_abort(void)
{
	asks_head(2, 0);
}

/* ---- the other end of the client ------------------------------------------------------- */

static struct nbd_hsc h;
static struct bytes sent, listed;
static size_t used;
static const struct nbd_session *said_session; /* what the client is to say of itself, if set */

static inline void take_output(uint32_t *seed)
{
	const uint8_t *out;
	size_t size;

	while (out = nbd_hsc_output(&h, &size), size > 0) {
		if (seed)
			size = 1 + draw(seed, (uint32_t)size);
		put_mem(&sent, out, size);
		nbd_hsc_sent(&h, size);
	}
}

/*
 * One conversation: first bytes of what the server says arrive, then the rest at once; with a
 * seed they arrive, and the client's bytes leave, in random pieces.
 */
static inline enum nbd_hsc_result converse(enum nbd_hsc_goal goal, const char *name, size_t first,
					   uint32_t *seed)
{
	static struct bytes stream;
	enum nbd_hsc_result result = NBD_HSC_MORE;
	size_t arrived = first;

	stream.n = 0;
	put_mem(&stream, server.b, server.n);
	put_fill(&stream, 0xa5, TRANSMISSION);
	sent.n = 0;
	listed.n = 0;
	used = 0;
	if (!nbd_hsc_init(&h, goal, name))
		abort();
	if (said_session && !nbd_hsc_set_session(&h, said_session))
		abort();
	take_output(seed);
	while (result == NBD_HSC_MORE || result == NBD_HSC_EXPORT) {
		size_t size = nbd_hsc_want(&h);

		if (size == 0 || used == server.n)
			break;
		if (used == arrived)
			arrived = seed ? used + 1 + draw(seed, 40) : stream.n;
		if (arrived > stream.n)
			arrived = stream.n;
		if (size > arrived - used)
			size = arrived - used;
		result = nbd_hsc_feed(&h, stream.b + used, size);
		used += size;
		if (result == NBD_HSC_EXPORT) {
			put_text(&listed, h.text);
			put_text(&listed, "=");
			put_text(&listed, h.text2);
			put_text(&listed, ";");
		}
		take_output(seed);
	}
	return result;
}

static inline const char *differs_in(enum nbd_hsc_goal goal, const char *name, size_t first,
				     uint32_t *seed, enum nbd_hsc_result expected)
{
	static char why[160];
	enum nbd_hsc_result result = converse(goal, name, first, seed);
	const char *what = result != expected            ? nbd_hsc_result_text(result)
			   : used != server.n            ? "not all, or too much, was read"
			   : !same_bytes(&sent, &client) ? "the client sent something else"
			   : (result > NBD_HSC_EXPORT) != (nbd_hsc_want(&h) == 0)
				   ? "what is wanted does not fit the result"
				   : NULL;

	if (!what)
		return NULL;
	snprintf(why, sizeof(why), "first %zu, read %zu of %zu, sent %zu of %zu: %s", first, used,
		 server.n, sent.n, client.n, what);
	return why;
}

/* "" when the script goes as written in every split, else what went differently. */
static inline const char *differs(enum nbd_hsc_goal goal, const char *name,
				  enum nbd_hsc_result expected)
{
	size_t step = server.n < 1000 ? 1 : 61;
	uint32_t seed = 20240229;
	const char *why;

	for (size_t first = 1; first <= server.n; first += step) {
		why = differs_in(goal, name, first, NULL, expected);
		if (why)
			return why;
	}
	for (int i = 0; i < 20; i++) {
		why = differs_in(goal, name, 1, &seed, expected);
		if (why)
			return why;
	}
	why = differs_in(goal, name, server.n + TRANSMISSION, NULL, expected);
	return why ? why : "";
}

#endif
