/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bounded reader and writer: known bytes, and what happens at the end of the buffer. Every
 * size is tried one short, exact and one over.
 */
#include "proto/wire.h"

#include "tests/unit/tap.h"

static const uint8_t counting[16] = { 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef,
				      0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10 };

TEST(numbers_are_read_in_big_endian_order)
{
	struct wire_reader r = wire_reader(counting, 15);

	CHECK_EQ(wire_u8(&r), 0x01);
	CHECK_EQ(wire_u16(&r), 0x2345);
	CHECK_EQ(wire_u32(&r), 0x6789abcd);
	CHECK_EQ(wire_u64(&r), 0xeffedcba98765432);
	CHECK(!r.bad);
	CHECK_EQ(wire_left(&r), 0);
}

TEST(numbers_are_written_in_big_endian_order)
{
	uint8_t out[15];
	struct wire_writer w = wire_writer(out, sizeof(out));

	wire_put_u8(&w, 0x01);
	wire_put_u16(&w, 0x2345);
	wire_put_u32(&w, 0x6789abcd);
	wire_put_u64(&w, 0xeffedcba98765432);
	CHECK(!w.full);
	CHECK_EQ(wire_used(&w), sizeof(out));
	CHECK_EQ(wire_room(&w), 0);
	CHECK(memcmp(out, counting, sizeof(out)) == 0);
}

static uint64_t read_number(struct wire_reader *r, size_t size)
{
	switch (size) {
	case 1: return wire_u8(r);
	case 2: return wire_u16(r);
	case 4: return wire_u32(r);
	default: return wire_u64(r);
	}
}

static void write_number(struct wire_writer *w, size_t size, uint64_t v)
{
	switch (size) {
	case 1: wire_put_u8(w, (uint8_t)v); break;
	case 2: wire_put_u16(w, (uint16_t)v); break;
	case 4: wire_put_u32(w, (uint32_t)v); break;
	default: wire_put_u64(w, v); break;
	}
}

TEST(a_number_is_read_only_when_all_its_bytes_are_there)
{
	for (size_t size = 1; size <= 8; size *= 2) {
		/* exactly as large as it says, so that the sanitizer sees a read past the end */
		uint8_t *data = malloc(size + 1);
		struct wire_reader r;
		uint64_t v;

		memset(data, 0xff, size + 1);
		r = wire_reader(data + 2, size - 1);
		v = read_number(&r, size);
		bool is_short_bad = r.bad && v == 0 && wire_left(&r) == size - 1;

		r = wire_reader(data + 1, size);
		v = read_number(&r, size);
		bool is_exact_good =
			!r.bad && v == UINT64_MAX >> (64 - 8 * size) && wire_left(&r) == 0;

		r = wire_reader(data, size + 1);
		v = read_number(&r, size);
		bool is_long_good = !r.bad && wire_left(&r) == 1;

		free(data);
		CHECK(is_short_bad);
		CHECK(is_exact_good);
		CHECK(is_long_good);
	}
}

TEST(after_one_read_past_the_end_all_reads_give_zero)
{
	struct wire_reader r = wire_reader(counting, 3);

	CHECK_EQ(wire_u32(&r), 0);
	CHECK(r.bad);
	CHECK_EQ(wire_left(&r), 3);
	CHECK_EQ(wire_u8(&r), 0);
	CHECK_EQ(wire_u16(&r), 0);
	CHECK(wire_bytes(&r, 1) == NULL);
	CHECK(r.bad);
}

TEST(bytes_are_given_in_place_up_to_the_last_one)
{
	struct wire_reader r = wire_reader(counting, 4);

	CHECK(wire_bytes(&r, 3) == counting);
	CHECK(wire_bytes(&r, 1) == counting + 3);
	CHECK(wire_bytes(&r, 0) != NULL);
	CHECK(!r.bad);
	CHECK(wire_bytes(&r, 1) == NULL);
	CHECK(r.bad);
}

TEST(a_size_near_the_largest_number_is_past_the_end_and_does_not_wrap)
{
	struct wire_reader r = wire_reader(counting, 16);

	CHECK_EQ(wire_u8(&r), 1);
	CHECK(wire_bytes(&r, SIZE_MAX) == NULL);
	CHECK(r.bad);

	uint8_t out[4];
	struct wire_writer w = wire_writer(out, sizeof(out));

	wire_put_u8(&w, 1);
	wire_put_bytes(&w, counting, SIZE_MAX);
	CHECK(w.full);
	CHECK_EQ(wire_used(&w), 1);
}

TEST(a_number_is_written_only_when_all_its_bytes_fit)
{
	for (size_t size = 1; size <= 8; size *= 2) {
		uint8_t out[9];
		struct wire_writer w;

		memset(out, 0x55, sizeof(out));
		w = wire_writer(out, size - 1);
		write_number(&w, size, UINT64_MAX);
		CHECK(w.full);
		CHECK_EQ(wire_used(&w), 0);
		CHECK_EQ(out[0], 0x55);

		w = wire_writer(out, size);
		write_number(&w, size, UINT64_MAX);
		CHECK(!w.full);
		CHECK_EQ(wire_used(&w), size);
		CHECK_EQ(out[size - 1], 0xff);
		CHECK_EQ(out[size], 0x55);

		w = wire_writer(out, size + 1);
		write_number(&w, size, 0);
		CHECK(!w.full);
		CHECK_EQ(wire_room(&w), 1);
	}
}

TEST(after_one_write_past_the_end_nothing_more_is_written)
{
	uint8_t out[3] = { 7, 7, 7 };
	struct wire_writer w = wire_writer(out, sizeof(out));

	wire_put_u32(&w, 0);
	CHECK(w.full);
	wire_put_u8(&w, 0);
	wire_put_bytes(&w, counting, 1);
	wire_put_zeroes(&w, 1);
	CHECK_EQ(wire_used(&w), 0);
	CHECK_EQ(out[0], 7);
}

TEST(bytes_and_zeroes_are_written_up_to_the_last_byte_of_room)
{
	uint8_t out[6] = { 9, 9, 9, 9, 9, 9 };
	static const uint8_t expected[6] = { 0x01, 0x23, 0x45, 0, 0, 9 };
	struct wire_writer w = wire_writer(out, 5);

	wire_put_bytes(&w, counting, 3);
	wire_put_zeroes(&w, 2);
	wire_put_bytes(&w, NULL, 0);
	wire_put_zeroes(&w, 0);
	CHECK(!w.full);
	CHECK(memcmp(out, expected, sizeof(out)) == 0);
	wire_put_zeroes(&w, 1);
	CHECK(w.full);
	CHECK_EQ(out[5], 9);
}
