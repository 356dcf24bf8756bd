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

/*
 * Each size written out: compilers make one load or store of it, and these are in the path of
 * every request.
 */

static uint16_t get_u16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t get_u32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

uint8_t wire_u8(struct wire_reader *r)
{
	const uint8_t *p = wire_bytes(r, 1);

	return p ? *p : 0;
}

uint16_t wire_u16(struct wire_reader *r)
{
	const uint8_t *p = wire_bytes(r, 2);

	return p ? get_u16(p) : 0;
}

uint32_t wire_u32(struct wire_reader *r)
{
	const uint8_t *p = wire_bytes(r, 4);

	return p ? get_u32(p) : 0;
}

uint64_t wire_u64(struct wire_reader *r)
{
	const uint8_t *p = wire_bytes(r, 8);

	return p ? (uint64_t)get_u32(p) << 32 | get_u32(p + 4) : 0;
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

static void set_u16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void set_u32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

void wire_put_u8(struct wire_writer *w, uint8_t v)
{
	uint8_t *p = wire_claim(w, 1);

	if (p)
		*p = v;
}

void wire_put_u16(struct wire_writer *w, uint16_t v)
{
	uint8_t *p = wire_claim(w, 2);

	if (p)
		set_u16(p, v);
}

void wire_put_u32(struct wire_writer *w, uint32_t v)
{
	uint8_t *p = wire_claim(w, 4);

	if (p)
		set_u32(p, v);
}

void wire_put_u64(struct wire_writer *w, uint64_t v)
{
	uint8_t *p = wire_claim(w, 8);

	if (!p)
		return;
	set_u32(p, (uint32_t)(v >> 32));
	set_u32(p + 4, (uint32_t)v);
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
