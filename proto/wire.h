/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A bounded reader and writer of big-endian fields: the only place where byte order exists.
 * Both have a sticky flag for "past the end": read (or write) all fields, test once. Reads past
 * the end give zeroes and move nothing.
 */
#ifndef PROTO_WIRE_H
#define PROTO_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wire_reader {
	const uint8_t *p, *end;
	bool bad;
};

static inline struct wire_reader wire_reader(const void *data, size_t size)
{
	return (struct wire_reader){ .p = data, .end = (const uint8_t *)data + size };
}

uint8_t wire_u8(struct wire_reader *r);
uint16_t wire_u16(struct wire_reader *r);
uint32_t wire_u32(struct wire_reader *r);
uint64_t wire_u64(struct wire_reader *r);

/* The next size bytes, in place, or NULL past the end. */
const uint8_t *wire_bytes(struct wire_reader *r, size_t size);

/* How many bytes are left. */
static inline size_t wire_left(const struct wire_reader *r)
{
	return (size_t)(r->end - r->p);
}

struct wire_writer {
	uint8_t *start, *p, *end;
	bool full;
};

static inline struct wire_writer wire_writer(void *data, size_t size)
{
	return (struct wire_writer){ .start = data, .p = data, .end = (uint8_t *)data + size };
}

void wire_put_u8(struct wire_writer *w, uint8_t v);
void wire_put_u16(struct wire_writer *w, uint16_t v);
void wire_put_u32(struct wire_writer *w, uint32_t v);
void wire_put_u64(struct wire_writer *w, uint64_t v);
void wire_put_bytes(struct wire_writer *w, const void *data, size_t size);
void wire_put_zeroes(struct wire_writer *w, size_t size);

/* How many bytes were written. */
static inline size_t wire_used(const struct wire_writer *w)
{
	return (size_t)(w->p - w->start);
}

/* How many more fit. */
static inline size_t wire_room(const struct wire_writer *w)
{
	return (size_t)(w->end - w->p);
}

#endif
