/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/json.h"
#include "tests/unit/tap.h"

#include <errno.h>

enum { TOKENS = 64 };

static struct json_token tokens[TOKENS];

static ssize_t parse(const char *text)
{
	/* in a block of exactly its size, so that a sanitizer sees its end */
	size_t size = strlen(text);
	char *copy = malloc(size + 1);
	ssize_t n;

	memcpy(copy, text, size);
	n = json_parse(copy, size, tokens, TOKENS);
	free(copy);
	return n;
}

static const char *string(const char *text)
{
	static char out[64];

	if (parse(text) != 1)
		return "(does not parse)";
	return json_string(text, tokens, out, sizeof(out)) < 0 ? "(no C string)" : out;
}

static const char *written(const char *text)
{
	static char buffer[256];
	FILE *out = fmemopen(buffer, sizeof(buffer), "w");

	json_put_string(out, text);
	fclose(out);
	return buffer;
}

TEST(every_kind_of_value_is_one_token)
{
	static const struct {
		const char *text;
		enum json_type type;
	} cases[] = {
		{ "{}", JSON_OBJECT },   { "[]", JSON_ARRAY },          { "\"\"", JSON_STRING },
		{ "0", JSON_NUMBER },    { "-12.5e+3", JSON_NUMBER },   { "true", JSON_TRUE },
		{ "false", JSON_FALSE }, { " \t\r\nnull ", JSON_NULL }, { "{ }", JSON_OBJECT },
		{ "1E-2", JSON_NUMBER },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CHECK_EQ(parse(cases[i].text), 1);
		CHECK_EQ(tokens[0].type, cases[i].type);
		CHECK_EQ(tokens[0].span, 1);
	}
}

TEST(what_is_not_strictly_json_is_refused)
{
	static const char *const cases[] = {
		"",          " ",          "{",           "}",
		"[1,]",      "[,1]",       "[1 2]",       "{\"a\"}",
		"{\"a\":}",  "{\"a\":1,}", "{a:1}",       "{1:2}",
		"{\"a\" 1}", "01",         "+1",          "-",
		"1.",        ".5",         "1e",          "1e+",
		"nul",       "True",       "\"",          "\"\\",
		"\"\\x\"",   "\"\\u12\"",  "\"\\u12g4\"", "\"a\nb\"",
		"'a'",       "\"\xff\"",   "\"\xc3\"",    "\"\xed\xa0\x80\"",
		"1 1",       "{}{}",       "[1",          "\"a",
		"[[]",       "nullx",      "0x1",         "NaN",
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (parse(cases[i]) != -EINVAL) {
			printf("# %s\n", cases[i]);
			CHECK(!"refused");
		}
}

TEST(nul_byte_in_the_text_is_refused)
{
	CHECK_EQ(json_parse("\"a\0b\"", 5, tokens, TOKENS), -EINVAL);
	CHECK_EQ(json_parse("1\0", 2, tokens, TOKENS), -EINVAL);
}

TEST(depth_has_a_limit)
{
	char text[2 * JSON_DEPTH_MAX + 3];

	memset(text, '[', JSON_DEPTH_MAX);
	memset(text + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
	text[2 * JSON_DEPTH_MAX] = '\0';
	CHECK_EQ(parse(text), JSON_DEPTH_MAX);
	memset(text, '[', JSON_DEPTH_MAX + 1);
	memset(text + JSON_DEPTH_MAX + 1, ']', JSON_DEPTH_MAX + 1);
	text[2 * JSON_DEPTH_MAX + 2] = '\0';
	CHECK_EQ(parse(text), -EINVAL);
}

TEST(members_are_found_by_name_whatever_lies_between)
{
	static const char text[] =
		"{\"a\":[1,{\"b\":2}], \"c\":{\"b\":3} ,\"\\u0062\":\"x\",\"b\":4}";
	uint64_t n = 0;

	CHECK_EQ(parse(text), 15);
	CHECK_EQ(tokens[0].span, 15);
	CHECK(json_is(text, json_get(text, tokens, "b"), "x"));
	CHECK_EQ(json_u64(text, json_get(text, json_get(text, tokens, "c"), "b"), 9, &n), 0);
	CHECK_EQ(n, 3);
	CHECK(!json_get(text, tokens, "d"));
	CHECK(!json_get(text, json_get(text, tokens, "a"), "b"));
	CHECK(!json_get(text, NULL, "b"));
}

TEST(more_tokens_than_room_are_counted_and_not_written)
{
	static const char text[] = "[1,2,3]";

	tokens[2].span = 77;
	CHECK_EQ(json_parse(text, sizeof(text) - 1, tokens, 2), 4);
	CHECK_EQ(tokens[2].span, 77);
	CHECK_EQ(json_parse(text, sizeof(text) - 1, NULL, 0), 4);
}

TEST(escapes_become_characters)
{
	CHECK_STR(string("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""), "\"\\/\b\f\n\r\t");
	CHECK_STR(string("\"\\u0041\\u00e9\\u20AC\""), "A\xc3\xa9\xe2\x82\xac");
	CHECK_STR(string("\"\\ud83d\\ude00\""), "\xf0\x9f\x98\x80");
	CHECK_STR(string("\"\xe2\x82\xac\""), "\xe2\x82\xac");
	CHECK_STR(string("\"\""), "");
}

TEST(what_is_no_c_string_is_refused)
{
	CHECK_STR(string("\"\\u0000\""), "(no C string)");
	CHECK_STR(string("\"\\ud83d\""), "(no C string)");
	CHECK_STR(string("\"\\ud83dabcdefgh\""), "(no C string)");
	CHECK_STR(string("\"\\ud83d\\u0041\""), "(no C string)");
	CHECK_STR(string("\"\\ude00\""), "(no C string)");
	CHECK_STR(string("12"), "(no C string)");
}

TEST(string_fits_exactly_or_is_refused)
{
	static const char text[] = "\"abc\"";
	char out[4];

	CHECK_EQ(parse(text), 1);
	CHECK_EQ(json_string(text, tokens, out, 4), 3);
	CHECK_EQ(json_string(text, tokens, out, 3), -ENAMETOOLONG);
	CHECK_EQ(json_string(text, tokens, out, 0), -ENAMETOOLONG);
	CHECK_EQ(json_string(text, NULL, out, 4), -EINVAL);
}

TEST(numbers_are_whole_and_in_range)
{
	static const struct {
		const char *text;
		int result;
	} cases[] = {
		{ "10", 0 },
		{ "11", -ERANGE },
		{ "-1", -EINVAL },
		{ "1.0", -EINVAL },
		{ "1e1", -EINVAL },
		{ "\"1\"", -EINVAL },
		{ "99999999999999999999999999999999", -EINVAL },
	};
	uint64_t n;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CHECK_EQ(parse(cases[i].text), 1);
		CHECK_EQ(json_u64(cases[i].text, tokens, 10, &n), cases[i].result);
	}
	CHECK_EQ(json_u64("", NULL, 10, &n), -EINVAL);
}

TEST(written_strings_are_read_back)
{
	static const char text[] = "\"quoted\" \\ \x01 \n \xe2\x82\xac";
	char out[64];

	CHECK_EQ(parse(written(text)), 1);
	CHECK_EQ(json_string(written(text), tokens, out, sizeof(out)), (ssize_t)strlen(text));
	CHECK_STR(out, text);
	CHECK_STR(written("a\xff\xc3z"), "\"a\\ufffd\\ufffdz\"");
}
