/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Request and reply heads against known bytes, and what a server must answer before it touches
 * its disk: "Request types", "Error values" and "Size constraints" of doc/proto.md.
 */
#include "proto/request.h"

#include "tests/unit/tap.h"

#include "proto/names.h"

static const uint8_t known_request[NBD_REQUEST_SIZE] = {
	0x25, 0x60, 0x95, 0x13,                         /* magic */
	0x00, 0x01,                                     /* NBD_CMD_FLAG_FUA */
	0x00, 0x06,                                     /* NBD_CMD_WRITE_ZEROES */
	0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, /* cookie */
	0x00, 0x00, 0x00, 0x1f, 0xff, 0xff, 0xf0, 0x00, /* offset */
	0xfe, 0xdc, 0xba, 0x98,                         /* length */
};

static const uint8_t known_reply[NBD_SIMPLE_REPLY_SIZE] = {
	0x67, 0x44, 0x66, 0x98,                         /* magic */
	0x00, 0x00, 0x00, 0x1c,                         /* NBD_ENOSPC */
	0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, /* cookie */
};

TEST(a_request_is_encoded_to_the_known_bytes)
{
	struct nbd_request req = { .flags = NBD_CMD_FLAG_FUA,
				   .type = NBD_CMD_WRITE_ZEROES,
				   .cookie = 0x1122334455667788,
				   .offset = 0x1ffffff000,
				   .length = 0xfedcba98 };
	uint8_t out[NBD_REQUEST_SIZE];

	nbd_request_encode(&req, out);
	CHECK(memcmp(out, known_request, sizeof(out)) == 0);
}

TEST(a_request_is_decoded_from_the_known_bytes)
{
	struct nbd_request req;

	CHECK(nbd_request_decode(&req, known_request));
	CHECK_EQ(req.flags, NBD_CMD_FLAG_FUA);
	CHECK_EQ(req.type, NBD_CMD_WRITE_ZEROES);
	CHECK_EQ(req.cookie, 0x1122334455667788);
	CHECK_EQ(req.offset, 0x1ffffff000);
	CHECK_EQ(req.length, 0xfedcba98);
}

TEST(a_simple_reply_is_encoded_and_decoded_with_the_known_bytes)
{
	struct nbd_simple_reply rep = { .error = NBD_ENOSPC, .cookie = 0x1122334455667788 };
	uint8_t out[NBD_SIMPLE_REPLY_SIZE];

	nbd_simple_reply_encode(&rep, out);
	CHECK(memcmp(out, known_reply, sizeof(out)) == 0);
	memset(&rep, 0, sizeof(rep));
	CHECK(nbd_simple_reply_decode(&rep, known_reply));
	CHECK_EQ(rep.error, NBD_ENOSPC);
	CHECK_EQ(rep.cookie, 0x1122334455667788);
}

TEST(a_head_with_any_bit_of_the_magic_wrong_is_not_taken)
{
	for (int bit = 0; bit < 32; bit++) {
		uint8_t request[NBD_REQUEST_SIZE], reply[NBD_SIMPLE_REPLY_SIZE];
		struct nbd_request req;
		struct nbd_simple_reply rep;

		memcpy(request, known_request, sizeof(request));
		request[bit / 8] ^= (uint8_t)(1 << bit % 8);
		CHECK(!nbd_request_decode(&req, request));
		memcpy(reply, known_reply, sizeof(reply));
		reply[bit / 8] ^= (uint8_t)(1 << bit % 8);
		CHECK(!nbd_simple_reply_decode(&rep, reply));
	}
}

TEST(a_structured_reply_is_not_a_simple_one)
{
	uint8_t in[NBD_SIMPLE_REPLY_SIZE] = { 0x66, 0x8e, 0x33, 0xef };
	struct nbd_simple_reply rep;

	CHECK(!nbd_simple_reply_decode(&rep, in));
}

enum {
	ALL = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_TRIM |
	      NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_CACHE | NBD_FLAG_SEND_FAST_ZERO,
	SIZE = 1024 * 1024,
};

static struct nbd_export_info whole_export(void)
{
	return (struct nbd_export_info){ .size = SIZE,
					 .flags = ALL,
					 .block_min = 1,
					 .block_preferred = 4096,
					 .block_max = 64 * 1024 };
}

static uint32_t check(const struct nbd_export_info *info, uint16_t type, uint16_t flags,
		      uint64_t offset, uint32_t length)
{
	struct nbd_request req = {
		.type = type, .flags = flags, .cookie = 1, .offset = offset, .length = length
	};

	return nbd_request_check(&req, info);
}

static const uint16_t ranged[] = { NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_TRIM, NBD_CMD_CACHE,
				   NBD_CMD_WRITE_ZEROES };

enum { RANGED = sizeof(ranged) / sizeof(ranged[0]) };

static uint32_t outside_error(uint16_t type)
{
	return type == NBD_CMD_WRITE || type == NBD_CMD_WRITE_ZEROES ? NBD_ENOSPC : NBD_EINVAL;
}

TEST(a_range_may_end_at_the_end_and_not_one_byte_later)
{
	static const struct {
		uint64_t offset;
		uint32_t length;
		bool is_inside;
	} ranges[] = {
		{ 0, 1, true },
		{ 0, 65536, true },
		{ SIZE - 4096, 4095, true },
		{ SIZE - 4096, 4096, true },
		{ SIZE - 4096, 4097, false },
		{ SIZE - 1, 1, true },
		{ SIZE - 1, 2, false },
		{ SIZE, 0, true },
		{ SIZE, 1, false },
		{ SIZE + 1, 0, false },
		{ SIZE + 1, 1, false },
		{ UINT64_C(1) << 63, 512, false },
		{ UINT64_MAX - 255, 256, false }, /* the sum is 0 if it wraps */
		{ UINT64_MAX - 255, 512, false },
		{ UINT64_MAX, 1, false },
		{ UINT64_MAX, UINT32_MAX, false },
		{ 0, UINT32_MAX, false },
	};
	struct nbd_export_info info = whole_export();

	for (size_t t = 0; t < RANGED; t++)
		for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
			CHECK_EQ(check(&info, ranged[t], 0, ranges[i].offset, ranges[i].length),
				 ranges[i].is_inside ? NBD_OK : outside_error(ranged[t]));
}

TEST(an_export_as_large_as_can_be_is_not_exceeded_by_wrapping)
{
	struct nbd_export_info info = whole_export();

	info.size = INT64_MAX;
	CHECK_EQ(check(&info, NBD_CMD_READ, 0, INT64_MAX - 1, 1), NBD_OK);
	CHECK_EQ(check(&info, NBD_CMD_READ, 0, INT64_MAX - 1, 2), NBD_EINVAL);
	CHECK_EQ(check(&info, NBD_CMD_TRIM, 0, INT64_MAX - 1, UINT32_MAX), NBD_EINVAL);
	info.size = UINT64_MAX; /* no export is: but the sum would wrap */
	CHECK_EQ(check(&info, NBD_CMD_READ, 0, UINT64_MAX - 1, 2), NBD_EINVAL);
}

TEST(an_empty_export_has_no_bytes)
{
	struct nbd_export_info info = whole_export();

	info.size = 0;
	for (size_t t = 0; t < RANGED; t++)
		CHECK_EQ(check(&info, ranged[t], 0, 0, 1), outside_error(ranged[t]));
}

TEST(a_payload_may_be_as_long_as_the_maximum_and_not_one_byte_longer)
{
	struct nbd_export_info info = whole_export();

	for (size_t t = 0; t < RANGED; t++) {
		bool has_payload = ranged[t] == NBD_CMD_READ || ranged[t] == NBD_CMD_WRITE;

		CHECK_EQ(check(&info, ranged[t], 0, 0, info.block_max - 1), NBD_OK);
		CHECK_EQ(check(&info, ranged[t], 0, 0, info.block_max), NBD_OK);
		CHECK_EQ(check(&info, ranged[t], 0, 0, info.block_max + 1),
			 has_payload ? NBD_EINVAL : NBD_OK);
	}
}

TEST(what_is_not_aligned_to_the_smallest_block_is_invalid)
{
	struct nbd_export_info info = whole_export();

	info.block_min = 512;
	for (size_t t = 0; t < RANGED; t++) {
		CHECK_EQ(check(&info, ranged[t], 0, 512, 1024), NBD_OK);
		CHECK_EQ(check(&info, ranged[t], 0, 511, 512), NBD_EINVAL);
		CHECK_EQ(check(&info, ranged[t], 0, 513, 512), NBD_EINVAL);
		CHECK_EQ(check(&info, ranged[t], 0, 512, 511), NBD_EINVAL);
		CHECK_EQ(check(&info, ranged[t], 0, 512, 513), NBD_EINVAL);
	}
}

TEST(a_read_only_export_refuses_what_writes_and_nothing_else)
{
	struct nbd_export_info info = whole_export();

	info.flags |= NBD_FLAG_READ_ONLY;
	CHECK_EQ(check(&info, NBD_CMD_WRITE, 0, 0, 512), NBD_EPERM);
	CHECK_EQ(check(&info, NBD_CMD_TRIM, 0, 0, 512), NBD_EPERM);
	CHECK_EQ(check(&info, NBD_CMD_WRITE_ZEROES, 0, 0, 512), NBD_EPERM);
	CHECK_EQ(check(&info, NBD_CMD_WRITE, 0, UINT64_MAX, 512), NBD_EPERM);
	CHECK_EQ(check(&info, NBD_CMD_READ, 0, 0, 512), NBD_OK);
	CHECK_EQ(check(&info, NBD_CMD_CACHE, 0, 0, 512), NBD_OK);
	CHECK_EQ(check(&info, NBD_CMD_FLUSH, 0, 0, 0), NBD_OK);
}

TEST(a_command_that_was_not_announced_is_invalid)
{
	static const struct {
		uint16_t type, flag;
	} cases[] = {
		{ NBD_CMD_FLUSH, NBD_FLAG_SEND_FLUSH },
		{ NBD_CMD_TRIM, NBD_FLAG_SEND_TRIM },
		{ NBD_CMD_CACHE, NBD_FLAG_SEND_CACHE },
		{ NBD_CMD_WRITE_ZEROES, NBD_FLAG_SEND_WRITE_ZEROES },
	};
	struct nbd_export_info info = whole_export();

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		info.flags = NBD_FLAG_HAS_FLAGS | cases[i].flag;
		CHECK_EQ(check(&info, cases[i].type, 0, 0, 512), NBD_OK);
		info.flags = (uint16_t)(ALL & ~cases[i].flag);
		CHECK_EQ(check(&info, cases[i].type, 0, 0, 512), NBD_EINVAL);
	}
	info.flags = NBD_FLAG_HAS_FLAGS;
	CHECK_EQ(check(&info, NBD_CMD_READ, 0, 0, 512), NBD_OK);
	CHECK_EQ(check(&info, NBD_CMD_WRITE, 0, 0, 512), NBD_OK);
}

TEST(a_command_that_is_not_known_is_invalid_whatever_was_announced)
{
	struct nbd_export_info info = whole_export();

	info.flags = 0xffff & ~NBD_FLAG_READ_ONLY;
	for (unsigned type = 0; type <= UINT16_MAX; type++) {
		bool is_known = type <= NBD_CMD_WRITE_ZEROES && type != NBD_CMD_DISC;

		CHECK_EQ(check(&info, (uint16_t)type, 0, 0, 512), is_known ? NBD_OK : NBD_EINVAL);
	}
}

/* The whole table: each of the 16 flags alone on each command, with and without its announcement.
 */
TEST(each_flag_is_allowed_on_its_commands_when_announced_and_nowhere_else)
{
	static const uint16_t commands[] = { NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_FLUSH,
					     NBD_CMD_TRIM, NBD_CMD_CACHE, NBD_CMD_WRITE_ZEROES };
	struct nbd_export_info with = whole_export(), without = whole_export();

	with.flags |= NBD_FLAG_SEND_DF;
	without.flags &=
		(uint16_t) ~(NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_DF | NBD_FLAG_SEND_FAST_ZERO);
	for (size_t c = 0; c < sizeof(commands) / sizeof(commands[0]); c++) {
		uint16_t type = commands[c];

		for (unsigned bit = 0; bit < 16; bit++) {
			uint16_t flag = (uint16_t)(1u << bit);
			bool is_zeroes = type == NBD_CMD_WRITE_ZEROES;
			bool is_ok_with = flag == NBD_CMD_FLAG_FUA ||
					  (is_zeroes && (flag == NBD_CMD_FLAG_NO_HOLE ||
							 flag == NBD_CMD_FLAG_FAST_ZERO)) ||
					  (type == NBD_CMD_READ && flag == NBD_CMD_FLAG_DF);
			bool is_ok_without = is_zeroes && flag == NBD_CMD_FLAG_NO_HOLE;

			CHECK_EQ(check(&with, type, flag, 0, 512),
				 is_ok_with ? NBD_OK : NBD_EINVAL);
			CHECK_EQ(check(&without, type, flag, 0, 512),
				 is_ok_without ? NBD_OK : NBD_EINVAL);
		}
	}
}

TEST(one_wrong_flag_beside_a_right_one_is_invalid)
{
	struct nbd_export_info info = whole_export();

	CHECK_EQ(check(&info, NBD_CMD_WRITE, NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE, 0, 512),
		 NBD_EINVAL);
	CHECK_EQ(check(&info, NBD_CMD_WRITE_ZEROES,
		       NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO, 0, 512),
		 NBD_OK);
}

TEST(a_flush_with_an_offset_is_done_all_the_same)
{
	struct nbd_export_info info = whole_export();

	CHECK_EQ(check(&info, NBD_CMD_FLUSH, 0, UINT64_MAX, UINT32_MAX), NBD_OK);
}

TEST(numbers_have_their_names_and_unknown_ones_have_words)
{
	CHECK_STR(nbd_opt_name(NBD_OPT_GO), "NBD_OPT_GO");
	CHECK_STR(nbd_opt_name(7), "NBD_OPT_GO");
	CHECK_STR(nbd_opt_name(12), "unknown option");
	CHECK_STR(nbd_rep_name(3), "NBD_REP_INFO");
	CHECK_STR(nbd_rep_name(0x80000006), "NBD_REP_ERR_UNKNOWN");
	CHECK_STR(nbd_rep_name(6), "unknown reply");
	CHECK_STR(nbd_rep_meaning(0x80000006), "the server has no such export");
	CHECK_STR(nbd_rep_meaning(0), "the server gives an unknown error");
	CHECK_STR(nbd_cmd_name(6), "NBD_CMD_WRITE_ZEROES");
	CHECK_STR(nbd_cmd_name(9), "unknown command");
}

TEST(flags_are_words_and_a_word_that_does_not_fit_is_left_out)
{
	uint16_t flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA;
	char text[256];

	CHECK_STR(nbd_flags_text(0, text, sizeof(text)), "");
	CHECK_STR(nbd_flags_text(flags, text, sizeof(text)), "flush fua");
	CHECK_STR(nbd_flags_text(0xffff, text, sizeof(text)),
		  "read-only flush fua rotational trim write-zeroes df multi-conn resize cache "
		  "fast-zero");
	for (unsigned size = 1; size <= 11; size++) {
		char *exact = malloc(size); /* for the sanitizer to watch its end */
		size_t length = strlen(nbd_flags_text(flags, exact, size));

		free(exact);
		CHECK(length < size);
		CHECK(size < 11 || length == strlen("flush fua"));
	}
}
