/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Replies against known bytes in each mode, and the rules of block status: "Structured reply
 * chunk message", "Structured reply types" and "Request types" of doc/proto.md, and the same of
 * its extension EXTENDED_HEADERS.
 */
#include "proto/reply.h"

#include "tests/unit/tap.h"

#include "tests/unit/bytes.h"

static const struct nbd_mode simple = { 0 };
static const struct nbd_mode structured = { .structured = true,
					    .has_base_allocation = true,
					    .context_id = 0x01020304 };
static const struct nbd_mode extended = {
	.structured = true, .extended = true, .has_base_allocation = true, .context_id = 0x01020304
};

static const uint16_t commands[] = { NBD_CMD_READ,         NBD_CMD_WRITE,  NBD_CMD_FLUSH,
				     NBD_CMD_TRIM,         NBD_CMD_CACHE,  NBD_CMD_WRITE_ZEROES,
				     NBD_CMD_BLOCK_STATUS, NBD_CMD_RESIZE, 0xffff };

enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static struct nbd_request request(uint16_t type, uint64_t length)
{
	return (struct nbd_request){
		.type = type, .cookie = 0x1122334455667788, .offset = 0x1ffffff000, .length = length
	};
}

/* ---- what is expected, written down a second time -------------------------------------- */

static struct bytes expected;

static void says_simple(uint32_t error)
{
	expected.n = 0;
	put_be(&expected, 0x67446698, 4);
	put_be(&expected, error, 4);
	put_be(&expected, 0x1122334455667788, 8);
}

static void says_chunk(const struct nbd_mode *mode, uint16_t type, uint64_t length)
{
	expected.n = 0;
	put_be(&expected, mode->extended ? 0x6e8a278c : 0x668e33ef, 4);
	put_be(&expected, 1, 2);
	put_be(&expected, type, 2);
	put_be(&expected, 0x1122334455667788, 8);
	if (mode->extended)
		put_be(&expected, 0x1ffffff000, 8);
	put_be(&expected, length, mode->extended ? 8 : 4);
}

static void says_error(const struct nbd_mode *mode, uint32_t error)
{
	says_chunk(mode, 0x8001, 6);
	put_be(&expected, error, 4);
	put_be(&expected, 0, 2);
}

static bool is_expected(const uint8_t *out, size_t size)
{
	return size == expected.n && memcmp(out, expected.b, size) == 0;
}

/* ---- replies without data -------------------------------------------------------------- */

TEST(without_negotiation_every_reply_is_simple)
{
	uint8_t out[NBD_REPLY_MAX];

	for (size_t c = 0; c < COMMANDS; c++)
		for (uint32_t error = 0; error <= NBD_ESHUTDOWN; error++) {
			struct nbd_request req = request(commands[c], 4096);

			says_simple(error);
			CHECK(is_expected(out, nbd_reply_encode(out, &req, &simple, error)));
		}
}

/* "MUST NOT use a simple reply for NBD_CMD_READ (even for the case of an early NBD_EINVAL due to
 * bad flags)" */
TEST(with_structured_replies_errors_are_chunks_and_success_is_simple_but_for_reads_and_status)
{
	uint8_t out[NBD_REPLY_MAX];

	for (size_t c = 0; c < COMMANDS; c++) {
		struct nbd_request req = request(commands[c], 0);

		says_error(&structured, NBD_EINVAL);
		CHECK(is_expected(out, nbd_reply_encode(out, &req, &structured, NBD_EINVAL)));
		if (commands[c] == NBD_CMD_READ || commands[c] == NBD_CMD_BLOCK_STATUS)
			says_chunk(&structured, 0, 0);
		else
			says_simple(0);
		CHECK(is_expected(out, nbd_reply_encode(out, &req, &structured, NBD_OK)));
	}
}

/* "If extended headers have been negotiated, a simple reply MUST NOT be used." */
TEST(with_extended_headers_every_reply_is_a_chunk_with_the_offset_of_the_request)
{
	uint8_t out[NBD_REPLY_MAX];

	for (size_t c = 0; c < COMMANDS; c++) {
		struct nbd_request req = request(commands[c], 4096);

		says_error(&extended, NBD_ENOSPC);
		CHECK(is_expected(out, nbd_reply_encode(out, &req, &extended, NBD_ENOSPC)));
		says_chunk(&extended, 0, 0);
		CHECK(is_expected(out, nbd_reply_encode(out, &req, &extended, NBD_OK)));
	}
}

/* ---- reads ----------------------------------------------------------------------------- */

TEST(a_read_is_one_chunk_of_its_whole_length_with_its_offset)
{
	static const uint64_t lengths[] = { 1, 4096, 65536, UINT32_MAX - 8 };
	uint8_t out[NBD_REPLY_MAX];

	for (size_t i = 0; i < 4; i++) {
		struct nbd_request req = request(NBD_CMD_READ, lengths[i]);

		says_simple(0);
		CHECK(is_expected(out, nbd_read_head_encode(out, &req, &simple)));
		says_chunk(&structured, 1, 8 + lengths[i]);
		put_be(&expected, req.offset, 8);
		CHECK(is_expected(out, nbd_read_head_encode(out, &req, &structured)));
		says_chunk(&extended, 1, 8 + lengths[i]);
		put_be(&expected, req.offset, 8);
		CHECK(is_expected(out, nbd_read_head_encode(out, &req, &extended)));
		CHECK_EQ(expected.n, NBD_REPLY_MAX);
	}
}

/* "each chunk MUST describe at least one byte" */
TEST(a_read_of_nothing_has_no_content_chunk)
{
	struct nbd_request req = request(NBD_CMD_READ, 0);
	uint8_t out[NBD_REPLY_MAX];

	says_simple(0);
	CHECK(is_expected(out, nbd_read_head_encode(out, &req, &simple)));
	says_chunk(&structured, 0, 0);
	CHECK(is_expected(out, nbd_read_head_encode(out, &req, &structured)));
	says_chunk(&extended, 0, 0);
	CHECK(is_expected(out, nbd_read_head_encode(out, &req, &extended)));
}

/* ---- block status ---------------------------------------------------------------------- */

TEST(a_block_status_is_a_chunk_with_the_context_and_each_extent)
{
	static const struct nbd_extent extents[] = { { 4096, 0 },
						     { 65536, NBD_STATE_HOLE | NBD_STATE_ZERO },
						     { 512, NBD_STATE_ZERO } };
	struct nbd_request req = request(NBD_CMD_BLOCK_STATUS, 1 << 20);
	uint8_t out[NBD_REPLY_MAX], extent[NBD_EXTENT_MAX];
	struct nbd_extent back;

	says_chunk(&structured, 5, 4 + 3 * 8);
	put_be(&expected, 0x01020304, 4);
	CHECK(is_expected(out, nbd_block_status_head_encode(out, &req, &structured, 3)));
	says_chunk(&extended, 6, 8 + 3 * 16);
	put_be(&expected, 0x01020304, 4);
	put_be(&expected, 3, 4);
	CHECK(is_expected(out, nbd_block_status_head_encode(out, &req, &extended, 3)));
	for (size_t i = 0; i < 3; i++)
		for (int size = 4; size <= 8; size += 4) {
			const struct nbd_mode *mode = size == 8 ? &extended : &structured;

			expected.n = 0;
			put_be(&expected, extents[i].length, size);
			put_be(&expected, extents[i].flags, size);
			CHECK(is_expected(extent, nbd_extent_encode(extent, &extents[i], mode)));
			nbd_extent_decode(&back, mode, extent);
			CHECK(back.length == extents[i].length && back.flags == extents[i].flags);
		}
}

TEST(a_block_status_of_the_most_extents_says_its_true_length)
{
	struct nbd_request req = request(NBD_CMD_BLOCK_STATUS, UINT32_MAX);
	uint8_t out[NBD_REPLY_MAX];

	says_chunk(&structured, 5, 4 + 8 * (1 << 20));
	put_be(&expected, 0x01020304, 4);
	CHECK(is_expected(out,
			  nbd_block_status_head_encode(out, &req, &structured, NBD_EXTENTS_MAX)));
}

/* One list of extents and what is to become of it; a list ends with a length of 0 twice. */
struct fit_case {
	const char *name;
	const struct nbd_mode *mode;
	uint16_t flags;
	uint64_t length;
	struct nbd_extent in[6];
	size_t n, n_out;
	struct nbd_extent out[6];
};

static const struct fit_case fits[] = {
	{ "one that is all", &structured, 0, 100, { { 100, 0 } }, 1, 1, { { 100, 0 } } },
	{ "one that is more", &structured, 0, 100, { { 4096, 3 } }, 1, 1, { { 4096, 3 } } },
	{ "one that is less", &structured, 0, 100, { { 99, 3 } }, 1, 1, { { 99, 3 } } },
	{ "the last goes beyond",
	  &structured,
	  0,
	  100,
	  { { 99, 0 }, { 50, 3 } },
	  2,
	  2,
	  { { 99, 0 }, { 50, 3 } } },
	{ "covered exactly", &structured, 0, 100, { { 100, 0 }, { 50, 3 } }, 2, 1, { { 100, 0 } } },
	{ "covered by more", &extended, 0, 100, { { 101, 0 }, { 50, 3 } }, 2, 1, { { 101, 0 } } },
	{ "neighbours of a kind",
	  &structured,
	  0,
	  100,
	  { { 10, 3 }, { 20, 3 }, { 30, 0 } },
	  3,
	  2,
	  { { 30, 3 }, { 30, 0 } } },
	{ "of a kind beyond the end",
	  &structured,
	  0,
	  100,
	  { { 60, 3 }, { 60, 3 }, { 60, 3 } },
	  3,
	  1,
	  { { 180, 3 } } },
	{ "empty ones",
	  &structured,
	  0,
	  100,
	  { { 0, 3 }, { 20, 0 }, { 0, 3 }, { 30, 0 } },
	  4,
	  1,
	  { { 50, 0 } } },
	{ "none", &structured, 0, 100, { { 0, 0 } }, 0, 0, { { 0, 0 } } },
	{ "only empty ones", &structured, 0, 100, { { 0, 1 }, { 0, 0 } }, 2, 0, { { 0, 0 } } },
	{ "one wanted, shorter",
	  &structured,
	  NBD_CMD_FLAG_REQ_ONE,
	  100,
	  { { 99, 0 }, { 50, 3 } },
	  2,
	  1,
	  { { 99, 0 } } },
	{ "one wanted, exact",
	  &structured,
	  NBD_CMD_FLAG_REQ_ONE,
	  100,
	  { { 100, 0 }, { 50, 3 } },
	  2,
	  1,
	  { { 100, 0 } } },
	{ "one wanted, longer",
	  &structured,
	  NBD_CMD_FLAG_REQ_ONE,
	  100,
	  { { 101, 2 }, { 50, 3 } },
	  2,
	  1,
	  { { 100, 2 } } },
	{ "one wanted, in parts",
	  &extended,
	  NBD_CMD_FLAG_REQ_ONE,
	  100,
	  { { 60, 2 }, { 60, 2 } },
	  2,
	  1,
	  { { 100, 2 } } },
	{ "the largest of 32 bits",
	  &structured,
	  0,
	  UINT32_MAX,
	  { { 0xffff0000, 3 }, { 1, 0 } },
	  2,
	  2,
	  { { 0xffff0000, 3 }, { 1, 0 } } },
	{ "one byte over that",
	  &structured,
	  0,
	  UINT32_MAX,
	  { { 0xffff0001, 3 }, { 1, 0 } },
	  2,
	  1,
	  { { 0xffff0000, 3 } } },
	{ "far over that",
	  &structured,
	  0,
	  100,
	  { { UINT64_MAX, 3 } },
	  1,
	  1,
	  { { 0xffff0000, 3 } } },
	{ "over that in parts",
	  &structured,
	  0,
	  UINT32_MAX,
	  { { 0x80000000, 0 }, { 0x80000000, 0 }, { 5, 1 } },
	  3,
	  1,
	  { { 0xffff0000, 0 } } },
	{ "64 bits",
	  &extended,
	  0,
	  UINT64_C(1) << 40,
	  { { UINT64_C(1) << 39, 0 }, { UINT64_C(1) << 41, 3 } },
	  2,
	  2,
	  { { UINT64_C(1) << 39, 0 }, { UINT64_C(1) << 41, 3 } } },
};

TEST(extents_are_made_to_fit_what_the_specification_allows)
{
	for (size_t i = 0; i < sizeof(fits) / sizeof(fits[0]); i++) {
		const struct fit_case *c = &fits[i];
		struct nbd_request req = request(NBD_CMD_BLOCK_STATUS, c->length);
		struct nbd_extent list[6];
		size_t n;

		req.flags = c->flags;
		memcpy(list, c->in, sizeof(list));
		n = nbd_extents_fit(list, c->n, &req, c->mode);
		for (size_t k = 0; k < n && n == c->n_out; k++)
			if (list[k].length != c->out[k].length || list[k].flags != c->out[k].flags)
				n = SIZE_MAX;
		CHECK_STR(n == c->n_out ? "" : c->name, "");
	}
}

TEST(no_more_extents_are_sent_than_a_chunk_may_have)
{
	static struct nbd_extent list[NBD_EXTENTS_MAX + 2];
	struct nbd_request req = request(NBD_CMD_BLOCK_STATUS, UINT32_MAX);

	for (size_t n = NBD_EXTENTS_MAX - 1; n <= NBD_EXTENTS_MAX + 1; n++) {
		for (size_t i = 0; i < n; i++)
			list[i] = (struct nbd_extent){ 512, i % 2 };
		CHECK_EQ(nbd_extents_fit(list, n, &req, &structured),
			 n < NBD_EXTENTS_MAX ? n : NBD_EXTENTS_MAX);
	}
}

/* ---- heads ----------------------------------------------------------------------------- */

TEST(a_simple_reply_is_encoded_and_decoded_with_the_known_bytes)
{
	struct nbd_simple_reply rep = { .error = NBD_ENOSPC, .cookie = 0x1122334455667788 };
	uint8_t out[NBD_SIMPLE_REPLY_SIZE];

	nbd_simple_reply_encode(&rep, out);
	says_simple(28);
	CHECK(is_expected(out, sizeof(out)));
	memset(&rep, 0, sizeof(rep));
	CHECK(nbd_simple_reply_decode(&rep, expected.b));
	CHECK_EQ(rep.error, NBD_ENOSPC);
	CHECK_EQ(rep.cookie, 0x1122334455667788);
}

TEST(a_chunk_is_decoded_as_it_was_encoded)
{
	for (int i = 0; i < 2; i++) {
		const struct nbd_mode *mode = i ? &extended : &structured;
		struct nbd_chunk chunk = { .flags = 0x1234,
					   .type = 0xfedc,
					   .cookie = 0x1122334455667788,
					   .offset = i ? UINT64_MAX - 1 : 0,
					   .length = i ? 0x1fedcba98 : 0xfedcba98 };
		uint8_t out[NBD_EXTENDED_CHUNK_SIZE];
		struct nbd_chunk back;

		CHECK_EQ(nbd_chunk_head_size(mode), i ? 32 : 20);
		nbd_chunk_encode(&chunk, mode, out);
		CHECK(nbd_chunk_decode(&back, mode, out));
		CHECK(back.flags == chunk.flags && back.type == chunk.type &&
		      back.cookie == chunk.cookie && back.offset == chunk.offset &&
		      back.length == chunk.length);
	}
}

TEST(a_head_with_any_bit_of_the_magic_wrong_is_not_taken)
{
	uint8_t in[NBD_EXTENDED_CHUNK_SIZE];
	struct nbd_simple_reply rep;
	struct nbd_chunk chunk;

	for (int bit = 0; bit < 32; bit++) {
		says_simple(0);
		expected.b[bit / 8] ^= (uint8_t)(1 << bit % 8);
		CHECK(!nbd_simple_reply_decode(&rep, expected.b));
		for (int i = 0; i < 2; i++) {
			const struct nbd_mode *mode = i ? &extended : &structured;

			says_chunk(mode, 0, 0);
			memcpy(in, expected.b, nbd_chunk_head_size(mode));
			in[bit / 8] ^= (uint8_t)(1 << bit % 8);
			CHECK(!nbd_chunk_decode(&chunk, mode, in));
		}
	}
}

TEST(no_kind_of_head_is_taken_for_another)
{
	struct nbd_simple_reply rep;
	struct nbd_chunk chunk;

	says_chunk(&structured, 0, 0);
	put_fill(&expected, 0, 32);
	CHECK(!nbd_simple_reply_decode(&rep, expected.b));
	CHECK(!nbd_chunk_decode(&chunk, &extended, expected.b));
	says_chunk(&extended, 0, 0);
	CHECK(!nbd_simple_reply_decode(&rep, expected.b));
	CHECK(!nbd_chunk_decode(&chunk, &structured, expected.b));
	says_simple(0);
	put_fill(&expected, 0, 32);
	CHECK(!nbd_chunk_decode(&chunk, &structured, expected.b));
	CHECK(!nbd_chunk_decode(&chunk, &extended, expected.b));
}
