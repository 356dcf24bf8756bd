/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Request heads against known bytes, and what a server must answer before it touches its disk:
 * "Request types", "Command flags", "Error values" and "Size constraints" of doc/proto.md, with
 * and without structured replies and extended headers.
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

static const uint8_t known_extended[NBD_EXTENDED_REQUEST_SIZE] = {
	0x21, 0xe4, 0x1c, 0x71,                         /* magic */
	0x00, 0x21,                                     /* FUA and PAYLOAD_LEN */
	0x00, 0x01,                                     /* NBD_CMD_WRITE */
	0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, /* cookie */
	0x00, 0x00, 0x00, 0x1f, 0xff, 0xff, 0xf0, 0x00, /* offset */
	0x01, 0x23, 0x45, 0x67, 0xfe, 0xdc, 0xba, 0x98, /* length */
};

static const struct nbd_mode simple = { 0 };
static const struct nbd_mode structured = { .structured = true };
static const struct nbd_mode with_context = { .structured = true,
					      .has_base_allocation = true,
					      .context_id = 1 };
static const struct nbd_mode extended = {
	.structured = true, .extended = true, .has_base_allocation = true, .context_id = 1
};
static const struct nbd_mode *const modes[] = { &simple, &structured, &with_context, &extended };

enum { MODES = sizeof(modes) / sizeof(modes[0]) };

/* What check() checks with. */
static const struct nbd_mode *mode = &simple;

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

TEST(an_extended_request_is_encoded_to_and_decoded_from_the_known_bytes)
{
	struct nbd_request req = { .flags = NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_PAYLOAD_LEN,
				   .type = NBD_CMD_WRITE,
				   .cookie = 0x1122334455667788,
				   .offset = 0x1ffffff000,
				   .length = 0x01234567fedcba98 };
	uint8_t out[NBD_EXTENDED_REQUEST_SIZE];

	nbd_extended_request_encode(&req, out);
	CHECK(memcmp(out, known_extended, sizeof(out)) == 0);
	memset(&req, 0, sizeof(req));
	CHECK(nbd_extended_request_decode(&req, known_extended));
	CHECK_EQ(req.flags, NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_PAYLOAD_LEN);
	CHECK_EQ(req.type, NBD_CMD_WRITE);
	CHECK_EQ(req.cookie, 0x1122334455667788);
	CHECK_EQ(req.offset, 0x1ffffff000);
	CHECK_EQ(req.length, 0x01234567fedcba98);
}

TEST(a_head_with_any_bit_of_the_magic_wrong_is_not_taken)
{
	for (int bit = 0; bit < 32; bit++) {
		uint8_t request[NBD_REQUEST_SIZE], large[NBD_EXTENDED_REQUEST_SIZE];
		struct nbd_request req;

		memcpy(request, known_request, sizeof(request));
		request[bit / 8] ^= (uint8_t)(1 << bit % 8);
		CHECK(!nbd_request_decode(&req, request));
		memcpy(large, known_extended, sizeof(large));
		large[bit / 8] ^= (uint8_t)(1 << bit % 8);
		CHECK(!nbd_extended_request_decode(&req, large));
	}
}

TEST(a_compact_head_is_not_taken_for_an_extended_one_nor_the_other_way_round)
{
	uint8_t in[NBD_EXTENDED_REQUEST_SIZE] = { 0 };
	struct nbd_request req;

	memcpy(in, known_request, sizeof(known_request));
	CHECK(!nbd_extended_request_decode(&req, in));
	CHECK(!nbd_request_decode(&req, known_extended));
	CHECK_EQ(nbd_request_head_size(&simple), 28);
	CHECK_EQ(nbd_request_head_size(&structured), 28);
	CHECK_EQ(nbd_request_head_size(&extended), 32);
}

enum {
	ALL = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_TRIM |
	      NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_CACHE | NBD_FLAG_SEND_FAST_ZERO |
	      NBD_FLAG_SEND_DF,
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
		      uint64_t offset, uint64_t length)
{
	struct nbd_request req = {
		.type = type, .flags = flags, .cookie = 1, .offset = offset, .length = length
	};

	if (mode->extended && type == NBD_CMD_WRITE)
		req.flags |= NBD_CMD_FLAG_PAYLOAD_LEN;
	return nbd_request_check(&req, info, mode);
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

/* The whole table: each of the 16 flags alone on each command, with and without its
 * announcement, in each mode. */
TEST(each_flag_is_allowed_on_its_commands_when_announced_and_nowhere_else)
{
	static const uint16_t commands[] = { NBD_CMD_READ,        NBD_CMD_WRITE,
					     NBD_CMD_FLUSH,       NBD_CMD_TRIM,
					     NBD_CMD_CACHE,       NBD_CMD_WRITE_ZEROES,
					     NBD_CMD_BLOCK_STATUS };
	enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };
	struct nbd_export_info with = whole_export(), without = whole_export();

	with.flags |= NBD_FLAG_BLOCK_STATUS_PAYLOAD;
	without.flags &=
		(uint16_t) ~(NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_DF | NBD_FLAG_SEND_FAST_ZERO);
	for (size_t i = 0; i < MODES * COMMANDS * 16; i++) {
		uint16_t type = commands[i / 16 % COMMANDS], flag = (uint16_t)(1u << i % 16);
		bool is_zeroes = type == NBD_CMD_WRITE_ZEROES;
		bool is_ok_with, is_ok_without;

		mode = modes[i / 16 / COMMANDS];
		/* check() adds the flag that an extended write must have */
		is_ok_without = (is_zeroes && flag == NBD_CMD_FLAG_NO_HOLE) ||
				(type == NBD_CMD_BLOCK_STATUS && flag == NBD_CMD_FLAG_REQ_ONE) ||
				(type == NBD_CMD_WRITE && flag == NBD_CMD_FLAG_PAYLOAD_LEN &&
				 mode->extended);
		is_ok_with = is_ok_without || flag == NBD_CMD_FLAG_FUA ||
			     (is_zeroes && flag == NBD_CMD_FLAG_FAST_ZERO) ||
			     (type == NBD_CMD_READ && flag == NBD_CMD_FLAG_DF && mode->structured);
		if (type == NBD_CMD_BLOCK_STATUS && !mode->has_base_allocation)
			is_ok_with = is_ok_without = false;
		CHECK_EQ(check(&with, type, flag, 0, 512), is_ok_with ? NBD_OK : NBD_EINVAL);
		CHECK_EQ(check(&without, type, flag, 0, 512), is_ok_without ? NBD_OK : NBD_EINVAL);
	}
	mode = &simple;
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

/* ---- structured replies and extended headers ------------------------------------------- */

TEST(a_block_status_needs_a_context_a_range_inside_and_at_least_one_byte)
{
	struct nbd_export_info info = whole_export();

	for (size_t m = 0; m < MODES; m++) {
		uint32_t good = modes[m]->has_base_allocation ? NBD_OK : NBD_EINVAL;

		mode = modes[m];
		CHECK_EQ(check(&info, NBD_CMD_BLOCK_STATUS, 0, 0, SIZE - 1), good);
		CHECK_EQ(check(&info, NBD_CMD_BLOCK_STATUS, 0, 0, SIZE), good);
		CHECK_EQ(check(&info, NBD_CMD_BLOCK_STATUS, 0, SIZE - 1, 1), good);
		CHECK_EQ(check(&info, NBD_CMD_BLOCK_STATUS, 0, 0, SIZE + 1), NBD_EINVAL);
		CHECK_EQ(check(&info, NBD_CMD_BLOCK_STATUS, 0, SIZE, 1), NBD_EINVAL);
		CHECK_EQ(check(&info, NBD_CMD_BLOCK_STATUS, 0, 0, 0), NBD_EINVAL);
		CHECK_EQ(check(&info, NBD_CMD_BLOCK_STATUS, 0, 4096, 0), NBD_EINVAL);
	}
	mode = &simple;
}

TEST(a_context_without_structured_replies_is_none)
{
	static const struct nbd_mode odd = { .has_base_allocation = true };
	struct nbd_export_info info = whole_export();

	mode = &odd;
	CHECK_EQ(check(&info, NBD_CMD_BLOCK_STATUS, 0, 0, 512), NBD_EINVAL);
	mode = &simple;
}

TEST(a_read_that_is_too_long_overflows_with_structured_replies_and_is_invalid_without)
{
	struct nbd_export_info info = whole_export();

	for (size_t m = 0; m < MODES; m++) {
		mode = modes[m];
		CHECK_EQ(check(&info, NBD_CMD_READ, 0, 0, info.block_max), NBD_OK);
		CHECK_EQ(check(&info, NBD_CMD_READ, 0, 0, info.block_max + 1),
			 mode->structured ? NBD_EOVERFLOW : NBD_EINVAL);
		CHECK_EQ(check(&info, NBD_CMD_WRITE, 0, 0, info.block_max + 1), NBD_EINVAL);
		/* past the end it is that, whatever its length */
		CHECK_EQ(check(&info, NBD_CMD_READ, 0, 1, SIZE), NBD_EINVAL);
	}
	mode = &simple;
}

/* "the server MUST support unfragmented reads in which the client's request length does not exceed
 * 65,536 bytes" */
TEST(an_unfragmented_read_of_64_kib_is_allowed)
{
	struct nbd_export_info info = whole_export();

	mode = &structured;
	CHECK_EQ(check(&info, NBD_CMD_READ, NBD_CMD_FLAG_DF, 0, 65536), NBD_OK);
	CHECK_EQ(check(&info, NBD_CMD_READ, NBD_CMD_FLAG_DF, 0, 65537), NBD_EOVERFLOW);
	mode = &simple;
	CHECK_EQ(check(&info, NBD_CMD_READ, NBD_CMD_FLAG_DF, 0, 65536), NBD_EINVAL);
}

TEST(a_read_whose_chunk_would_not_fit_32_bits_overflows)
{
	struct nbd_export_info info = whole_export();

	info.size = UINT64_C(1) << 40;
	info.block_max = UINT32_MAX;
	mode = &structured;
	CHECK_EQ(check(&info, NBD_CMD_READ, 0, 0, UINT32_MAX - 9), NBD_OK);
	CHECK_EQ(check(&info, NBD_CMD_READ, 0, 0, UINT32_MAX - 8), NBD_OK);
	CHECK_EQ(check(&info, NBD_CMD_READ, 0, 0, UINT32_MAX - 7), NBD_EOVERFLOW);
	mode = &extended;
	CHECK_EQ(check(&info, NBD_CMD_READ, 0, 0, UINT32_MAX), NBD_OK);
	CHECK_EQ(check(&info, NBD_CMD_READ, 0, 0, UINT64_C(1) << 32), NBD_EOVERFLOW);
	mode = &simple;
	CHECK_EQ(check(&info, NBD_CMD_READ, 0, 0, UINT32_MAX), NBD_OK);
}

TEST(what_has_no_payload_may_be_longer_than_32_bits_with_extended_headers)
{
	static const uint16_t types[] = { NBD_CMD_TRIM, NBD_CMD_CACHE, NBD_CMD_WRITE_ZEROES,
					  NBD_CMD_BLOCK_STATUS };
	struct nbd_export_info info = whole_export();

	info.size = UINT64_C(1) << 40;
	mode = &extended;
	for (size_t t = 0; t < 4; t++) {
		CHECK_EQ(check(&info, types[t], 0, 0, info.size), NBD_OK);
		CHECK_EQ(check(&info, types[t], 0, 0, info.size + 1), outside_error(types[t]));
		CHECK_EQ(check(&info, types[t], 0, 1, UINT64_MAX), outside_error(types[t]));
		CHECK_EQ(check(&info, types[t], 0, info.size, UINT64_MAX), outside_error(types[t]));
		CHECK_EQ(check(&info, types[t], 0, UINT64_MAX, 1), outside_error(types[t]));
	}
	mode = &simple;
}

TEST(an_extended_write_must_say_that_it_has_a_payload)
{
	struct nbd_export_info info = whole_export();
	struct nbd_request req = { .type = NBD_CMD_WRITE, .length = 512 };

	CHECK_EQ(nbd_request_check(&req, &info, &extended), NBD_EINVAL);
	CHECK_EQ(nbd_request_check(&req, &info, &structured), NBD_OK);
	req.flags = NBD_CMD_FLAG_PAYLOAD_LEN;
	CHECK_EQ(nbd_request_check(&req, &info, &extended), NBD_OK);
	CHECK_EQ(nbd_request_check(&req, &info, &structured), NBD_EINVAL);
	CHECK_EQ(nbd_request_check(&req, &info, &simple), NBD_EINVAL);
}

TEST(a_payload_follows_a_compact_write_and_whatever_says_so_with_extended_headers)
{
	for (unsigned type = 0; type <= NBD_CMD_RESIZE + 1; type++)
		for (unsigned flag = 0; flag < 64; flag++) {
			struct nbd_request req = { .type = (uint16_t)type,
						   .flags = (uint16_t)flag,
						   .length = UINT64_MAX };
			bool says_so = flag & NBD_CMD_FLAG_PAYLOAD_LEN;

			CHECK(nbd_request_payload(&req, &extended) == (says_so ? UINT64_MAX : 0));
			req.length = UINT32_MAX;
			CHECK_EQ(nbd_request_payload(&req, &simple),
				 type == NBD_CMD_WRITE ? UINT32_MAX : 0);
			CHECK_EQ(nbd_request_payload(&req, &structured),
				 type == NBD_CMD_WRITE ? UINT32_MAX : 0);
		}
}

TEST(transmission_flags_are_told_only_to_those_who_may_know_them)
{
	enum { BOTH = NBD_FLAG_SEND_DF | NBD_FLAG_BLOCK_STATUS_PAYLOAD };

	CHECK_EQ(nbd_mode_flags(&simple, 0xffff), 0xffff & ~BOTH);
	CHECK_EQ(nbd_mode_flags(&structured, 0xffff), 0xffff & ~NBD_FLAG_BLOCK_STATUS_PAYLOAD);
	CHECK_EQ(nbd_mode_flags(&extended, 0xffff), 0xffff);
	for (size_t m = 0; m < MODES; m++)
		CHECK_EQ(nbd_mode_flags(modes[m], 0), 0);
}

/* ---- names ----------------------------------------------------------------------------- */

TEST(numbers_have_their_names_and_unknown_ones_have_words)
{
	CHECK_STR(nbd_opt_name(NBD_OPT_GO), "NBD_OPT_GO");
	CHECK_STR(nbd_opt_name(7), "NBD_OPT_GO");
	CHECK_STR(nbd_opt_name(12), "unknown option");
	CHECK_STR(nbd_opt_name(0x6e627274), "NBD_OPT_X_NBDROOT_SESSION");
	CHECK_STR(nbd_rep_name(3), "NBD_REP_INFO");
	CHECK_STR(nbd_rep_name(0x6e627274), "NBD_REP_X_NBDROOT_SESSION");
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
		  "fast-zero block-status-payload");
	for (unsigned size = 1; size <= 11; size++) {
		char *exact = malloc(size); /* for the sanitizer to watch its end */
		size_t length = strlen(nbd_flags_text(flags, exact, size));

		free(exact);
		CHECK(length < size);
		CHECK(size < 11 || length == strlen("flush fua"));
	}
}
