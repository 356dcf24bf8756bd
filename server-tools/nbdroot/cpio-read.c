/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See cpio-read.h. */
#include "cpio-read.h"

#include "base/parse.h"
#include "cpio.h"

#include <stdbool.h>
#include <string.h>

enum {
	HEAD_SIZE = 110,
	MAGIC_SIZE = 6,
	FIELD_SIZE = 8,
	FIELDS = 13,
};

/* Where the fields are that we want. */
enum { FIELD_INODE = 0, FIELD_MODE = 1, FIELD_LINKS = 4, FIELD_SIZE_OF_DATA = 6, FIELD_NAME = 11 };

static bool read_fields(const uint8_t *head, uint32_t out[static FIELDS])
{
	for (int i = 0; i < FIELDS; i++) {
		out[i] = 0;
		for (int k = 0; k < FIELD_SIZE; k++) {
			int digit = parse_hex_digit((char)head[MAGIC_SIZE + i * FIELD_SIZE + k]);

			if (digit < 0)
				return false;
			out[i] = out[i] << 4 | (uint32_t)digit;
		}
	}
	return true;
}

/* Past size bytes and to the next multiple of four; false: the end comes first. */
static bool advance(struct cpio_reader *r, size_t size)
{
	size_t padding = (4 - ((r->at + size) & 3)) & 3; /* may overflow, as it may not matter */

	if (size > r->size - r->at)
		return false;
	r->at += size;
	/* The last entry's padding may be missing. */
	r->at = padding > r->size - r->at ? r->size : r->at + padding;
	return true;
}

int cpio_next(struct cpio_reader *r, struct cpio_item *out)
{
	uint32_t field[FIELDS];
	const uint8_t *head = r->data + r->at;

	if (r->size - r->at < HEAD_SIZE)
		return CPIO_E_SHORT;
	/* 070702 has a checksum, which the kernel reads and does not compare either. */
	if ((memcmp(head, "070701", MAGIC_SIZE) != 0 && memcmp(head, "070702", MAGIC_SIZE) != 0) ||
	    !read_fields(head, field))
		return CPIO_E_MALFORMED;
	if (field[FIELD_NAME] == 0 || field[FIELD_NAME] > CPIO_NAME_MAX + 1)
		return CPIO_E_MALFORMED;
	if (!advance(r, HEAD_SIZE + (size_t)field[FIELD_NAME]))
		return CPIO_E_SHORT;
	*out = (struct cpio_item){
		.name = (const char *)head + HEAD_SIZE,
		.name_length = field[FIELD_NAME] - 1,
		.inode = field[FIELD_INODE],
		.mode = field[FIELD_MODE],
		.links = field[FIELD_LINKS],
		.data = r->data + r->at,
		.size = field[FIELD_SIZE_OF_DATA],
	};
	if (strnlen(out->name, out->name_length + 1) != out->name_length)
		return CPIO_E_MALFORMED; /* a zero within, or none at the end */
	if (strcmp(out->name, "TRAILER!!!") == 0)
		return CPIO_E_END;
	return advance(r, out->size) ? 0 : CPIO_E_SHORT;
}
