/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NBD_OPT_X_NBDROOT_SESSION as the client says it, as scripted conversations: servers that know it
 * and that do not, a refusal, and replies that contradict themselves. Whatever comes back, the
 * option must not keep a client from a server that would serve it.
 */
#include "proto/handshake-client.h"

#include "tests/unit/tap.h"

#include "tests/unit/client-script.h"

enum { SESSION = NBD_OPT_X_NBDROOT_SESSION };

static struct nbd_session session(void)
{
	struct nbd_session s = { .slot = 3, .generation = 9 };

	memset(s.id, 0x5e, sizeof(s.id));
	strcpy(s.machine, "52-54-00-12-34-56");
	strcpy(s.host, "pc07");
	return s;
}

static const char *differs_with_session(const char *name, enum nbd_hsc_result expected)
{
	struct nbd_session s = session();
	const char *why;

	said_session = &s;
	why = differs(NBD_HSC_GOAL_GO, name, expected);
	said_session = NULL;
	return why;
}

static void asks_session(const char *name)
{
	struct nbd_session s = session();
	size_t name_size = strlen(name), machine = strlen(s.machine), host = strlen(s.host);

	asks_head(SESSION, (uint32_t)(36 + name_size + machine + host));
	put_be(&client, 1, 1);
	put_be(&client, 0, 3);
	put_be(&client, s.slot, 4);
	put_be(&client, s.generation, 8);
	put_mem(&client, s.id, 16);
	put_be(&client, name_size, 2);
	put_be(&client, machine, 1);
	put_be(&client, host, 1);
	put_text(&client, name);
	put_text(&client, s.machine);
	put_text(&client, s.host);
}

static void says_session(bool is_refused, const char *holder, uint32_t more)
{
	says_head(SESSION, SESSION, 48 + (uint32_t)strlen(holder) + more);
	put_be(&server, 1, 1);
	put_be(&server, 1, 1);
	put_be(&server, is_refused, 1);
	put_be(&server, 0, 1);
	put_be(&server, strlen(holder), 2);
	put_be(&server, 0, 2);
	put_be(&server, 42, 8);
	put_fill(&server, 0xb0, 16);
	put_fill(&server, 0x1d, 16);
	put_text(&server, holder);
	put_fill(&server, 0xee, more);
}

static void goes(const char *name)
{
	asks_go(name);
	says_export(7);
	says(7, 1, NULL, 0);
}

TEST(a_server_that_knows_sessions_is_told_and_its_reply_is_kept)
{
	for (uint32_t more = 0; more < 3; more++) {
		greeting(BOTH);
		asks_session("disk");
		says_session(false, "", more);
		says(SESSION, 1, NULL, 0);
		goes("disk");
		CHECK_STR(differs_with_session("disk", NBD_HSC_DONE), "");
		CHECK(h.has_session_reply);
		CHECK(!h.session_reply.is_refused);
		CHECK_EQ(h.session_reply.generation, 42);
		CHECK_EQ(h.session_reply.durability, NBD_DURABILITY_FLUSH);
		CHECK_EQ(h.session_reply.boot_id[15], 0xb0);
		CHECK_EQ(h.session_reply.image_id[0], 0x1d);
	}
}

TEST(a_server_that_does_not_know_sessions_serves_all_the_same)
{
	static const uint32_t errors[] = { NBD_REP_ERR_UNSUP,   NBD_REP_ERR_POLICY,
					   NBD_REP_ERR_INVALID, NBD_REP_ERR_PLATFORM,
					   NBD_REP_ERR_UNKNOWN, NBD_REP_ERR_TOO_BIG,
					   0xffffffff };

	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		greeting(BOTH);
		asks_session("disk");
		says(SESSION, errors[i], "what is that", 12);
		goes("disk");
		CHECK_STR(differs_with_session("disk", NBD_HSC_DONE), "");
		CHECK(!h.has_session_reply);
		CHECK_EQ(h.rep_error, 0);
		CHECK_STR(h.text, "");
	}
}

TEST(a_server_without_go_gets_export_name_after_the_session)
{
	greeting(BOTH);
	asks_session("disk");
	says(SESSION, NBD_REP_ERR_UNSUP, NULL, 0);
	asks_go("disk");
	says(7, NBD_REP_ERR_UNSUP, NULL, 0);
	asks_export_name("disk");
	put_be(&server, export_size, 8);
	put_be(&server, EXPORT_FLAGS, 2);
	CHECK_STR(differs_with_session("disk", NBD_HSC_DONE), "");
	CHECK(h.used_export_name);
}

TEST(a_server_that_is_not_fixed_is_not_told)
{
	greeting(0);
	asks_export_name("disk");
	put_be(&server, export_size, 8);
	put_be(&server, EXPORT_FLAGS, 2);
	put_fill(&server, 0, 124);
	CHECK_STR(differs_with_session("disk", NBD_HSC_DONE), "");
	CHECK(!h.has_session_reply);
}

TEST(a_server_that_is_shutting_down_ends_it)
{
	greeting(BOTH);
	asks_session("disk");
	says(SESSION, NBD_REP_ERR_SHUTDOWN, "bye", 3);
	asks_abort();
	CHECK_STR(differs_with_session("disk", NBD_HSC_E_REFUSED), "");
	CHECK_EQ(h.rep_error, NBD_REP_ERR_SHUTDOWN);
	CHECK_STR(h.text, "bye");
}

TEST(a_refusal_ends_it_and_names_the_holder)
{
	greeting(BOTH);
	asks_session("disk");
	says_session(true, "pc09 at 10.0.0.9", 0);
	says(SESSION, NBD_REP_ERR_POLICY, "held by pc09", 12);
	asks_abort();
	CHECK_STR(differs_with_session("disk", NBD_HSC_E_REFUSED), "");
	CHECK_EQ(h.rep_error, NBD_REP_ERR_POLICY);
	CHECK_STR(h.text, "held by pc09");
	CHECK(h.has_session_reply && h.session_reply.is_refused);
	CHECK_STR(h.session_reply.holder, "pc09 at 10.0.0.9");
}

TEST(an_error_after_a_welcome_does_not_end_it)
{
	greeting(BOTH);
	asks_session("disk");
	says_session(false, "", 0);
	says(SESSION, NBD_REP_ERR_PLATFORM, NULL, 0);
	goes("disk");
	CHECK_STR(differs_with_session("disk", NBD_HSC_DONE), "");
	CHECK(h.has_session_reply);
}

TEST(replies_that_contradict_themselves_are_malformed)
{
	for (int i = 0; i < 5; i++) {
		greeting(BOTH);
		asks_session("disk");
		switch (i) {
		case 0: break; /* an acknowledgement and nothing before it */
		case 1: says_session(true, "x", 0); break; /* refused, then welcome */
		case 2:                                    /* two replies */
			says_session(false, "", 0);
			says_session(false, "", 0);
			break;
		case 3: /* a byte too short */
			says_session(false, "", 0);
			server.b[server.n - 48 - 1]--;
			server.n--;
			break;
		default: /* an export's information, which was not asked for */
			says_export(SESSION);
			break;
		}
		if (i < 2)
			says(SESSION, 1, NULL, 0);
		CHECK_STR(differs_with_session("disk", NBD_HSC_E_MALFORMED), "");
	}
}

TEST(a_holder_that_could_forge_a_log_line_is_malformed)
{
	greeting(BOTH);
	asks_session("disk");
	says_session(true, "pc09\nkernel: forged", 0);
	CHECK_STR(differs_with_session("disk", NBD_HSC_E_MALFORMED), "");
}

TEST(the_reply_of_a_session_to_another_option_is_malformed)
{
	greeting(BOTH);
	asks_go("disk");
	says_session(false, "", 0);
	for (size_t i = 18 + 8, k = 0; k < 4; k++)
		server.b[i + k] = k == 3 ? 7 : 0;
	CHECK_STR(differs(NBD_HSC_GOAL_GO, "disk", NBD_HSC_E_MALFORMED), "");
}

TEST(a_session_that_is_not_valid_is_not_taken_and_go_is_asked_for_without)
{
	struct nbd_session s = session();

	s.machine[0] = '\n';
	CHECK(nbd_hsc_init(&h, NBD_HSC_GOAL_GO, "disk"));
	CHECK(!nbd_hsc_set_session(&h, &s));
	CHECK(!h.has_session);
}

TEST(the_longest_session_is_sent_whole)
{
	static char name[NBD_STRING_MAX + 1];
	struct nbd_session s = session();
	const uint8_t *out;
	size_t size;

	memset(name, 'n', NBD_STRING_MAX);
	memset(s.machine, 'm', NBD_SESSION_MACHINE_MAX);
	memset(s.host, 'h', NBD_SESSION_HOST_MAX);
	CHECK(nbd_hsc_init(&h, NBD_HSC_GOAL_GO, name));
	CHECK(nbd_hsc_set_session(&h, &s));
	greeting(BOTH);
	CHECK_EQ(nbd_hsc_feed(&h, server.b, server.n), NBD_HSC_MORE);
	out = nbd_hsc_output(&h, &size);
	CHECK_EQ(size, 4 + 16 + NBD_SESSION_MAX);
	CHECK_EQ(out[size - 1], 'h');
	nbd_hsc_sent(&h, size);
	server.n = 0;
	says(SESSION, NBD_REP_ERR_UNSUP, NULL, 0);
	CHECK_EQ(nbd_hsc_feed(&h, server.b, 20), NBD_HSC_MORE);
	nbd_hsc_output(&h, &size);
	CHECK_EQ(size, 16 + 4 + NBD_STRING_MAX + 2 + 2);
}
