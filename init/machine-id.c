/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See machine-id.h. The hash is SipHash-2-4 with 128 bits (Aumasson and Bernstein; the same that
 * systemd uses): UUID and MAC are known in the network, and must not be read out of the id.
 */
#include "machine-id.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { INPUT_MAX = 128 };

static uint64_t rotate(uint64_t x, unsigned int bits)
{
	return x << bits | x >> (64 - bits);
}

static uint64_t le64(const uint8_t *p)
{
	uint64_t x = 0;

	for (int i = 7; i >= 0; i--)
		x = x << 8 | p[i];
	return x;
}

static void rounds(uint64_t v[static 4], int count)
{
	while (count-- > 0) {
		v[0] += v[1];
		v[2] += v[3];
		v[1] = rotate(v[1], 13) ^ v[0];
		v[3] = rotate(v[3], 16) ^ v[2];
		v[0] = rotate(v[0], 32);
		v[2] += v[1];
		v[0] += v[3];
		v[1] = rotate(v[1], 17) ^ v[2];
		v[3] = rotate(v[3], 21) ^ v[0];
		v[2] = rotate(v[2], 32);
	}
}

void machine_id_siphash(const uint8_t key[static 16], const void *data, size_t size,
			uint8_t out[static 16])
{
	const uint64_t k0 = le64(key), k1 = le64(key + 8);
	uint64_t v[4] = { k0 ^ UINT64_C(0x736f6d6570736575),
			  k1 ^ UINT64_C(0x646f72616e646f6d) ^ 0xee,
			  k0 ^ UINT64_C(0x6c7967656e657261), k1 ^ UINT64_C(0x7465646279746573) };
	uint8_t last[8] = { 0 };
	const uint8_t *p = data;
	uint64_t half[2];

	for (; size - (size_t)(p - (const uint8_t *)data) >= 8; p += 8) {
		v[3] ^= le64(p);
		rounds(v, 2);
		v[0] ^= le64(p);
	}
	memcpy(last, p, size % 8);
	last[7] = (uint8_t)size;
	v[3] ^= le64(last);
	rounds(v, 2);
	v[0] ^= le64(last);

	v[2] ^= 0xee;
	rounds(v, 4);
	half[0] = v[0] ^ v[1] ^ v[2] ^ v[3];
	v[1] ^= 0xdd;
	rounds(v, 4);
	half[1] = v[0] ^ v[1] ^ v[2] ^ v[3];
	for (int i = 0; i < 16; i++)
		out[i] = (uint8_t)(half[i / 8] >> (8 * (i % 8)));
}

const struct machine_id_card *machine_id_choose(const struct machine_id_card *cards, size_t count)
{
	const struct machine_id_card *best = NULL;

	for (const struct machine_id_card *c = cards; c < cards + count; c++)
		if (best == NULL ||
		    (c->is_usb == best->is_usb ? memcmp(c->mac, best->mac, 6) < 0 : !c->is_usb))
			best = c;
	return best;
}

int machine_id_derive(const char *uuid, const char *mac, char out[static MACHINE_ID_TEXT])
{
	/* Ours alone: it must never change, for the ids would. */
	static const uint8_t key[16] = { 0x6e, 0x62, 0x64, 0x72, 0x6f, 0x6f, 0x74, 0x2c,
					 0x20, 0x61, 0x6e, 0x20, 0x69, 0x64, 0x21, 0x0a };
	char input[INPUT_MAX];
	uint8_t id[16];

	if (uuid[0] == '\0' && mac[0] == '\0')
		return MACHINE_ID_E_NONE;
	snprintf(input, sizeof(input), "%s\n%s\n", uuid, mac);
	machine_id_siphash(key, input, strlen(input), id);
	id[6] = (uint8_t)((id[6] & 0x0f) | 0x40); /* RFC 9562: version 4, as machine-id(5) wants */
	id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
	for (int i = 0; i < 16; i++)
		snprintf(out + 2 * i, 3, "%02x", id[i]);
	return 0;
}

bool machine_id_is_open(const char *text)
{
	return text[strspn(text, " \t\n")] == '\0' || strcmp(text, "uninitialized") == 0;
}
