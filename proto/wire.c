/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See wire.h. */
#include "wire.h"

#include <string.h>

const uint8_t *wire_bytes(struct wire_reader *r, size_t size)
{
	const uint8_t *p = r->p;

	if (r->bad || size > wire_left(r)) {
		r->bad = true;
		return NULL;
	}
	r->p += size;
	return p;
}

static uint64_t wire_get(struct wire_reader *r, size_t size)
{
	const uint8_t *p = wire_bytes(r, size);
	uint64_t v = 0;

	if (!p)
		return 0;
	for (size_t i = 0; i < size; i++)
		v = v << 8 | p[i];
	return v;
}

uint8_t wire_u8(struct wire_reader *r)
{
	return (uint8_t)wire_get(r, 1);
}

uint16_t wire_u16(struct wire_reader *r)
{
	return (uint16_t)wire_get(r, 2);
}

uint32_t wire_u32(struct wire_reader *r)
{
	return (uint32_t)wire_get(r, 4);
}

uint64_t wire_u64(struct wire_reader *r)
{
	return wire_get(r, 8);
}

static uint8_t *wire_claim(struct wire_writer *w, size_t size)
{
	uint8_t *p = w->p;

	if (w->full || size > wire_room(w)) {
		w->full = true;
		return NULL;
	}
	w->p += size;
	return p;
}

static void wire_put(struct wire_writer *w, uint64_t v, size_t size)
{
	uint8_t *p = wire_claim(w, size);

	if (!p)
		return;
	for (size_t i = size; i > 0; i--, v >>= 8)
		p[i - 1] = (uint8_t)v;
}

void wire_put_u8(struct wire_writer *w, uint8_t v)
{
	wire_put(w, v, 1);
}

void wire_put_u16(struct wire_writer *w, uint16_t v)
{
	wire_put(w, v, 2);
}

void wire_put_u32(struct wire_writer *w, uint32_t v)
{
	wire_put(w, v, 4);
}

void wire_put_u64(struct wire_writer *w, uint64_t v)
{
	wire_put(w, v, 8);
}

void wire_put_bytes(struct wire_writer *w, const void *data, size_t size)
{
	uint8_t *p = wire_claim(w, size);

	if (p && size > 0)
		memcpy(p, data, size);
}

void wire_put_zeroes(struct wire_writer *w, size_t size)
{
	uint8_t *p = wire_claim(w, size);

	if (p && size > 0)
		memset(p, 0, size);
}
