/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NBD_OPT_X_NBDROOT_SESSION as the server hears it, as scripted conversations: what is valid is
 * asked about and answered, what is not leaves no session, and an export can be used only under
 * the session that was said for it. docs/extension.md names the rules.
 */
#include "proto/handshake-server.h"

#include "tests/unit/tap.h"

#include "tests/unit/server-script.h"

enum { SESSION = NBD_OPT_X_NBDROOT_SESSION };

static const char *const allocation[] = { "base:allocation", NULL };

static struct nbd_session session(uint8_t id)
{
	struct nbd_session s = { .slot = 3, .generation = 0x0102030405060708 };

	memset(s.id, id, sizeof(s.id));
	strcpy(s.machine, "52-54-00-12-34-56");
	strcpy(s.host, "pc07");
	return s;
}

static void asks_session(uint8_t id, const char *name)
{
	struct nbd_session s = session(id);
	uint8_t data[NBD_SESSION_MAX];

	asks(SESSION, data, (uint32_t)nbd_session_encode(data, &s, name));
}

static void says_session(void)
{
	uint32_t holder = session_reply.is_refused ? (uint32_t)strlen(session_reply.holder) : 0;

	says_head(SESSION, SESSION, 48 + holder);
	put_be(&server, 1, 1);
	put_be(&server, session_reply.durability, 1);
	put_be(&server, session_reply.is_refused, 1);
	put_be(&server, 0, 1);
	put_be(&server, holder, 2);
	put_be(&server, 0, 2);
	put_be(&server, session_reply.generation, 8);
	put_mem(&server, session_reply.boot_id, 16);
	put_mem(&server, session_reply.image_id, 16);
	put_mem(&server, session_reply.holder, holder);
}

static void gets_session(uint8_t id, const char *name)
{
	asks_session(id, name);
	says_session();
	says_ack(SESSION);
}

static void set_reply(bool is_refused)
{
	memset(&session_reply, 0, sizeof(session_reply));
	memset(session_reply.boot_id, 0xb0, 16);
	memset(session_reply.image_id, 0x1d, 16);
	session_reply.generation = 42;
	session_reply.durability = NBD_DURABILITY_FLUSH;
	session_reply.is_refused = is_refused;
	if (is_refused)
		strcpy(session_reply.holder, "pc09 (52-54-00-aa-bb-cc) at 10.0.0.9");
}

TEST(a_session_is_asked_about_answered_and_kept_for_go)
{
	set_reply(false);
	flags(BOTH);
	gets_session(7, "disk");
	ends_with_go();
	CHECK_STR(differs(NBD_HSS_DONE), "");
	CHECK_STR(asked_names(), "session disk;disk;");
	CHECK(h.has_session);
	CHECK_EQ(h.session.id[0], 7);
	CHECK_EQ(h.session.slot, 3);
	CHECK_EQ(h.session.generation, 0x0102030405060708);
	CHECK_STR(h.session.machine, "52-54-00-12-34-56");
	CHECK_STR(h.session.host, "pc07");
}

TEST(without_the_option_there_is_no_session)
{
	flags(BOTH);
	ends_with_go();
	CHECK_STR(differs(NBD_HSS_DONE), "");
	CHECK(!h.has_session);
}

TEST(a_session_works_with_export_name_too)
{
	set_reply(false);
	flags(BOTH);
	gets_session(7, "disk");
	asks(1, "disk", 4);
	put_be(&server, disk.size, 8);
	put_be(&server, seen_flags, 2);
	CHECK_STR(differs(NBD_HSS_DONE), "");
	CHECK(h.has_session);
}

TEST(a_refused_session_gets_the_reply_and_an_error_and_stays_known)
{
	set_reply(true);
	flags(BOTH);
	asks_session(7, "disk");
	says_session();
	says_error(SESSION, NBD_REP_ERR_POLICY);
	ends_with_go(); /* whose caller has to refuse it again, and knows by whom it is */
	const char *why = differs(NBD_HSS_DONE);
	CHECK_STR(why, "");
	CHECK_STR(last_text, "pc09 (52-54-00-aa-bb-cc) at 10.0.0.9");
	CHECK(h.has_session);
	set_reply(false);
}

TEST(a_session_for_an_unknown_export_is_none)
{
	flags(BOTH);
	asks_session(7, "gone");
	says_error(SESSION, NBD_REP_ERR_UNKNOWN);
	ends_with_go();
	CHECK_STR(differs(NBD_HSS_DONE), "");
	CHECK_STR(asked_names(), "session gone;disk;");
	CHECK(!h.has_session);
}

TEST(go_for_another_export_than_the_sessions_is_invalid_and_asks_nobody)
{
	set_reply(false);
	flags(BOTH);
	gets_session(7, "disk");
	asks_go("n");
	says_error(7, NBD_REP_ERR_INVALID);
	asks_go("");
	says_error(7, NBD_REP_ERR_INVALID);
	asks_for(6, "n", NULL, 0); /* to ask what an export is takes nothing */
	says_export(6);
	says_ack(6);
	ends_with_go();
	CHECK_STR(differs(NBD_HSS_DONE), "");
	CHECK_STR(asked_names(), "session disk;n;disk;");

	flags(BOTH);
	gets_session(7, "disk");
	asks(1, "n", 1);
	CHECK_STR(differs(NBD_HSS_CLOSE), "");
	CHECK_STR(asked_names(), "session disk;");
}

TEST(a_session_said_again_replaces_the_first_and_its_export)
{
	set_reply(false);
	flags(BOTH);
	gets_session(7, "disk");
	gets_session(8, "n");
	asks_go("disk");
	says_error(7, NBD_REP_ERR_INVALID);
	asks_go("n");
	says_export(7);
	says_ack(7);
	CHECK_STR(differs(NBD_HSS_DONE), "");
	CHECK_EQ(h.session.id[0], 8);
}

TEST(a_session_that_fails_leaves_none)
{
	set_reply(false);
	for (int i = 0; i < 3; i++) {
		flags(BOTH);
		gets_session(7, "disk");
		if (i == 0) {
			asks(SESSION, "short", 5);
			says_error(SESSION, NBD_REP_ERR_INVALID);
		} else if (i == 1) {
			asks_session(8, "gone");
			says_error(SESSION, NBD_REP_ERR_UNKNOWN);
		} else {
			asks_head(SESSION, NBD_HSS_DATA_MAX + 1);
			put_fill(&client, 1, NBD_HSS_DATA_MAX + 1);
			says_error(SESSION, NBD_REP_ERR_TOO_BIG);
		}
		ends_with_go();
		CHECK_STR(differs(NBD_HSS_DONE), "");
		CHECK(!h.has_session);
	}
}

TEST(a_session_of_any_length_that_is_too_short_is_invalid_and_of_any_longer_one_is_taken)
{
	struct nbd_session s = session(7);
	static uint8_t data[NBD_HSS_DATA_MAX];
	uint32_t exact = (uint32_t)nbd_session_encode(data, &s, "disk");

	set_reply(false);
	for (uint32_t size = 0; size <= exact + 2; size++) {
		flags(BOTH);
		asks(SESSION, data, size);
		if (size < exact) {
			says_error(SESSION, NBD_REP_ERR_INVALID);
		} else {
			says_session();
			says_ack(SESSION);
		}
		ends_with_go();
		CHECK_STR(differs(NBD_HSS_DONE), "");
		CHECK_EQ(h.has_session, size >= exact);
	}
	flags(BOTH);
	asks(SESSION, data, NBD_HSS_DATA_MAX); /* all that a later version may add */
	says_session();
	says_ack(SESSION);
	ends_with_go();
	CHECK_STR(differs(NBD_HSS_DONE), "");
}

TEST(the_longest_session_fits)
{
	static char name[NBD_STRING_MAX + 1];
	static struct bytes expected;
	struct nbd_session s = session(7);
	uint8_t data[NBD_SESSION_MAX];
	size_t size;

	memset(name, 'n', NBD_STRING_MAX);
	memset(s.machine, 'm', NBD_SESSION_MACHINE_MAX);
	memset(s.host, 'h', NBD_SESSION_HOST_MAX);
	memset(session_reply.holder, 'x', NBD_SESSION_HOLDER_MAX);
	session_reply.is_refused = true;
	flags(BOTH);
	size = nbd_session_encode(data, &s, name);
	CHECK_EQ(size, NBD_SESSION_MAX);
	asks(SESSION, data, (uint32_t)size);
	says_session();
	says_head(SESSION, NBD_REP_ERR_POLICY, NBD_SESSION_HOLDER_MAX);
	put_mem(&server, session_reply.holder, NBD_SESSION_HOLDER_MAX);
	expected = server;
	CHECK_EQ(converse(client.n, NULL), NBD_HSS_MORE);
	CHECK(same_bytes(&sent, &expected));
	set_reply(false);
}

TEST(names_with_a_nul_or_of_4097_bytes_are_invalid)
{
	static char name[NBD_STRING_MAX + 2];
	static struct bytes data;

	for (int is_long = 0; is_long <= 1; is_long++) {
		struct nbd_session s = session(7);
		uint8_t start[NBD_SESSION_MAX];
		size_t size = is_long ? NBD_STRING_MAX + 1 : 5;

		memset(name, 'n', sizeof(name));
		name[4] = is_long ? 'n' : '\0';
		nbd_session_encode(start, &s, "");
		data.n = 0;
		put_mem(&data, start, 32);
		put_be(&data, size, 2);
		put_mem(&data, start + 34, 2);
		put_mem(&data, name, size);
		put_text(&data, s.machine);
		put_text(&data, s.host);
		flags(BOTH);
		asks(SESSION, data.b, (uint32_t)data.n);
		says_error(SESSION, NBD_REP_ERR_INVALID);
		ends_with_go();
		CHECK_STR(differs(NBD_HSS_DONE), "");
		CHECK(!h.has_session);
	}
}

TEST(a_session_and_a_context_go_together_in_either_order)
{
	set_reply(false);
	for (int i = 0; i < 2; i++) {
		flags(BOTH);
		gets_structured_replies();
		if (i == 0)
			gets_session(7, "disk");
		asks_meta(10, "disk", allocation);
		says_context(10, 1);
		says_ack(10);
		if (i == 1)
			gets_session(7, "disk");
		ends_with_go();
		CHECK_STR(differs(NBD_HSS_DONE), "");
		CHECK(h.has_session && h.mode.has_base_allocation);
	}
}

TEST(a_context_for_another_export_than_the_sessions_does_not_count)
{
	for (int i = 0; i < 2; i++) {
		flags(BOTH);
		gets_structured_replies();
		if (i == 0)
			gets_session(7, "disk");
		asks_meta(10, "n", allocation);
		says_context(10, 1);
		says_ack(10);
		if (i == 1)
			gets_session(7, "disk");
		asks_go("n");
		says_error(7, NBD_REP_ERR_INVALID);
		ends_with_go();
		CHECK_STR(differs(NBD_HSS_DONE), "");
		CHECK(h.has_session && !h.mode.has_base_allocation);
	}
}
