/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a client may negotiate beside an export, as scripted conversations with the server:
 * structured replies, extended headers, metadata contexts, and TLS, which is refused. What was
 * negotiated must be in the mode when it is done, and nothing else.
 */
#include "proto/handshake-server.h"

#include "tests/unit/tap.h"

#include "tests/unit/server-script.h"

enum { LIST_META = 9, SET_META = 10 };

static const char *const none[] = { NULL };
static const char *const base[] = { "base:", NULL };
static const char *const allocation[] = { "base:allocation", NULL };

static bool mode_is(bool structured, bool extended, bool has_context)
{
	return h.mode.structured == structured && h.mode.extended == extended &&
	       h.mode.has_base_allocation == has_context && (h.mode.context_id != 0) == has_context;
}

/* ---- NBD_OPT_STRUCTURED_REPLY, NBD_OPT_EXTENDED_HEADERS ---------------------------------- */

TEST(nothing_is_in_the_mode_that_was_not_negotiated)
{
	flags(BOTH);
	ends_with_go();
	CHECK_STR(differs(NBD_HSS_DONE), "");
	CHECK(mode_is(false, false, false));
}

TEST(structured_replies_are_negotiated_once_or_twice)
{
	for (int times = 1; times <= 2; times++) {
		flags(BOTH);
		for (int i = 0; i < times; i++)
			gets_structured_replies();
		ends_with_go();
		CHECK_STR(differs(NBD_HSS_DONE), "");
		CHECK(mode_is(true, false, false));
	}
}

TEST(extended_headers_are_negotiated_with_or_without_structured_replies_before)
{
	for (int i = 0; i < 4; i++) {
		flags(BOTH);
		if (i & 1)
			gets_structured_replies();
		gets_extended_headers();
		if (i & 2)
			gets_extended_headers();
		ends_with_go();
		CHECK_STR(differs(NBD_HSS_DONE), "");
		CHECK(mode_is(true, true, false));
	}
}

/* "The client has already successfully negotiated extended headers, which takes precedence" */
TEST(structured_replies_after_extended_headers_are_refused)
{
	flags(BOTH);
	gets_extended_headers();
	asks(8, NULL, 0);
	says_error(8, NBD_REP_ERR_EXT_HEADER_REQD);
	ends_with_go();
	CHECK_STR(differs(NBD_HSS_DONE), "");
	CHECK(mode_is(true, true, false));
}

TEST(options_that_take_no_data_are_invalid_with_some_and_change_nothing)
{
	static const uint32_t options[] = { 5, 8, 11 };

	for (size_t o = 0; o < 3; o++)
		for (uint32_t size = 1; size <= NBD_HSS_DATA_MAX + 1;
		     size += NBD_HSS_DATA_MAX / 2) {
			flags(BOTH);
			asks_head(options[o], size);
			put_fill(&client, 0, size);
			says_error(options[o], NBD_REP_ERR_INVALID);
			ends_with_go();
			CHECK_STR(differs(NBD_HSS_DONE), "");
			CHECK(mode_is(false, false, false));
		}
}

TEST(information_shows_the_flags_of_what_is_negotiated_by_then)
{
	flags(BOTH);
	asks_for(6, "disk", NULL, 0);
	says_export(6);
	says_ack(6);
	gets_structured_replies();
	asks_for(6, "disk", NULL, 0);
	says_export(6);
	says_ack(6);
	gets_extended_headers();
	ends_with_go();
	CHECK_STR(differs(NBD_HSS_DONE), "");
}

TEST(export_name_may_follow_structured_replies_and_not_extended_headers)
{
	flags(BOTH);
	gets_structured_replies();
	asks(1, "disk", 4);
	put_be(&server, disk.size, 8);
	put_be(&server, seen_flags, 2);
	CHECK_STR(differs(NBD_HSS_DONE), "");
	CHECK(mode_is(true, false, false));

	/* "Once extended headers are successfully requested, a client MUST NOT use
	 * NBD_OPT_EXPORT_NAME" */
	flags(BOTH);
	gets_extended_headers();
	asks(1, "disk", 4);
	CHECK_STR(differs(NBD_HSS_CLOSE), "");
	CHECK_EQ(asked.n, 0);
}

/* ---- NBD_OPT_STARTTLS -------------------------------------------------------------------- */

TEST(tls_is_not_supported_however_often_it_is_asked_for)
{
	flags(BOTH);
	for (int i = 0; i < 2; i++) {
		asks(5, NULL, 0);
		says_error(5, NBD_REP_ERR_UNSUP);
	}
	gets_structured_replies();
	asks(5, NULL, 0);
	says_error(5, NBD_REP_ERR_UNSUP);
	ends_with_go();
	CHECK_STR(differs(NBD_HSS_DONE), "");
	CHECK(mode_is(true, false, false)); /* what was negotiated outlives the refusal */
}

/* ---- NBD_OPT_LIST_META_CONTEXT ----------------------------------------------------------- */

TEST(a_context_is_listed_for_no_query_its_name_and_its_namespace)
{
	static const char *const many[] = { "qemu:", "x-y:z", "base:allocation", "base:", NULL };
	static const char *const *const cases[] = { none, base, allocation, many };

	for (size_t i = 0; i < 4; i++) {
		flags(BOTH);
		gets_structured_replies();
		asks_meta(LIST_META, "disk", cases[i]);
		says_context(LIST_META, 0); /* once, whatever finds it; "SHOULD be set to zero" */
		says_ack(LIST_META);
		ends_with_go();
		CHECK_STR(differs(NBD_HSS_DONE), "");
		CHECK_STR(asked_names(), "meta disk;disk;");
		CHECK(mode_is(true, false, false)); /* listing selects nothing */
	}
}

TEST(queries_of_other_namespaces_and_odd_ones_find_nothing)
{
	static const char *const odd[] = { "qemu:dirty-bitmap:x",
					   "x-a:",
					   "base",
					   "base:allocatio",
					   "base:allocation ",
					   "base:allocations",
					   "BASE:allocation",
					   "",
					   ":",
					   "base:other",
					   "\xff\xfe",
					   NULL };

	for (uint32_t option = LIST_META; option <= SET_META; option++) {
		flags(BOTH);
		gets_structured_replies();
		asks_meta(option, "disk", odd);
		says_ack(option);
		ends_with_go();
		CHECK_STR(differs(NBD_HSS_DONE), "");
		CHECK(mode_is(true, false, false));
	}
}

/* ---- NBD_OPT_SET_META_CONTEXT ------------------------------------------------------------ */

TEST(a_context_is_set_by_its_name_alone)
{
	static const char *const mixed[] = { "x-y:z", "base:", "base:allocation", "base:allocation",
					     NULL };
	static const struct {
		const char *const *queries;
		bool is_set;
	} cases[] = { { none, false }, { base, false }, { allocation, true }, { mixed, true } };

	for (size_t i = 0; i < 4; i++)
		for (int is_extended = 0; is_extended <= 1; is_extended++) {
			flags(BOTH);
			if (is_extended)
				gets_extended_headers();
			else
				gets_structured_replies();
			asks_meta(SET_META, "disk", cases[i].queries);
			if (cases[i].is_set)
				says_context(SET_META, 1);
			says_ack(SET_META);
			ends_with_go();
			CHECK_STR(differs(NBD_HSS_DONE), "");
			CHECK(mode_is(true, is_extended, cases[i].is_set));
		}
}

TEST(a_context_counts_for_the_export_that_it_was_set_for)
{
	static const struct {
		const char *set, *go;
	} cases[] = { { "disk", "disk" }, { "", "" },    { "disk", "" }, { "", "disk" },
		      { "n", "n" },       { "n", "nn" }, { "nn", "n" },  { "na", "nb" } };

	for (size_t i = 0; i < 8; i++) {
		flags(BOTH);
		gets_structured_replies();
		asks_meta(SET_META, cases[i].set, allocation);
		says_context(SET_META, 1);
		says_ack(SET_META);
		asks_for(6, "nothing to do with it", NULL, 0);
		says_export(6);
		says_ack(6);
		asks_go(cases[i].go);
		says_export(7);
		says_ack(7);
		CHECK_STR(differs(NBD_HSS_DONE), "");
		CHECK(mode_is(true, false, strcmp(cases[i].set, cases[i].go) == 0));
	}
}

TEST(a_context_counts_for_export_name_too)
{
	flags(BOTH);
	gets_structured_replies();
	asks_meta(SET_META, "disk", allocation);
	says_context(SET_META, 1);
	says_ack(SET_META);
	asks(1, "disk", 4);
	put_be(&server, disk.size, 8);
	put_be(&server, seen_flags, 2);
	CHECK_STR(differs(NBD_HSS_DONE), "");
	CHECK(mode_is(true, false, true));
}

TEST(setting_again_replaces_what_was_set_even_when_it_fails)
{
	static const struct {
		const char *name;
		const char *const *queries;
		uint32_t error;
		bool is_set;
	} cases[] = {
		{ "disk", allocation, 0, true },
		{ "disk", none, 0, false },
		{ "", allocation, 0, false }, /* for another export, then */
		{ "gone", allocation, NBD_REP_ERR_UNKNOWN, false },
	};

	for (size_t i = 0; i < 4; i++) {
		flags(BOTH);
		gets_structured_replies();
		asks_meta(SET_META, "disk", allocation);
		says_context(SET_META, 1);
		says_ack(SET_META);
		asks_meta(SET_META, cases[i].name, cases[i].queries);
		if (cases[i].error)
			says_error(SET_META, cases[i].error);
		else if (cases[i].queries == allocation)
			says_context(SET_META, 1);
		if (!cases[i].error)
			says_ack(SET_META);
		ends_with_go();
		CHECK_STR(differs(NBD_HSS_DONE), "");
		CHECK(mode_is(true, false, cases[i].is_set));
	}
}

TEST(an_invalid_or_too_long_setting_replaces_what_was_set)
{
	for (int is_long = 0; is_long <= 1; is_long++) {
		uint32_t size = is_long ? NBD_HSS_DATA_MAX + 1 : 3;

		flags(BOTH);
		gets_structured_replies();
		asks_meta(SET_META, "disk", allocation);
		says_context(SET_META, 1);
		says_ack(SET_META);
		asks_head(SET_META, size);
		put_fill(&client, 0, size);
		says_error(SET_META, is_long ? NBD_REP_ERR_TOO_BIG : NBD_REP_ERR_INVALID);
		ends_with_go();
		CHECK_STR(differs(NBD_HSS_DONE), "");
		CHECK(mode_is(true, false, false));
	}
}

TEST(listing_leaves_what_was_set)
{
	flags(BOTH);
	gets_structured_replies();
	asks_meta(SET_META, "disk", allocation);
	says_context(SET_META, 1);
	says_ack(SET_META);
	asks_meta(LIST_META, "", none);
	says_context(LIST_META, 0);
	says_ack(LIST_META);
	ends_with_go();
	CHECK_STR(differs(NBD_HSS_DONE), "");
	CHECK(mode_is(true, false, true));
}

/* ---- both, refused ----------------------------------------------------------------------- */

TEST(contexts_before_structured_replies_are_invalid_whatever_is_asked)
{
	for (uint32_t option = LIST_META; option <= SET_META; option++) {
		flags(BOTH);
		asks_meta(option, "disk", allocation);
		says_error(option, NBD_REP_ERR_INVALID);
		asks(option, NULL, 0);
		says_error(option, NBD_REP_ERR_INVALID);
		asks_head(option, NBD_HSS_DATA_MAX + 1);
		put_fill(&client, 0, NBD_HSS_DATA_MAX + 1);
		says_error(option, NBD_REP_ERR_INVALID);
		gets_structured_replies();
		ends_with_go();
		CHECK_STR(differs(NBD_HSS_DONE), "");
		CHECK_STR(asked_names(), "disk;");
		CHECK(mode_is(true, false, false));
	}
}

TEST(contexts_of_an_unknown_export_are_refused_with_and_without_queries)
{
	for (uint32_t option = LIST_META; option <= SET_META; option++) {
		flags(BOTH);
		gets_structured_replies();
		asks_meta(option, "gone", allocation);
		says_error(option, NBD_REP_ERR_UNKNOWN);
		asks_meta(option, "gone", none);
		says_error(option, NBD_REP_ERR_UNKNOWN);
		ends_with_go();
		CHECK_STR(differs(NBD_HSS_DONE), "");
		CHECK_STR(asked_names(), "meta gone;meta gone;disk;");
	}
}

TEST(contexts_whose_lengths_do_not_agree_are_invalid)
{
	static const struct {
		uint32_t name_size, count, query_size, size; /* as written in the option */
	} cases[] = {
		{ 0, 0, 0, 0 },
		{ 4, 0, 0, 3 },
		{ 4, 0, 0, 4 },
		{ 4, 0, 0, 4 + 4 + 3 },
		{ 4, 0, 0, 4 + 4 + 4 + 1 }, /* a byte more than no query */
		{ 4, 0, 15, 4 + 4 + 4 + 4 + 15 },
		{ 4, 1, 15, 4 + 4 + 4 },
		{ 4, 1, 15, 4 + 4 + 4 + 3 },
		{ 4, 1, 15, 4 + 4 + 4 + 4 },
		{ 4, 1, 15, 4 + 4 + 4 + 4 + 14 }, /* case 32: a query longer than the option */
		{ 4, 1, 16, 4 + 4 + 4 + 4 + 15 },
		{ 4, 1, 14, 4 + 4 + 4 + 4 + 15 }, /* a byte after the last query */
		{ 4, 2, 15, 4 + 4 + 4 + 4 + 15 },
		{ 4, UINT32_MAX, 15, 4 + 4 + 4 + 4 + 15 }, /* case 32 */
		{ 4, 1, UINT32_MAX, 4 + 4 + 4 + 4 + 15 },
		{ 3, 1, 15, 4 + 4 + 4 + 4 + 15 }, /* the count begins in the name */
		{ 5, 1, 15, 4 + 4 + 4 + 4 + 15 },
		{ UINT32_MAX, 1, 15, 4 + 4 + 4 + 4 + 15 },
		{ UINT32_MAX - 3, 1, 15, 4 + 4 + 4 + 4 + 15 },
	};

	for (uint32_t option = LIST_META; option <= SET_META; option++)
		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			static struct bytes data;

			data.n = 0;
			put_be(&data, cases[i].name_size, 4);
			put_text(&data, "disk");
			put_be(&data, cases[i].count, 4);
			put_be(&data, cases[i].query_size, 4);
			put_text(&data, "base:allocation");
			put_fill(&data, 0, 8);
			flags(BOTH);
			gets_structured_replies();
			asks(option, data.b, cases[i].size);
			says_error(option, NBD_REP_ERR_INVALID);
			ends_with_go();
			CHECK_STR(differs(NBD_HSS_DONE), "");
			CHECK_STR(asked_names(), "disk;");
		}
}

TEST(export_names_and_queries_of_4096_bytes_are_taken_and_longer_ones_are_not)
{
	static char text[NBD_STRING_MAX + 2];
	const char *query[] = { text, NULL };

	for (size_t size = NBD_STRING_MAX - 1; size <= NBD_STRING_MAX + 1; size++)
		for (int is_query = 0; is_query <= 1; is_query++) {
			memset(text, 'n', size);
			text[size] = '\0';
			flags(BOTH);
			gets_structured_replies();
			if (is_query)
				asks_meta(SET_META, "disk", query);
			else
				asks_meta(SET_META, text, allocation);
			if (size > NBD_STRING_MAX)
				says_error(SET_META, NBD_REP_ERR_INVALID);
			else if (!is_query)
				says_context(SET_META, 1);
			if (size <= NBD_STRING_MAX)
				says_ack(SET_META);
			ends_with_go();
			CHECK_STR(differs(NBD_HSS_DONE), "");
		}
}

TEST(a_name_with_a_nul_is_invalid_and_queries_with_one_find_nothing)
{
	static const uint8_t name[] = "\0\0\0\5disk\0\0\0\0\1\0\0\0\17base:allocation";
	static const uint8_t query[] = "\0\0\0\4disk\0\0\0\1\0\0\0\20base:allocation\0";

	flags(BOTH);
	gets_structured_replies();
	asks(SET_META, name, sizeof(name) - 1);
	says_error(SET_META, NBD_REP_ERR_INVALID);
	asks(SET_META, query, sizeof(query) - 1);
	says_ack(SET_META);
	ends_with_go();
	CHECK_STR(differs(NBD_HSS_DONE), "");
	CHECK(mode_is(true, false, false));
}

TEST(as_many_queries_as_fit_are_looked_at)
{
	uint32_t count = (NBD_HSS_DATA_MAX - 12 - 19) / 4;

	flags(BOTH);
	gets_structured_replies();
	asks_head(SET_META, 12 + 4 * count + 19);
	put_be(&client, 4, 4);
	put_text(&client, "disk");
	put_be(&client, count + 1, 4);
	put_fill(&client, 0, 4 * (size_t)count); /* empty ones */
	put_be(&client, 15, 4);
	put_text(&client, "base:allocation");
	says_context(SET_META, 1);
	says_ack(SET_META);
	ends_with_go();
	CHECK_STR(differs(NBD_HSS_DONE), "");
	CHECK(mode_is(true, false, true));
}
