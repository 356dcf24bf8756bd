/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Byte strings for scripted conversations, with a big-endian writer of their own, so that
 * proto/wire.c is not tested with itself; and numbers that look random and are the same each
 * time. A string that does not fit ends the test program: the script is wrong then.
 */
#ifndef TESTS_UNIT_BYTES_H
#define TESTS_UNIT_BYTES_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct bytes {
	size_t n;
	uint8_t b[64 * 1024];
};

static inline void put_mem(struct bytes *s, const void *data, size_t size)
{
	if (size > sizeof(s->b) - s->n)
		abort();
	if (size > 0)
		memcpy(s->b + s->n, data, size);
	s->n += size;
}

static inline void put_text(struct bytes *s, const char *text)
{
	put_mem(s, text, strlen(text));
}

static inline void put_fill(struct bytes *s, uint8_t v, size_t size)
{
	if (size > sizeof(s->b) - s->n)
		abort();
	memset(s->b + s->n, v, size);
	s->n += size;
}

static inline void put_be(struct bytes *s, uint64_t v, int size)
{
	while (size-- > 0) {
		uint8_t byte = (uint8_t)(v >> (8 * size));

		put_mem(s, &byte, 1);
	}
}

static inline int same_bytes(const struct bytes *a, const struct bytes *b)
{
	return a->n == b->n && memcmp(a->b, b->b, a->n) == 0;
}

/* xorshift32: from 0 to below limit; *state must not be 0. */
static inline uint32_t draw(uint32_t *state, uint32_t limit)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state % limit;
}

#endif
