/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See meta.h. */
#include "meta.h"

#include "nbd.h"
#include "wire.h"

#include <string.h>

static bool is_text(const uint8_t *data, size_t size, const char *text)
{
	return size == strlen(text) && memcmp(data, text, size) == 0;
}

bool nbd_meta_decode(struct nbd_meta_query *query, const void *data, size_t size)
{
	struct wire_reader r = wire_reader(data, size);
	struct nbd_meta_query got = { 0 };

	got.name_size = wire_u32(&r);
	got.name = wire_bytes(&r, got.name_size);
	got.count = wire_u32(&r);
	for (uint32_t i = 0; i < got.count && !r.bad; i++) {
		size_t length = wire_u32(&r);
		const uint8_t *text = wire_bytes(&r, length);

		if (!text || length > NBD_STRING_MAX)
			return false;
		got.has_base |= is_text(text, length, "base:");
		got.has_base_allocation |= is_text(text, length, NBD_META_BASE_ALLOCATION);
	}
	if (r.bad || wire_left(&r) != 0)
		return false;
	*query = got;
	return true;
}
