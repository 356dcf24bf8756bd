/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See cpio.h. */
#include "cpio.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { CPIO_HEAD = 110 }; /* a magic number of 6 digits, 13 fields of 8 */

void cpio_init(struct cpio *c, uint32_t mtime)
{
	*c = (struct cpio){ .mtime = mtime };
}

void cpio_deinit(struct cpio *c)
{
	free(c->data);
	c->data = NULL;
}

static size_t cpio_padded(size_t size)
{
	return (size + 3) & ~(size_t)3;
}

/* Room for size more bytes, all zero. */
static int cpio_grow(struct cpio *c, size_t size)
{
	size_t room = c->room ? c->room : 65536;
	uint8_t *grown;

	while (room - c->size < size)
		room *= 2;
	if (room == c->room)
		return 0;
	grown = realloc(c->data, room);
	if (!grown)
		return -ENOMEM;
	memset(grown + c->size, 0, room - c->size);
	c->data = grown;
	c->room = room;
	return 0;
}

static int cpio_put(struct cpio *c, const struct cpio_entry *e, uint32_t inode, uint32_t links)
{
	size_t name_size = strlen(e->name) + 1;
	size_t head = cpio_padded(CPIO_HEAD + name_size);
	char text[CPIO_HEAD + 1];
	int r = cpio_grow(c, head + cpio_padded(e->size));

	if (r < 0)
		return r;
	snprintf(text, sizeof(text), "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		 inode, (unsigned)e->mode, 0u, 0u, links, inode ? c->mtime : 0, (unsigned)e->size,
		 0u, 0u, e->device_major, e->device_minor, (unsigned)name_size, 0u);
	memcpy(c->data + c->size, text, CPIO_HEAD);
	memcpy(c->data + c->size + CPIO_HEAD, e->name, name_size);
	if (e->size > 0)
		memcpy(c->data + c->size + head, e->data, e->size);
	c->size += head + cpio_padded(e->size);
	return 0;
}

int cpio_add(struct cpio *c, const struct cpio_entry *e)
{
	size_t length = strlen(e->name);

	if (length == 0 || e->name[0] == '/')
		return -EINVAL;
	if (length > CPIO_NAME_MAX)
		return -ENAMETOOLONG;
	if (e->size > UINT32_MAX)
		return -EFBIG;
	c->entries++;
	return cpio_put(c, e, c->entries, (e->mode & S_IFMT) == S_IFDIR ? 2 : 1);
}

int cpio_end(struct cpio *c)
{
	const struct cpio_entry e = { .name = "TRAILER!!!" };

	return cpio_put(c, &e, 0, 1);
}
