/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Numbers, sizes and UUIDs as people write them, and everything that is not one. */
#include "base/parse.h"

#include "tests/unit/tap.h"

enum { UNTOUCHED = 4711 };

static int try_u64(const char *text, uint64_t max, uint64_t *out)
{
	*out = UNTOUCHED;
	return parse_u64(text, max, out);
}

static int try_size(const char *text, uint64_t *out)
{
	*out = UNTOUCHED;
	return parse_size(text, out);
}

TEST(a_number_may_be_its_maximum_and_not_one_more)
{
	static const struct {
		const char *text;
		uint64_t max;
		int result;
		uint64_t value;
	} cases[] = {
		{ "0", 0, 0, 0 },
		{ "1", 0, -ERANGE, UNTOUCHED },
		{ "65534", 65535, 0, 65534 },
		{ "65535", 65535, 0, 65535 },
		{ "65536", 65535, -ERANGE, UNTOUCHED },
		{ "18446744073709551614", UINT64_MAX, 0, UINT64_MAX - 1 },
		{ "18446744073709551615", UINT64_MAX, 0, UINT64_MAX },
		{ "18446744073709551616", UINT64_MAX, -ERANGE, UNTOUCHED },
		{ "18446744073709551620", UINT64_MAX, -ERANGE, UNTOUCHED },
		{ "184467440737095516150", UINT64_MAX, -ERANGE, UNTOUCHED },
		{ "0000000000000000000000000000000000000010", UINT64_MAX, 0, 10 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t value;

		CHECK_EQ(try_u64(cases[i].text, cases[i].max, &value), cases[i].result);
		CHECK_EQ(value, cases[i].value);
	}
}

TEST(what_is_not_wholly_a_decimal_number_is_none)
{
	static const char
		*const texts[] = { "",     " ",   " 1",    "1 ",      "+1",  "-1",
				   "0x10", "1.0", "1e3",   "12x",     "x12", "1K",
				   "\n1",  "1\n", "1_000", "\xd9\xa1" /* an Arabic one */ };

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		uint64_t value;

		CHECK_EQ(try_u64(texts[i], UINT64_MAX, &value), -EINVAL);
		CHECK_EQ(value, UNTOUCHED);
	}
}

TEST(sizes_take_powers_of_1024_in_either_case)
{
	static const struct {
		const char *text;
		uint64_t value;
	} cases[] = {
		{ "0", 0 },
		{ "0T", 0 },
		{ "1", 1 },
		{ "4096", 4096 },
		{ "1K", UINT64_C(1) << 10 },
		{ "1k", UINT64_C(1) << 10 },
		{ "3M", UINT64_C(3) << 20 },
		{ "3m", UINT64_C(3) << 20 },
		{ "5G", UINT64_C(5) << 30 },
		{ "5g", UINT64_C(5) << 30 },
		{ "7T", UINT64_C(7) << 40 },
		{ "7t", UINT64_C(7) << 40 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t value;

		CHECK_EQ(try_size(cases[i].text, &value), 0);
		CHECK_EQ(value, cases[i].value);
	}
}

TEST(a_size_may_be_as_large_as_a_file_offset_and_not_one_byte_more)
{
	static const struct {
		const char *text;
		int result;
		uint64_t value;
	} cases[] = {
		{ "9223372036854775806", 0, INT64_MAX - 1 },
		{ "9223372036854775807", 0, INT64_MAX },
		{ "9223372036854775808", -ERANGE, UNTOUCHED },
		{ "18446744073709551616", -ERANGE, UNTOUCHED },
		{ "9007199254740991K", 0, INT64_MAX - 1023 },
		{ "9007199254740992K", -ERANGE, UNTOUCHED },
		{ "8796093022207M", 0, INT64_MAX - 1048575 },
		{ "8796093022208M", -ERANGE, UNTOUCHED },
		{ "8589934591G", 0, INT64_MAX - 1073741823 },
		{ "8589934592G", -ERANGE, UNTOUCHED },
		{ "8388607T", 0, (UINT64_C(8388607) << 40) },
		{ "8388608T", -ERANGE, UNTOUCHED },
		{ "16777216T", -ERANGE, UNTOUCHED }, /* 2^64: would be 0 if it wrapped */
		{ "16777217T", -ERANGE, UNTOUCHED },
		{ "9223372036854775807T", -ERANGE, UNTOUCHED },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t value;

		CHECK_EQ(try_size(cases[i].text, &value), cases[i].result);
		CHECK_EQ(value, cases[i].value);
	}
}

TEST(what_is_not_wholly_a_size_is_none)
{
	static const char *const texts[] = {
		"",   "K",    "-1", "+1",  "1KB", "1KiB", "1 K", "1K ",
		"1P", "1.5G", "1B", "0x1", "G1",  "1@",   "1[",  " 1"
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		uint64_t value;

		CHECK_EQ(try_size(texts[i], &value), -EINVAL);
		CHECK_EQ(value, UNTOUCHED);
	}
}

static const uint8_t known_uuid[16] = { 0x00, 0x1f, 0x2e, 0x3d, 0x4c, 0x5b, 0x6a, 0x79,
					0x88, 0x97, 0xa6, 0xb5, 0xc4, 0xd3, 0xe2, 0xff };

TEST(a_uuid_is_read_in_either_case)
{
	uint8_t uuid[16] = { 0 };

	CHECK_EQ(parse_uuid("001f2e3d-4c5b-6a79-8897-a6b5c4d3e2ff", uuid), 0);
	CHECK(memcmp(uuid, known_uuid, 16) == 0);
	memset(uuid, 0, 16);
	CHECK_EQ(parse_uuid("001F2E3D-4C5B-6A79-8897-A6B5C4D3E2FF", uuid), 0);
	CHECK(memcmp(uuid, known_uuid, 16) == 0);
}

TEST(a_uuid_is_written_in_lower_case_and_read_back)
{
	char text[PARSE_UUID_TEXT];
	uint8_t uuid[16];

	parse_format_uuid(known_uuid, text);
	CHECK_STR(text, "001f2e3d-4c5b-6a79-8897-a6b5c4d3e2ff");
	CHECK_EQ(parse_uuid(text, uuid), 0);
	CHECK(memcmp(uuid, known_uuid, 16) == 0);
}

/* Cut at every length, from a block of exactly that size, for the sanitizer to watch. */
TEST(a_uuid_cut_anywhere_is_none_and_nothing_is_read_past_its_end)
{
	static const char whole[] = "001f2e3d-4c5b-6a79-8897-a6b5c4d3e2ff";

	for (size_t length = 0; length < sizeof(whole) - 1; length++) {
		char *text = strndup(whole, length);
		uint8_t uuid[16] = { 0x77 };
		int r = parse_uuid(text, uuid);

		free(text);
		CHECK_EQ(r, -EINVAL);
		CHECK_EQ(uuid[0], 0x77);
	}
}

TEST(what_is_not_wholly_a_uuid_is_none)
{
	static const char *const texts[] = {
		"001f2e3d-4c5b-6a79-8897-a6b5c4d3e2ff0", "001f2e3d-4c5b-6a79-8897-a6b5c4d3e2ff ",
		" 001f2e3d-4c5b-6a79-8897-a6b5c4d3e2ff", "001f2e3d4c5b6a798897a6b5c4d3e2ff",
		"{01f2e3d-4c5b-6a79-8897-a6b5c4d3e2ff}", "001f2e3d-4c5b-6a79-8897-a6b5c4d3e2fg",
		"001f2e3-d4c5b-6a79-8897-a6b5c4d3e2ff",  "001f2e3d_4c5b_6a79_8897_a6b5c4d3e2ff",
		"001f2e3d-4c5b-6a79-8897-a6b5c4d3e2-f",
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		uint8_t uuid[16] = { 0x77 };

		CHECK_EQ(parse_uuid(texts[i], uuid), -EINVAL);
		CHECK_EQ(uuid[0], 0x77);
	}
}

TEST(hexadecimal_digits_are_these_22_characters_and_no_others)
{
	static const char digits[] = "0123456789abcdefABCDEF";
	int found = 0;

	for (int c = 0; c < 256; c++) {
		const char *p = c ? strchr(digits, c) : NULL;
		int expected = !p                ? -1
			       : p - digits < 16 ? (int)(p - digits)
						 : (int)(p - digits) - 6;

		CHECK_EQ(parse_hex_digit((char)c), expected);
		found += expected >= 0;
	}
	CHECK_EQ(found, 22);
}

TEST(hardware_address_has_six_pairs_with_colons_or_dashes)
{
	static const char *const bad[] = { "",
					   "52:54:00:12:34:5",
					   "52:54:00:12:34:567",
					   "52:54:00:12:34:5g",
					   "52.54.00.12.34.56",
					   "525400123456",
					   "52:54:00:12:34 56" };
	uint8_t mac[6] = { 1, 2, 3, 4, 5, 6 };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		CHECK_EQ(parse_mac(bad[i], mac), -EINVAL);
		CHECK(memcmp(mac, "\1\2\3\4\5\6", 6) == 0);
	}
	CHECK_EQ(parse_mac("52:54:00:ab:CD:ef", mac), 0);
	CHECK(memcmp(mac, "\x52\x54\x00\xab\xcd\xef", 6) == 0);
	CHECK_EQ(parse_mac("00-11-22-33-44-55", mac), 0);
	CHECK(memcmp(mac, "\x00\x11\x22\x33\x44\x55", 6) == 0);
}

TEST(ipv4_address_is_four_decimal_parts)
{
	static const char *const bad[] = { "",         "1.2.3",       "1.2.3.256", "1.2.3.4.5",
					   "1.2.3.4 ", "0x1.2.3.4",   "1.2.3.04",  "::1",
					   "1.2.3.-4", "host.example" };
	uint32_t a = 7;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK_EQ(parse_ipv4(bad[i], &a), -EINVAL);
	CHECK_EQ(a, 7);
	CHECK_EQ(parse_ipv4("192.0.2.17", &a), 0);
	CHECK_EQ(a, 0xc0000211);
	CHECK_EQ(parse_ipv4("0.0.0.0", &a), 0);
	CHECK_EQ(a, 0);
}

TEST(white_space_goes_from_both_ends_and_stays_within)
{
	char text[] = " \t a b \n", blank[] = " \r\n ", none[] = "";

	CHECK_STR(parse_trim(text), "a b");
	CHECK_STR(parse_trim(blank), "");
	CHECK_STR(parse_trim(none), "");
}
