/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * FNV-1a, for tables whose keys nobody has a reason to make collide, or where a collision costs
 * nothing but sharing.
 */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_START UINT32_C(2166136261)

/* Goes on from HASH_START, from another hash, or from any number that is to count too. */
static inline uint32_t hash_bytes(uint32_t hash, const void *data, size_t size)
{
	const uint8_t *p = data;

	for (size_t i = 0; i < size; i++)
		hash = (hash ^ p[i]) * UINT32_C(16777619);
	return hash;
}

#endif
