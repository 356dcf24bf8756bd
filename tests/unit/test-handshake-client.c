/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The client's negotiation as scripted conversations: what a server says, in every split, and to
 * the byte what the client answers. Behind what the server says stand bytes of the transmission
 * phase: a client that wants one of them would steal it from the kernel.
 */
#include "proto/handshake-client.h"

#include "tests/unit/tap.h"

#include "tests/unit/client-script.h"

/* ---- whole conversations --------------------------------------------------------------- */

TEST(go_ends_with_size_flags_and_block_sizes)
{
	greeting(BOTH);
	asks_go("disk");
	says_export(7);
	says_block_size(7, 512, 4096, 1 << 20);
	says(7, 1, NULL, 0);
	CHECK_STR(differs(NBD_HSC_GOAL_GO, "disk", NBD_HSC_DONE), "");
	CHECK_EQ(h.info.size, export_size);
	CHECK_EQ(h.info.flags, EXPORT_FLAGS);
	CHECK(h.has_block_size);
	CHECK_EQ(h.info.block_min, 512);
	CHECK_EQ(h.info.block_preferred, 4096);
	CHECK_EQ(h.info.block_max, 1 << 20);
	CHECK(!h.used_export_name);
}

TEST(information_may_come_in_any_order)
{
	greeting(BOTH);
	asks_go("disk");
	says_block_size(7, 1, 4096, UINT32_MAX);
	says_export(7);
	says(7, 1, NULL, 0);
	CHECK_STR(differs(NBD_HSC_GOAL_GO, "disk", NBD_HSC_DONE), "");
	CHECK_EQ(h.info.size, export_size);
	CHECK_EQ(h.info.block_max, UINT32_MAX);
}

TEST(without_block_sizes_the_defaults_of_the_specification_hold)
{
	greeting(BOTH);
	asks_go("disk");
	says_export(7);
	says(7, 1, NULL, 0);
	CHECK_STR(differs(NBD_HSC_GOAL_GO, "disk", NBD_HSC_DONE), "");
	CHECK(!h.has_block_size);
	CHECK_EQ(h.info.block_min, 1);
	CHECK_EQ(h.info.block_preferred, 4096);
	CHECK_EQ(h.info.block_max, 33554432);
}

TEST(info_ends_with_name_and_description_and_an_abort)
{
	greeting(BOTH);
	asks_info("disk");
	says_export(6);
	says_info_text(6, 1, "the-disk", 8);
	says_info_text(6, 2, "for tests", 9);
	says_block_size(6, 4096, 4096, 4096);
	says(6, 1, NULL, 0);
	asks_abort();
	CHECK_STR(differs(NBD_HSC_GOAL_INFO, "disk", NBD_HSC_DONE), "");
	CHECK_EQ(h.info.size, export_size);
	CHECK_EQ(h.info.block_min, 4096);
	CHECK_STR(h.text, "the-disk");
	CHECK_STR(h.text2, "for tests");
}

TEST(list_gives_each_export_with_its_description_and_ends_with_an_abort)
{
	greeting(BOTH);
	asks_list();
	says_listed("a", 1, "", 0);
	says_listed("", 0, "the default one", 15);
	says_listed("with space", 10, "d", 1);
	says(3, 1, NULL, 0);
	asks_abort();
	CHECK_STR(differs(NBD_HSC_GOAL_LIST, "", NBD_HSC_DONE), "");
	put_be(&listed, 0, 1);
	CHECK_STR((char *)listed.b, "a=;=the default one;with space=d;");
}

TEST(a_list_may_be_empty)
{
	greeting(BOTH);
	asks_list();
	says(3, 1, NULL, 0);
	asks_abort();
	CHECK_STR(differs(NBD_HSC_GOAL_LIST, "not used", NBD_HSC_DONE), "");
	CHECK_EQ(listed.n, 0);
}

TEST(a_list_may_end_with_an_error_after_some_exports)
{
	greeting(BOTH);
	asks_list();
	says_listed("a", 1, "", 0);
	says(3, NBD_REP_ERR_SHUTDOWN, "bye", 3);
	asks_abort();
	CHECK_STR(differs(NBD_HSC_GOAL_LIST, "", NBD_HSC_E_REFUSED), "");
	CHECK_EQ(h.rep_error, NBD_REP_ERR_SHUTDOWN);
	CHECK_STR(h.text, "bye");
	CHECK_STR(h.text2, "");
}

TEST(names_of_0_4095_and_4096_bytes_are_sent_and_one_more_is_not_a_name)
{
	static const size_t sizes[] = { 0, 1, 4095, 4096 };
	static char name[4098];

	for (size_t i = 0; i < 4; i++) {
		memset(name, 'n', sizes[i]);
		name[sizes[i]] = '\0';
		greeting(BOTH);
		asks_go(name);
		says_export(7);
		says(7, 1, NULL, 0);
		CHECK_STR(differs(NBD_HSC_GOAL_GO, name, NBD_HSC_DONE), "");
		greeting(BOTH);
		asks_info(name);
		says(6, NBD_REP_ERR_UNKNOWN, NULL, 0);
		asks_abort();
		CHECK_STR(differs(NBD_HSC_GOAL_INFO, name, NBD_HSC_E_REFUSED), "");
	}
	memset(name, 'n', 4097);
	name[4097] = '\0';
	CHECK(!nbd_hsc_init(&h, NBD_HSC_GOAL_GO, name));
	CHECK_EQ(nbd_hsc_want(&h), 0);
}

TEST(nothing_is_sent_before_the_whole_greeting_is_there)
{
	greeting(BOTH);
	for (server.n = 1; server.n < 18; server.n++) {
		CHECK_EQ(converse(NBD_HSC_GOAL_GO, "disk", server.n, NULL), NBD_HSC_MORE);
		CHECK_EQ(sent.n, 0);
		CHECK_EQ(nbd_hsc_want(&h), 18 - server.n);
	}
}

TEST(a_conversation_cut_anywhere_wants_more_and_is_not_done)
{
	size_t whole;

	greeting(BOTH);
	says_export(7);
	says_block_size(7, 512, 4096, 1 << 20);
	says(7, 1, NULL, 0);
	whole = server.n;
	for (server.n = 1; server.n < whole; server.n++) {
		CHECK_EQ(converse(NBD_HSC_GOAL_GO, "disk", server.n, NULL), NBD_HSC_MORE);
		CHECK(nbd_hsc_want(&h) > 0 && nbd_hsc_want(&h) <= whole - server.n);
		CHECK_EQ(used, server.n);
	}
}

/* ---- the greeting ---------------------------------------------------------------------- */

TEST(what_does_not_begin_as_nbd_is_not_nbd)
{
	for (size_t i = 0; i < 16; i++) {
		greeting(BOTH);
		server.b[i] ^= 0x20;
		client.n = 0;
		CHECK_STR(differs(NBD_HSC_GOAL_GO, "disk", NBD_HSC_E_NOT_NBD), "");
	}
	server.n = 0;
	put_text(&server, "SSH-2.0-OpenSSH_9.2p1\r\n");
	server.n = 18;
	CHECK_STR(differs(NBD_HSC_GOAL_LIST, "", NBD_HSC_E_NOT_NBD), "");
}

TEST(an_oldstyle_server_is_named_as_one)
{
	server.n = 0;
	client.n = 0;
	put_text(&server, "NBDMAGIC");
	put_be(&server, 0x00420281861253, 8);
	put_be(&server, 0, 2);
	CHECK_STR(differs(NBD_HSC_GOAL_GO, "disk", NBD_HSC_E_OLDSTYLE), "");
}

TEST(client_flags_are_only_what_the_server_offered)
{
	for (unsigned offered = 0; offered <= 0xffff; offered = offered * 2 + 1) {
		greeting((uint16_t)offered);
		CHECK_EQ(converse(NBD_HSC_GOAL_GO, "disk", server.n, NULL), NBD_HSC_MORE);
		CHECK(sent.n > 4 && memcmp(sent.b, client.b, 4) == 0);
		CHECK_EQ(sent.b[3], offered & 3);
	}
}

/* ---- NBD_OPT_EXPORT_NAME --------------------------------------------------------------- */

static void says_export_name_reply(int zeroes)
{
	put_be(&server, export_size, 8);
	put_be(&server, EXPORT_FLAGS, 2);
	put_fill(&server, 0, (size_t)zeroes);
}

TEST(a_server_that_is_not_fixed_is_asked_by_export_name)
{
	for (int no_zeroes = 0; no_zeroes < 2; no_zeroes++) {
		greeting(no_zeroes ? NBD_FLAG_NO_ZEROES : 0);
		asks_export_name("disk");
		says_export_name_reply(no_zeroes ? 0 : 124);
		CHECK_STR(differs(NBD_HSC_GOAL_GO, "disk", NBD_HSC_DONE), "");
		CHECK(h.used_export_name);
		CHECK(!h.has_block_size);
		CHECK_EQ(h.info.size, export_size);
		CHECK_EQ(h.info.flags, EXPORT_FLAGS);
		CHECK_EQ(h.info.block_max, 33554432);
	}
}

TEST(a_server_that_is_not_fixed_is_not_asked_what_may_end_its_session)
{
	greeting(NBD_FLAG_NO_ZEROES);
	client.n = 0;
	CHECK_STR(differs(NBD_HSC_GOAL_INFO, "disk", NBD_HSC_E_REFUSED), "");
	CHECK_EQ(h.rep_error, NBD_REP_ERR_UNSUP);
	CHECK_STR(differs(NBD_HSC_GOAL_LIST, "", NBD_HSC_E_REFUSED), "");
	CHECK_EQ(h.rep_error, NBD_REP_ERR_UNSUP);
}

TEST(a_server_without_go_is_asked_by_export_name)
{
	static const char *const texts[] = { "", "unknown option" };

	for (int no_zeroes = 0; no_zeroes < 2; no_zeroes++) {
		greeting(no_zeroes ? BOTH : FIXED);
		asks_go("disk");
		says(7, NBD_REP_ERR_UNSUP, texts[no_zeroes], (uint32_t)strlen(texts[no_zeroes]));
		asks_export_name("disk");
		says_export_name_reply(no_zeroes ? 0 : 124);
		CHECK_STR(differs(NBD_HSC_GOAL_GO, "disk", NBD_HSC_DONE), "");
		CHECK(h.used_export_name);
		CHECK_EQ(h.info.size, export_size);
	}
}

TEST(a_server_without_go_and_a_name_of_4096_bytes_fit_the_output)
{
	static char name[4097];

	memset(name, 'n', 4096);
	greeting(BOTH);
	asks_go(name);
	says(7, NBD_REP_ERR_UNSUP, NULL, 0);
	asks_export_name(name);
	says_export_name_reply(0);
	CHECK_STR(differs(NBD_HSC_GOAL_GO, name, NBD_HSC_DONE), "");
}

TEST(a_server_without_info_refuses_and_is_not_entered)
{
	greeting(BOTH);
	asks_info("disk");
	says(6, NBD_REP_ERR_UNSUP, NULL, 0);
	asks_abort();
	CHECK_STR(differs(NBD_HSC_GOAL_INFO, "disk", NBD_HSC_E_REFUSED), "");
	CHECK_EQ(h.rep_error, NBD_REP_ERR_UNSUP);
	CHECK(!h.used_export_name);
}

TEST(an_export_is_at_most_as_large_as_a_file_can_be)
{
	static const uint64_t sizes[] = { 0, INT64_MAX - 1, INT64_MAX, UINT64_C(1) << 63,
					  UINT64_MAX };

	for (size_t i = 0; i < 5; i++) {
		bool is_ok = sizes[i] <= INT64_MAX;

		greeting(BOTH);
		asks_go("disk");
		says_head(7, 3, 12);
		put_be(&server, 0, 2);
		put_be(&server, sizes[i], 8);
		put_be(&server, EXPORT_FLAGS, 2);
		if (is_ok)
			says(7, 1, NULL, 0);
		CHECK_STR(differs(NBD_HSC_GOAL_GO, "disk",
				  is_ok ? NBD_HSC_DONE : NBD_HSC_E_MALFORMED),
			  "");
		CHECK(!is_ok || h.info.size == sizes[i]);

		greeting(NBD_FLAG_NO_ZEROES);
		asks_export_name("disk");
		put_be(&server, sizes[i], 8);
		put_be(&server, EXPORT_FLAGS, 2);
		CHECK_STR(differs(NBD_HSC_GOAL_GO, "disk",
				  is_ok ? NBD_HSC_DONE : NBD_HSC_E_MALFORMED),
			  "");
	}
}

/* ---- refusals -------------------------------------------------------------------------- */

static const char *refused_with(uint32_t error, const void *text, uint32_t size)
{
	greeting(BOTH);
	asks_go("disk");
	says(7, error, text, size);
	asks_abort();
	return differs(NBD_HSC_GOAL_GO, "disk", NBD_HSC_E_REFUSED);
}

TEST(every_error_but_unsup_is_kept_and_answered_with_an_abort)
{
	for (uint32_t error = NBD_REP_ERR_POLICY; error < NBD_REP_ERR_POLICY + 12; error++) {
		CHECK_STR(refused_with(error, "words", 5), "");
		CHECK_EQ(h.rep_error, error);
		CHECK_STR(h.text, "words");
	}
	CHECK_STR(refused_with(UINT32_MAX, "", 0), "");
	CHECK_EQ(h.rep_error, UINT32_MAX);
}

TEST(an_errors_text_may_have_4096_bytes_and_a_longer_one_is_dropped)
{
	static const uint32_t sizes[] = { 0, 1, 4095, 4096, 4097, NBD_HSC_DATA_MAX };
	static char text[NBD_HSC_DATA_MAX];

	memset(text, 't', sizeof(text));
	for (size_t i = 0; i < 6; i++) {
		CHECK_STR(refused_with(NBD_REP_ERR_UNKNOWN, text, sizes[i]), "");
		CHECK_EQ(strlen(h.text), sizes[i] <= 4096 ? sizes[i] : 0);
		CHECK_EQ(h.rep_error, NBD_REP_ERR_UNKNOWN);
	}
}

TEST(an_errors_text_with_a_nul_is_dropped)
{
	CHECK_STR(refused_with(NBD_REP_ERR_POLICY, "a\0b", 3), "");
	CHECK_STR(h.text, "");
	CHECK_STR(refused_with(NBD_REP_ERR_POLICY, "ab\0", 3), "");
	CHECK_STR(h.text, "");
}

TEST(an_errors_text_with_control_characters_is_kept_for_the_log_to_clean)
{
	CHECK_STR(refused_with(NBD_REP_ERR_POLICY, "a\n\033[0m", 6), "");
	CHECK_STR(h.text, "a\n\033[0m");
}

TEST(an_errors_text_does_not_show_a_name_that_came_before_it)
{
	static const char *const texts[] = { "", "a\0b" };

	for (uint32_t i = 0; i < 2; i++) {
		greeting(BOTH);
		asks_info("disk");
		says_info_text(6, 1, "canonical", 9);
		says(6, NBD_REP_ERR_POLICY, texts[i], 3 * i);
		asks_abort();
		CHECK_STR(differs(NBD_HSC_GOAL_INFO, "disk", NBD_HSC_E_REFUSED), "");
		CHECK_STR(h.text, "");
	}
}

/* ---- replies that the specification does not allow ------------------------------------- */

/* A reply to GO after the greeting, which is malformed as a whole. */
static const char *malformed(uint32_t option, uint32_t reply, const void *data, uint32_t size)
{
	greeting(BOTH);
	asks_go("disk");
	says(option, reply, data, size);
	return differs(NBD_HSC_GOAL_GO, "disk", NBD_HSC_E_MALFORMED);
}

TEST(a_reply_to_an_option_that_was_not_sent_is_malformed)
{
	for (uint32_t option = 0; option < 12; option++) {
		if (option == 7)
			continue;
		CHECK_STR(malformed(option, 1, NULL, 0), "");
		CHECK_STR(malformed(option, NBD_REP_ERR_UNSUP, NULL, 0), "");
	}
}

TEST(a_reply_with_any_byte_of_the_magic_wrong_is_malformed)
{
	for (size_t i = 0; i < 8; i++) {
		greeting(BOTH);
		asks_go("disk");
		says(7, NBD_REP_ERR_UNKNOWN, NULL, 0);
		server.b[18 + i] ^= 0x40;
		CHECK_STR(differs(NBD_HSC_GOAL_GO, "disk", NBD_HSC_E_MALFORMED), "");
	}
}

TEST(a_reply_may_be_as_long_as_the_longest_useful_one_and_a_longer_one_is_not_read)
{
	static char text[NBD_STRING_MAX];

	memset(text, 'x', sizeof(text));
	for (int over = -1; over <= 0; over++) {
		greeting(BOTH);
		asks_list();
		says_listed(text, 4096, text, (uint32_t)(4096 + over));
		says(3, 1, NULL, 0);
		asks_abort();
		CHECK_STR(differs(NBD_HSC_GOAL_LIST, "", NBD_HSC_DONE), "");
		CHECK_EQ(listed.n, (size_t)(4096 + 1 + 4096 + over + 1));
	}
	greeting(BOTH);
	asks_list();
	says_head(3, 2, NBD_HSC_DATA_MAX + 1);
	CHECK_STR(differs(NBD_HSC_GOAL_LIST, "", NBD_HSC_E_MALFORMED), "");
	greeting(BOTH);
	asks_go("disk");
	says_head(7, NBD_REP_ERR_UNKNOWN, UINT32_MAX);
	CHECK_STR(differs(NBD_HSC_GOAL_GO, "disk", NBD_HSC_E_MALFORMED), "");
}

TEST(an_export_information_has_exactly_12_bytes)
{
	static const uint8_t data[13] = { 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 1, 0 };

	for (uint32_t size = 2; size <= 13; size++) {
		if (size != 12)
			CHECK_STR(malformed(7, 3, data, size), "");
	}
	greeting(BOTH);
	asks_go("disk");
	says(7, 3, data, 12);
	says(7, 1, NULL, 0);
	CHECK_STR(differs(NBD_HSC_GOAL_GO, "disk", NBD_HSC_DONE), "");
	CHECK_EQ(h.info.size, 4096);
}

TEST(a_block_size_information_has_exactly_14_bytes)
{
	static const uint8_t data[15] = { 0, 3, 0, 0, 2, 0, 0, 0, 16, 0, 0, 1, 0, 0, 0 };

	for (uint32_t size = 2; size <= 15; size++) {
		if (size != 14)
			CHECK_STR(malformed(7, 3, data, size), "");
	}
	greeting(BOTH);
	asks_go("disk");
	says(7, 3, data, 14);
	says_export(7);
	says(7, 1, NULL, 0);
	CHECK_STR(differs(NBD_HSC_GOAL_GO, "disk", NBD_HSC_DONE), "");
	CHECK_EQ(h.info.block_max, 65536);
}

TEST(block_sizes_that_make_no_sense_are_malformed)
{
	static const struct {
		uint32_t min, preferred, max;
		bool is_ok;
	} cases[] = {
		{ 1, 512, 512, true },
		{ 1, 4096, UINT32_MAX, true },
		{ 65536, 65536, 65536, true },
		{ 512, UINT32_C(1) << 31, UINT32_MAX, true },
		{ 512, 4096, 33554433, true }, /* "MAY be something other than a power of 2" */
		{ 0, 4096, 33554432, false },
		{ 3, 4096, 33554432, false },
		{ 513, 4096, 33554432, false },
		{ 131072, 131072, 33554432, false },
		{ UINT32_MAX, UINT32_MAX, UINT32_MAX, false },
		{ 512, 0, 33554432, false },
		{ 512, 256, 33554432, false },
		{ 512, 4095, 33554432, false },
		{ 512, 4097, 33554432, false },
		{ 512, 4096, 0, false },
		{ 512, 4096, 511, false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		greeting(BOTH);
		asks_go("disk");
		says_export(7);
		says_block_size(7, cases[i].min, cases[i].preferred, cases[i].max);
		if (cases[i].is_ok)
			says(7, 1, NULL, 0);
		CHECK_STR(differs(NBD_HSC_GOAL_GO, "disk",
				  cases[i].is_ok ? NBD_HSC_DONE : NBD_HSC_E_MALFORMED),
			  "");
		CHECK_EQ(h.has_block_size, cases[i].is_ok);
		CHECK_EQ(h.info.block_max, cases[i].is_ok ? cases[i].max : 33554432);
	}
}

TEST(an_information_without_a_whole_type_is_malformed_and_an_unknown_type_is_ignored)
{
	static const uint8_t unknown[6] = { 0x12, 0x34, 1, 2, 3, 4 };

	CHECK_STR(malformed(7, 3, unknown, 0), "");
	CHECK_STR(malformed(7, 3, unknown, 1), "");
	greeting(BOTH);
	asks_go("disk");
	says(7, 3, unknown, 2);
	says(7, 3, unknown, 6);
	says_export(7);
	says(7, 1, NULL, 0);
	CHECK_STR(differs(NBD_HSC_GOAL_GO, "disk", NBD_HSC_DONE), "");
	CHECK_EQ(h.info.size, export_size);
}

TEST(an_acknowledgement_with_data_is_malformed)
{
	greeting(BOTH);
	asks_go("disk");
	says_export(7);
	says(7, 1, "x", 1);
	CHECK_STR(differs(NBD_HSC_GOAL_GO, "disk", NBD_HSC_E_MALFORMED), "");
	greeting(BOTH);
	asks_list();
	says(3, 1, "x", 1);
	CHECK_STR(differs(NBD_HSC_GOAL_LIST, "", NBD_HSC_E_MALFORMED), "");
}

TEST(an_acknowledgement_before_the_export_information_is_malformed)
{
	CHECK_STR(malformed(7, 1, NULL, 0), "");
	greeting(BOTH);
	asks_info("disk");
	says_block_size(6, 512, 4096, 1 << 20);
	says(6, 1, NULL, 0);
	CHECK_STR(differs(NBD_HSC_GOAL_INFO, "disk", NBD_HSC_E_MALFORMED), "");
}

TEST(replies_of_another_option_or_of_no_known_type_are_malformed)
{
	static const uint8_t listed_a[5] = { 0, 0, 0, 1, 'a' };
	static const uint8_t export_info[12] = { 0 };
	static const uint32_t types[] = { 0, 4, 5, 0x7fffffff };

	CHECK_STR(malformed(7, 2, listed_a, 5), "");
	for (size_t i = 0; i < 4; i++)
		CHECK_STR(malformed(7, types[i], NULL, 0), "");
	greeting(BOTH);
	asks_list();
	says(3, 3, export_info, 12);
	CHECK_STR(differs(NBD_HSC_GOAL_LIST, "", NBD_HSC_E_MALFORMED), "");
}

TEST(a_listed_exports_name_fits_its_reply_exactly_or_leaves_a_description)
{
	static const uint8_t head[4] = { 0, 0, 0, 0 };

	for (uint32_t size = 0; size < 4; size++) {
		greeting(BOTH);
		asks_list();
		says(3, 2, head, size);
		CHECK_STR(differs(NBD_HSC_GOAL_LIST, "", NBD_HSC_E_MALFORMED), "");
	}
	for (int over = -1; over <= 1; over++) {
		greeting(BOTH);
		asks_list();
		says_head(3, 2, 4 + 3);
		put_be(&server, (uint64_t)(3 + over), 4);
		put_text(&server, "abc");
		if (over <= 0) {
			says(3, 1, NULL, 0);
			asks_abort();
		}
		CHECK_STR(differs(NBD_HSC_GOAL_LIST, "",
				  over <= 0 ? NBD_HSC_DONE : NBD_HSC_E_MALFORMED),
			  "");
		put_be(&listed, 0, 1);
		CHECK_STR((char *)listed.b, over < 0 ? "ab=c;" : over == 0 ? "abc=;" : "");
	}
	greeting(BOTH);
	asks_list();
	says_head(3, 2, 4);
	put_be(&server, UINT32_MAX, 4);
	CHECK_STR(differs(NBD_HSC_GOAL_LIST, "", NBD_HSC_E_MALFORMED), "");
}

TEST(names_and_descriptions_over_4096_bytes_or_with_a_nul_are_malformed)
{
	static char text[4097];

	memset(text, 'x', sizeof(text));
	for (int is_name = 0; is_name < 2; is_name++) {
		greeting(BOTH);
		asks_list();
		says_listed(text, is_name ? 4097 : 1, text, is_name ? 1 : 4097);
		CHECK_STR(differs(NBD_HSC_GOAL_LIST, "", NBD_HSC_E_MALFORMED), "");
		greeting(BOTH);
		asks_list();
		says_listed(is_name ? "a\0b" : "abc", 3, is_name ? "abc" : "ab\0", 3);
		CHECK_STR(differs(NBD_HSC_GOAL_LIST, "", NBD_HSC_E_MALFORMED), "");
		for (uint32_t size = 4095; size <= 4097; size++) {
			greeting(BOTH);
			asks_info("disk");
			says_export(6);
			says_info_text(6, is_name ? 1 : 2, text, size);
			if (size <= 4096) {
				says(6, 1, NULL, 0);
				asks_abort();
			}
			CHECK_STR(differs(NBD_HSC_GOAL_INFO, "disk",
					  size <= 4096 ? NBD_HSC_DONE : NBD_HSC_E_MALFORMED),
				  "");
			CHECK(size > 4096 || strlen(is_name ? h.text : h.text2) == size);
		}
	}
}

TEST(every_result_has_words_of_its_own)
{
	for (int a = NBD_HSC_MORE; a <= NBD_HSC_E_REFUSED; a++)
		for (int b = NBD_HSC_MORE; b < a; b++)
			CHECK(strcmp(nbd_hsc_result_text((enum nbd_hsc_result)a),
				     nbd_hsc_result_text((enum nbd_hsc_result)b)) != 0);
}
