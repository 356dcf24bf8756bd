/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The data of NBD_OPT_X_NBDROOT_SESSION and of its reply against the example bytes of
 * docs/extension.md, and what must not be taken: every length one too small, strings that are not
 * for a log, ids of zeroes.
 */
#include "proto/session.h"

#include "tests/unit/tap.h"

#include "tests/unit/bytes.h"

/* The example of docs/extension.md. */
static const uint8_t known_option[] = {
	0x01, 0x00, 0x00, 0x00,                         /* version, zeroes */
	0x00, 0x00, 0x00, 0x02,                         /* slot */
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x07, /* generation */
	0x9f, 0x3c, 0x2a, 0x51, 0x0b, 0x7e, 0x4d, 0x66, /* session id */
	0x88, 0x10, 0xc4, 0xe2, 0x5d, 0x39, 0xaf, 0x01, /* */
	0x00, 0x04, 0x11, 0x04,                         /* lengths: name, machine, host */
	'd',  'i',  's',  'k',                          /* name */
	'5',  '2',  '-',  '5',  '4',  '-',  '0',  '0',  /* machine */
	'-',  '1',  '2',  '-',  '3',  '4',  '-',  '5',  /* */
	'6',  'p',  'c',  '0',  '7',                    /* host */
};

static const uint8_t known_reply[] = {
	0x01, 0x00, 0x01, 0x00,                         /* version, durability, verdict, zero */
	0x00, 0x04, 0x00, 0x00,                         /* length of the holder, zeroes */
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x05, /* generation of the image */
	0xb0, 0xb1, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, /* boot id */
	0xb8, 0xb9, 0xba, 0xbb, 0xbc, 0xbd, 0xbe, 0xbf, /* */
	0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, /* image id */
	0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f, /* */
	'p',  'c',  '0',  '9',                          /* holder */
};

enum { OPTION_FIXED = 36, REPLY_FIXED = 48 };

static struct nbd_session session(void)
{
	struct nbd_session s = { .slot = 2, .generation = 7 };

	memcpy(s.id, known_option + 16, 16);
	strcpy(s.machine, "52-54-00-12-34-56");
	strcpy(s.host, "pc07");
	return s;
}

/* Decoding in a block of exactly that size, for the sanitizer to watch its end. */
static bool decodes(const void *data, size_t size)
{
	uint8_t *exact = malloc(size > 0 ? size : 1);
	struct nbd_session s;
	const uint8_t *name;
	size_t name_size;
	bool is_good;

	if (!exact)
		abort();
	memcpy(exact, data, size);
	is_good = nbd_session_decode(&s, &name, &name_size, exact, size);
	free(exact);
	return is_good;
}

static bool reply_decodes(const void *data, size_t size)
{
	uint8_t *exact = malloc(size > 0 ? size : 1);
	struct nbd_session_reply reply;
	bool is_good;

	if (!exact)
		abort();
	memcpy(exact, data, size);
	is_good = nbd_session_reply_decode(&reply, exact, size);
	free(exact);
	return is_good;
}

TEST(the_documented_option_is_written_and_read_to_the_byte)
{
	struct nbd_session s = session(), back;
	uint8_t out[NBD_SESSION_MAX];
	const uint8_t *name;
	size_t name_size;

	CHECK_EQ(nbd_session_encode(out, &s, "disk"), sizeof(known_option));
	CHECK(memcmp(out, known_option, sizeof(known_option)) == 0);
	CHECK(nbd_session_decode(&back, &name, &name_size, known_option, sizeof(known_option)));
	CHECK_EQ(name_size, 4);
	CHECK(memcmp(name, "disk", 4) == 0);
	CHECK(memcmp(back.id, s.id, 16) == 0);
	CHECK_EQ(back.slot, 2);
	CHECK_EQ(back.generation, 7);
	CHECK_STR(back.machine, "52-54-00-12-34-56");
	CHECK_STR(back.host, "pc07");
}

TEST(the_documented_reply_is_written_and_read_to_the_byte)
{
	struct nbd_session_reply reply = { .generation = 5, .is_refused = true }, back;
	uint8_t out[NBD_SESSION_REPLY_MAX];

	memcpy(reply.boot_id, known_reply + 16, 16);
	memcpy(reply.image_id, known_reply + 32, 16);
	strcpy(reply.holder, "pc09");
	CHECK_EQ(nbd_session_reply_encode(out, &reply), sizeof(known_reply));
	CHECK(memcmp(out, known_reply, sizeof(known_reply)) == 0);
	CHECK(nbd_session_reply_decode(&back, known_reply, sizeof(known_reply)));
	CHECK(memcmp(back.boot_id, reply.boot_id, 16) == 0);
	CHECK(memcmp(back.image_id, reply.image_id, 16) == 0);
	CHECK_EQ(back.generation, 5);
	CHECK_EQ(back.durability, NBD_DURABILITY_WRITE);
	CHECK(back.is_refused);
	CHECK_STR(back.holder, "pc09");
}

TEST(data_that_ends_early_is_not_taken_and_what_follows_is_passed_over)
{
	static uint8_t longer[sizeof(known_option) + 100];

	for (size_t size = 0; size < sizeof(known_option); size++)
		CHECK(!decodes(known_option, size));
	memset(longer, 0xee, sizeof(longer));
	memcpy(longer, known_option, sizeof(known_option));
	for (size_t size = sizeof(known_option); size <= sizeof(longer); size++)
		CHECK(decodes(longer, size));
}

TEST(a_reply_that_ends_early_is_not_taken_and_what_follows_is_passed_over)
{
	static uint8_t longer[sizeof(known_reply) + 100];

	for (size_t size = 0; size < sizeof(known_reply); size++)
		CHECK(!reply_decodes(known_reply, size));
	memset(longer, 0xee, sizeof(longer));
	memcpy(longer, known_reply, sizeof(known_reply));
	for (size_t size = sizeof(known_reply); size <= sizeof(longer); size++)
		CHECK(reply_decodes(longer, size));
}

TEST(a_later_version_is_read_as_far_as_it_is_known_and_version_0_never_was)
{
	uint8_t option[sizeof(known_option)], reply[sizeof(known_reply)];

	memcpy(option, known_option, sizeof(option));
	memcpy(reply, known_reply, sizeof(reply));
	for (int version = 0; version <= 255; version++) {
		option[0] = (uint8_t)version;
		reply[0] = (uint8_t)version;
		CHECK_EQ(decodes(option, sizeof(option)), version > 0);
		CHECK_EQ(reply_decodes(reply, sizeof(reply)), version > 0);
	}
}

TEST(fields_for_later_versions_may_have_any_value)
{
	uint8_t option[sizeof(known_option)], reply[sizeof(known_reply)];
	struct nbd_session_reply back;

	memcpy(option, known_option, sizeof(option));
	memset(option + 1, 0xff, 3);
	CHECK(decodes(option, sizeof(option)));
	memcpy(reply, known_reply, sizeof(reply));
	reply[3] = reply[6] = reply[7] = 0xff;
	CHECK(reply_decodes(reply, sizeof(reply)));
	reply[1] = 2; /* a durability of a later version: nothing stronger is believed */
	reply[2] = 0xff;
	CHECK(nbd_session_reply_decode(&back, reply, sizeof(reply)));
	CHECK_EQ(back.durability, NBD_DURABILITY_FLUSH);
	CHECK(back.is_refused);
}

TEST(an_id_of_zeroes_and_an_empty_machine_are_not_taken)
{
	struct nbd_session s = session();
	uint8_t option[sizeof(known_option)], out[NBD_SESSION_MAX];

	memcpy(option, known_option, sizeof(option));
	memset(option + 16, 0, 15);
	CHECK(decodes(option, sizeof(option)));
	option[31] = 0;
	CHECK(!decodes(option, sizeof(option)));
	memset(s.id, 0, 16);
	CHECK_EQ(nbd_session_encode(out, &s, "disk"), 0);

	memcpy(option, known_option, sizeof(option));
	option[34] = 0;
	CHECK(!decodes(option, sizeof(option)));
	s = session();
	s.machine[0] = '\0';
	CHECK_EQ(nbd_session_encode(out, &s, "disk"), 0);
	s = session();
	s.host[0] = '\0';
	CHECK_EQ(nbd_session_encode(out, &s, ""), OPTION_FIXED + 17);
	CHECK(decodes(out, OPTION_FIXED + 17));
}

TEST(machines_of_64_bytes_hosts_of_255_and_names_of_4096_fit_and_longer_ones_do_not)
{
	static char name[NBD_STRING_MAX + 2];
	struct nbd_session s = session();
	uint8_t out[NBD_SESSION_MAX], longer[OPTION_FIXED + 65];

	memset(s.machine, 'm', NBD_SESSION_MACHINE_MAX);
	memset(s.host, 'h', NBD_SESSION_HOST_MAX);
	memset(name, 'n', NBD_STRING_MAX + 1);
	CHECK_EQ(nbd_session_encode(out, &s, name), 0);
	name[NBD_STRING_MAX] = '\0';
	CHECK_EQ(nbd_session_encode(out, &s, name), NBD_SESSION_MAX);
	CHECK(decodes(out, NBD_SESSION_MAX));
	CHECK(!decodes(out, NBD_SESSION_MAX - 1));

	memset(longer, 'm', sizeof(longer));
	memcpy(longer, known_option, 32);
	memset(longer + 32, 0, 4);
	for (uint8_t size = 63; size <= 65; size++) {
		longer[34] = size;
		CHECK_EQ(decodes(longer, OPTION_FIXED + (size_t)size), size <= 64);
	}
}

TEST(a_holder_of_512_bytes_fits_and_a_longer_one_is_not_taken)
{
	struct nbd_session_reply reply = { .is_refused = true };
	uint8_t out[NBD_SESSION_REPLY_MAX + 1];

	memset(reply.holder, 'h', NBD_SESSION_HOLDER_MAX);
	CHECK_EQ(nbd_session_reply_encode(out, &reply), REPLY_FIXED + 512);
	CHECK(reply_decodes(out, REPLY_FIXED + 512));
	out[REPLY_FIXED + 512] = 'h';
	out[5]++; /* 513 */
	CHECK(!reply_decodes(out, REPLY_FIXED + 513));
	reply.is_refused = false;
	CHECK_EQ(nbd_session_reply_encode(out, &reply), REPLY_FIXED);
	reply.is_refused = true;
	strcpy(reply.holder, "a\nb");
	CHECK_EQ(nbd_session_reply_encode(out, &reply), REPLY_FIXED);
}

TEST(plain_text_is_utf8_without_control_characters)
{
	static const struct {
		const char *text;
		bool is_plain;
	} cases[] = {
		{ "", true },
		{ "pc07 ~", true },
		{ "\x1f", false },
		{ " ", true },
		{ "a\nb", false },
		{ "\x1b[2J", false },
		{ "\x7e", true },
		{ "\x7f", false },
		{ "\x80", false },     /* not the beginning of a character */
		{ "\xc2\x80", false }, /* U+0080: a control character */
		{ "\xc2\x9f", false }, /* U+009F: the last one */
		{ "\xc2\xa0", true },  /* U+00A0 */
		{ "\xc0\x8a", false }, /* a line feed, longer than needed */
		{ "\xc1\xbf", false },
		{ "\xdf\xbf", true },      /* U+07FF */
		{ "\xe0\x9f\xbf", false }, /* longer than needed */
		{ "\xe0\xa0\x80", true },  /* U+0800 */
		{ "\xe2\x82\xac", true },  /* the euro */
		{ "\xed\x9f\xbf", true },  /* U+D7FF */
		{ "\xed\xa0\x80", false }, /* half of a UTF-16 pair */
		{ "\xed\xbf\xbf", false },
		{ "\xee\x80\x80", true },      /* U+E000 */
		{ "\xf0\x8f\xbf\xbf", false }, /* longer than needed */
		{ "\xf0\x90\x80\x80", true },  /* U+10000 */
		{ "\xf4\x8f\xbf\xbf", true },  /* U+10FFFF */
		{ "\xf4\x90\x80\x80", false },
		{ "\xf8\x88\x80\x80\x80", false },
		{ "\xff", false },
		{ "a\xc3", false }, /* cut off */
		{ "\xe2\x82", false },
		{ "\xf0\x90\x80", false },
		{ "\xc3(", false },
		{ "\xe2(\xac", false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (nbd_is_plain_text(cases[i].text, strlen(cases[i].text)) != cases[i].is_plain)
			CHECK_EQ(i, -1); /* says which */
	CHECK(!nbd_is_plain_text("a\0b", 3));
}

TEST(strings_that_are_not_plain_are_not_taken_and_a_name_is_not_looked_at)
{
	uint8_t option[sizeof(known_option)];

	for (size_t at = OPTION_FIXED; at < sizeof(known_option); at++) {
		bool is_name = at < OPTION_FIXED + 4;

		memcpy(option, known_option, sizeof(option));
		option[at] = '\n';
		CHECK_EQ(decodes(option, sizeof(option)), is_name);
		option[at] = 0;
		CHECK_EQ(decodes(option, sizeof(option)), is_name);
		option[at] = 0xff;
		CHECK_EQ(decodes(option, sizeof(option)), is_name);
	}
}
