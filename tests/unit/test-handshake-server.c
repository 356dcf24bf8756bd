/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The server's negotiation as scripted conversations: what a client says, well-behaved or not, in
 * every split, and to the byte what the server answers. After every error reply the next option
 * must be understood. Behind the last option stand bytes of the transmission phase, which are not
 * to be wanted.
 */
#include "proto/handshake-server.h"

#include "tests/unit/tap.h"

#include "tests/unit/server-script.h"

/* ---- whole conversations --------------------------------------------------------------- */

static const uint16_t all_requests[] = { NBD_INFO_EXPORT, NBD_INFO_NAME, NBD_INFO_DESCRIPTION,
					 NBD_INFO_BLOCK_SIZE };

TEST(go_without_requests_gets_the_export_alone)
{
	flags(BOTH);
	ends_with_go();
	CHECK_STR(differs(NBD_HSS_DONE), "");
	CHECK_STR(asked_names(), "disk;");
	CHECK_EQ(h.option, NBD_OPT_GO);
}

TEST(go_gets_the_block_sizes_and_the_name_that_it_asks_for)
{
	flags(BOTH);
	asks_for(7, "disk", all_requests, 4);
	says_export(7);
	says_block_size(7);
	says_name(7, "disk");
	says_ack(7);
	CHECK_STR(differs(NBD_HSS_DONE), "");
}

TEST(what_one_option_asked_for_is_forgotten_in_the_next)
{
	flags(BOTH);
	asks_for(6, "disk", all_requests, 4);
	says_export(6);
	says_block_size(6);
	says_name(6, "disk");
	says_ack(6);
	asks_for(6, "disk", all_requests + 1, 1);
	says_export(6);
	says_name(6, "disk");
	says_ack(6);
	ends_with_go();
	CHECK_STR(differs(NBD_HSS_DONE), "");
	CHECK_STR(asked_names(), "disk;disk;disk;");
}

TEST(the_same_or_an_unknown_request_is_harmless)
{
	static const uint16_t requests[] = { 3, 3, 3, 0xffff, 4, 0, 0 };

	flags(BOTH);
	asks_for(7, "disk", requests, 7);
	says_export(7);
	says_block_size(7);
	says_ack(7);
	CHECK_STR(differs(NBD_HSS_DONE), "");
}

TEST(a_client_may_say_goodbye_with_and_without_data)
{
	for (uint32_t size = 0; size < 3; size++) {
		flags(BOTH);
		asks(2, "xx", size);
		says_ack(2);
		CHECK_STR(differs(NBD_HSS_CLOSE), "");
	}
}

TEST(a_list_has_no_one_and_many_exports)
{
	static const char *const names[] = { "a", "", "with space", "d" };

	list_names = names;
	for (list_count = 0; list_count <= 4; list_count++) {
		flags(BOTH);
		asks(3, NULL, 0);
		for (size_t i = 0; i < list_count; i++)
			says_listed(names[i]);
		says_ack(3);
		ends_with_go();
		CHECK_STR(differs(NBD_HSS_DONE), "");
	}
	list_count = 0;
}

TEST(a_list_may_have_names_of_4096_bytes)
{
	static char name[4097];
	static const char *const names[] = { name, "b", name };

	memset(name, 'x', 4096);
	list_names = names;
	list_count = 3;
	flags(BOTH);
	asks(3, NULL, 0);
	for (int i = 0; i < 3; i++)
		says_listed(names[i]);
	says_ack(3);
	ends_with_go();
	CHECK_STR(differs(NBD_HSS_DONE), "");
	list_count = 0;
}

TEST(names_of_0_4095_and_4096_bytes_are_asked_for_and_longer_ones_are_invalid)
{
	static char name[4098];

	for (size_t size = 0; size <= 4097; size = size == 0 ? 4095 : size + 1) {
		memset(name, 'n', size);
		name[size] = '\0';
		flags(BOTH);
		asks_for(6, name, all_requests, 4);
		if (size <= 4096) {
			says_export(6);
			says_block_size(6);
			says_name(6, name);
			says_ack(6);
		} else {
			says_error(6, NBD_REP_ERR_INVALID);
		}
		ends_with_go();
		CHECK_STR(differs(NBD_HSS_DONE), "");
		CHECK_EQ(asked.n, size <= 4096 ? size + 1 + 5 : 5);
	}
}

TEST(a_client_cut_anywhere_leaves_the_server_wanting_no_more_than_the_rest)
{
	size_t whole;

	flags(BOTH);
	asks_for(7, "disk", all_requests, 4);
	whole = client.n;
	for (client.n = 1; client.n < whole; client.n++) {
		CHECK_EQ(converse(client.n, NULL), NBD_HSS_MORE);
		CHECK(nbd_hss_want(&h) > 0 && nbd_hss_want(&h) <= whole - client.n);
		CHECK_EQ(used, client.n);
		CHECK_EQ(sent.n, 18);
	}
}

/* ---- client flags ---------------------------------------------------------------------- */

TEST(every_client_flag_that_does_not_exist_ends_the_connection)
{
	for (int bit = 0; bit < 32; bit++) {
		flags(UINT32_C(1) << bit);
		if (bit < 2) {
			ends_with_go();
			CHECK_STR(differs(NBD_HSS_DONE), "");
		} else {
			CHECK_STR(differs(NBD_HSS_E_CLIENT_FLAGS), "");
		}
	}
	flags(UINT32_MAX);
	CHECK_STR(differs(NBD_HSS_E_CLIENT_FLAGS), "");
}

/* ---- NBD_OPT_EXPORT_NAME --------------------------------------------------------------- */

TEST(export_name_gets_124_zeroes_unless_the_client_declined_them)
{
	for (uint32_t client_flags = 0; client_flags <= 3; client_flags++) {
		flags(client_flags);
		asks(1, "disk", 4);
		put_be(&server, disk.size, 8);
		put_be(&server, seen_flags, 2);
		put_fill(&server, 0, client_flags & 2 ? 0 : 124);
		CHECK_STR(differs(NBD_HSS_DONE), "");
		CHECK_STR(asked_names(), "disk;");
	}
}

TEST(export_name_of_an_export_that_does_not_exist_just_ends)
{
	flags(BOTH);
	asks(1, "gone", 4);
	CHECK_STR(differs(NBD_HSS_CLOSE), "");
}

TEST(export_name_takes_names_of_up_to_4096_bytes_without_nul)
{
	static char name[4097];

	memset(name, 'n', sizeof(name));
	for (uint32_t size = 0; size <= 4097; size = size == 0 ? 4095 : size + 1) {
		flags(BOTH);
		asks(1, name, size);
		if (size <= 4096) {
			put_be(&server, disk.size, 8);
			put_be(&server, seen_flags, 2);
		}
		CHECK_STR(differs(size <= 4096 ? NBD_HSS_DONE : NBD_HSS_CLOSE), "");
	}
	flags(BOTH);
	asks(1, "n\0x", 3);
	CHECK_STR(differs(NBD_HSS_CLOSE), "");
	CHECK_EQ(asked.n, 0);
}

TEST(export_name_too_long_to_keep_ends_after_it_has_gone_by)
{
	flags(BOTH);
	asks_head(1, NBD_HSS_DATA_MAX + 1);
	put_fill(&client, 'n', NBD_HSS_DATA_MAX + 1);
	CHECK_STR(differs(NBD_HSS_CLOSE), "");
}

/* ---- options that are refused, after which the next is understood ---------------------- */

TEST(an_option_that_does_not_begin_with_its_magic_ends_the_connection)
{
	for (size_t i = 0; i < 8; i++) {
		flags(BOTH);
		asks(7, NULL, 0);
		client.b[4 + i] ^= 0x20;
		CHECK_STR(differs(NBD_HSS_E_MAGIC), "");
	}
}

TEST(options_that_are_not_known_are_unsupported_with_and_without_data)
{
	static const uint32_t options[] = { 0, 4, 12, 0x6e627273, 0x6e627275, UINT32_MAX };

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		flags(BOTH);
		asks(options[i], NULL, 0);
		says_error(options[i], NBD_REP_ERR_UNSUP);
		asks(options[i], "twice, with data", 16);
		says_error(options[i], NBD_REP_ERR_UNSUP);
		ends_with_go();
		CHECK_STR(differs(NBD_HSS_DONE), "");
	}
}

TEST(list_with_data_is_invalid)
{
	flags(BOTH);
	asks(3, "x", 1);
	says_error(3, NBD_REP_ERR_INVALID);
	ends_with_go();
	CHECK_STR(differs(NBD_HSS_DONE), "");
}

TEST(go_and_info_whose_lengths_do_not_agree_are_invalid)
{
	static const struct {
		uint32_t name_size, count, size; /* as written in the option */
	} cases[] = {
		{ 0, 0, 0 }, /* no data at all */
		{ 0, 0, 1 }, /* not even a length */
		{ 0, 0, 3 },
		{ 0, 0, 4 }, /* no count */
		{ 0, 0, 5 }, /* half a count */
		{ 4, 0, 4 + 4 },
		{ 4, 0, 4 + 4 + 1 },
		{ 5, 0, 4 + 4 + 2 },   /* the name ends in the count */
		{ 6, 0, 4 + 4 + 2 },   /* the name is the rest */
		{ 7, 0, 4 + 4 + 2 },   /* the name is longer than the rest */
		{ 3, 0, 4 + 4 + 2 },   /* the count begins in the name */
		{ UINT32_MAX, 0, 10 }, /* wraps if 4 is added */
		{ UINT32_MAX - 5, 0, 10 },
		{ 0x80000000, 0, 10 },
		{ 4, 1, 4 + 4 + 2 }, /* a request that is not there */
		{ 4, 1, 4 + 4 + 2 + 1 },
		{ 4, 2, 4 + 4 + 2 + 2 },
		{ 4, 65535, 4 + 4 + 2 + 4 },
		{ 4, 0, 4 + 4 + 2 + 1 }, /* a request more than was counted */
		{ 4, 0, 4 + 4 + 2 + 2 },
		{ 4, 1, 4 + 4 + 2 + 4 },
	};

	for (uint32_t option = 6; option <= 7; option++)
		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			static struct bytes data;

			data.n = 0;
			put_be(&data, cases[i].name_size, 4);
			put_text(&data, "disk");
			put_be(&data, cases[i].count, 2);
			put_fill(&data, 0, 8);
			flags(BOTH);
			asks(option, data.b, cases[i].size);
			says_error(option, NBD_REP_ERR_INVALID);
			ends_with_go();
			CHECK_STR(differs(NBD_HSS_DONE), "");
			CHECK_STR(asked_names(), "disk;");
		}
}

TEST(a_name_with_a_nul_is_invalid)
{
	static const uint8_t data[] = { 0, 0, 0, 5, 'd', 'i', 's', 'k', 0, 0, 0 };

	flags(BOTH);
	asks(7, data, sizeof(data));
	says_error(7, NBD_REP_ERR_INVALID);
	ends_with_go();
	CHECK_STR(differs(NBD_HSS_DONE), "");
}

TEST(odd_names_are_asked_for_as_they_are_and_refused_by_the_caller)
{
	static const char *const names[] = { "../x", "/etc/passwd", "a\nb", "\xff\xfe", "disk " };

	for (size_t i = 0; i < 5; i++) {
		for (uint32_t option = 6; option <= 7; option++) {
			flags(BOTH);
			asks_for(option, names[i], NULL, 0);
			says_error(option, NBD_REP_ERR_UNKNOWN);
			asks(2, NULL, 0);
			says_ack(2);
			CHECK_STR(differs(NBD_HSS_CLOSE), "");
			CHECK_EQ(asked.n, strlen(names[i]) + 1);
			CHECK(memcmp(asked.b, names[i], asked.n - 1) == 0);
		}
	}
}

TEST(a_refusal_by_policy_says_why_and_the_next_option_is_understood)
{
	refuse_error = NBD_REP_ERR_POLICY;
	refuse_text = "another client holds this export";
	flags(BOTH);
	asks_go("held");
	says_error(7, NBD_REP_ERR_POLICY);
	ends_with_go();
	const char *why = differs(NBD_HSS_DONE);
	refuse_error = NBD_REP_ERR_UNKNOWN;
	refuse_text = "no such export";
	CHECK_STR(why, "");
	CHECK_STR(last_text, "another client holds this export");
}

TEST(a_refusals_text_may_be_empty_or_long_and_is_cut_between_characters)
{
	static char text[NBD_HSS_TEXT_MAX + 100];
	static const struct {
		size_t size, sent;
		const char *end; /* put at the end of the text */
	} cases[] = {
		{ 0, 0, "" },
		{ NBD_HSS_TEXT_MAX - 1, NBD_HSS_TEXT_MAX - 1, "" },
		{ NBD_HSS_TEXT_MAX, NBD_HSS_TEXT_MAX, "" },
		{ NBD_HSS_TEXT_MAX + 1, NBD_HSS_TEXT_MAX, "" },
		{ NBD_HSS_TEXT_MAX + 90, NBD_HSS_TEXT_MAX, "" },
		{ NBD_HSS_TEXT_MAX, NBD_HSS_TEXT_MAX, "\xe2\x82\xac" },
		{ NBD_HSS_TEXT_MAX + 1, NBD_HSS_TEXT_MAX - 2, "\xe2\x82\xac" },
		{ NBD_HSS_TEXT_MAX + 2, NBD_HSS_TEXT_MAX - 1, "\xe2\x82\xac" },
		{ NBD_HSS_TEXT_MAX + 3, NBD_HSS_TEXT_MAX, "\xe2\x82\xac" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		static struct bytes expected;
		size_t tail = strlen(cases[i].end);
		enum nbd_hss_event event;

		memset(text, 't', sizeof(text));
		memcpy(text + cases[i].size - tail, cases[i].end, tail);
		text[cases[i].size] = '\0';
		flags(BOTH);
		asks_go("gone");
		says_head(7, NBD_REP_ERR_UNKNOWN, (uint32_t)cases[i].sent);
		put_mem(&server, text, cases[i].sent);
		refuse_text = text;
		event = converse(client.n, NULL);
		refuse_text = "no such export";
		expected = server;
		CHECK_EQ(event, NBD_HSS_MORE);
		CHECK(same_bytes(&sent, &expected));
		CHECK_EQ(nbd_hss_want(&h), 16);
	}
}

/* ---- limits ---------------------------------------------------------------------------- */

TEST(an_option_longer_than_the_buffer_goes_by_and_the_next_is_understood)
{
	static const uint32_t options[] = { 99, 3, 6, 7 };
	static const uint32_t errors[] = { NBD_REP_ERR_UNSUP, NBD_REP_ERR_INVALID,
					   NBD_REP_ERR_TOO_BIG, NBD_REP_ERR_TOO_BIG };
	static const uint32_t sizes[] = { NBD_HSS_DATA_MAX + 1,     NBD_HSS_DATA_MAX + 2,
					  2 * NBD_HSS_DATA_MAX - 1, 2 * NBD_HSS_DATA_MAX,
					  2 * NBD_HSS_DATA_MAX + 1, 3 * NBD_HSS_DATA_MAX + 7 };

	for (size_t o = 0; o < 4; o++)
		for (size_t i = 0; i < 6; i++) {
			flags(BOTH);
			asks_head(options[o], sizes[i]);
			put_fill(&client, 0xee, sizes[i]);
			says_error(options[o], errors[o]);
			ends_with_go();
			CHECK_STR(differs(NBD_HSS_DONE), "");
		}
}

TEST(an_unknown_option_that_fills_the_buffer_exactly_is_unsupported)
{
	for (uint32_t size = NBD_HSS_DATA_MAX - 1; size <= NBD_HSS_DATA_MAX; size++) {
		flags(BOTH);
		asks_head(99, size);
		put_fill(&client, 0xee, size);
		says_error(99, NBD_REP_ERR_UNSUP);
		ends_with_go();
		CHECK_STR(differs(NBD_HSS_DONE), "");
	}
}

TEST(a_goodbye_longer_than_the_buffer_is_acknowledged)
{
	flags(BOTH);
	asks_head(2, NBD_HSS_DATA_MAX + 1);
	put_fill(&client, 0xee, NBD_HSS_DATA_MAX + 1);
	says_ack(2);
	CHECK_STR(differs(NBD_HSS_CLOSE), "");
}

/* Feeds size bytes of v straight into h; how many it did not want. */
static size_t feed_fill(uint8_t v, size_t size, enum nbd_hss_event *event)
{
	static uint8_t data[NBD_HSS_DATA_MAX];

	memset(data, v, sizeof(data));
	while (size > 0 && *event == NBD_HSS_MORE && nbd_hss_want(&h) > 0) {
		size_t n = nbd_hss_want(&h) < size ? nbd_hss_want(&h) : size;

		*event = nbd_hss_feed(&h, data, n);
		size -= n;
	}
	return size;
}

TEST(the_longest_option_goes_by_and_one_byte_more_ends_the_connection_unread)
{
	for (uint32_t over = 0; over <= 2; over++) {
		uint32_t size = NBD_HSS_SKIP_MAX - 1 + over;
		enum nbd_hss_event event = NBD_HSS_MORE;

		flags(BOTH);
		asks_head(99, size);
		CHECK_EQ(converse(client.n, NULL),
			 size > NBD_HSS_SKIP_MAX ? NBD_HSS_E_TOO_LONG : NBD_HSS_MORE);
		CHECK_EQ(used, client.n);
		if (size > NBD_HSS_SKIP_MAX) {
			CHECK_EQ(nbd_hss_want(&h), 0);
			continue;
		}
		CHECK_EQ(feed_fill(0xee, size - 1, &event), 0);
		CHECK_EQ(event, NBD_HSS_MORE);
		CHECK_EQ(nbd_hss_want(&h), 1);
		CHECK_EQ(sent.n, 18);
		CHECK_EQ(feed_fill(0xee, 1, &event), 0);
		take_output(NULL);
		strip_texts();
		says_error(99, NBD_REP_ERR_UNSUP);
		CHECK(same_bytes(&sent, &server));
		CHECK_EQ(nbd_hss_want(&h), 16);
	}
	flags(BOTH);
	asks_head(7, UINT32_MAX);
	CHECK_STR(differs(NBD_HSS_E_TOO_LONG), "");
}

TEST(thousands_of_options_end_the_connection_at_the_limit)
{
	static struct bytes option;
	enum nbd_hss_event event;

	flags(BOTH);
	CHECK_EQ(converse(client.n, NULL), NBD_HSS_MORE);
	client.n = 0;
	asks_head(99, 0);
	option = client;
	for (int i = 0; i < NBD_HSS_OPTIONS_MAX; i++) {
		CHECK_EQ(nbd_hss_want(&h), 16);
		event = nbd_hss_feed(&h, option.b, option.n);
		CHECK_EQ(event, NBD_HSS_MORE);
		sent.n = 0;
		take_output(NULL);
		CHECK(sent.n > 20);
	}
	CHECK_EQ(nbd_hss_feed(&h, option.b, option.n), NBD_HSS_E_TOO_MANY);
	CHECK_EQ(nbd_hss_want(&h), 0);
}

TEST(every_event_has_words_of_its_own)
{
	for (int a = NBD_HSS_MORE; a <= NBD_HSS_E_TOO_MANY; a++)
		for (int b = NBD_HSS_MORE; b < a; b++)
			CHECK(strcmp(nbd_hss_event_text((enum nbd_hss_event)a),
				     nbd_hss_event_text((enum nbd_hss_event)b)) != 0);
}
