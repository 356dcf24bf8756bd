/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See blockmap.h. */
#include "blockmap.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

enum { BLOCKMAP_SHIFT = 10 };
_Static_assert(1 << BLOCKMAP_SHIFT == BLOCKMAP_PER_BLOCK, "shift and count belong together");

/*
 * The tree (1 to 3) that logical belongs to, 0 for the direct blocks, -EFBIG for none. *offset
 * is its number within the tree, *size how many blocks the tree maps.
 */
static int blockmap_tree(uint64_t logical, uint64_t *offset, uint64_t *size)
{
	*offset = logical;
	*size = BLOCKMAP_DIRECT;
	for (int depth = 0; depth <= BLOCKMAP_DEPTH; depth++) {
		if (*offset < *size)
			return depth;
		*offset -= *size;
		*size = UINT64_C(1) << (BLOCKMAP_SHIFT * (depth + 1));
	}
	return -EFBIG;
}

static int blockmap_flush(struct blockmap *m, struct blockmap_node *n)
{
	uint32_t block = n->block;

	n->block = 0;
	return block == 0 ? 0 : m->write(m->arg, block, n->numbers);
}

static int blockmap_allocate(struct blockmap *m, uint32_t *block)
{
	int r = m->allocate(m->arg, block);

	if (r == 0)
		m->used++;
	return r;
}

/* Makes node[level] the one that leads to offset; the ones above it already do. */
static int blockmap_enter(struct blockmap *m, int depth, int level, uint64_t offset)
{
	struct blockmap_node *n = &m->node[level];
	uint64_t index = offset >> (BLOCKMAP_SHIFT * (level + 1));
	uint32_t block;
	int r;

	if (n->block != 0 && n->depth == depth && n->index == index)
		return 0;
	r = blockmap_flush(m, n);
	if (r != 0)
		return r;
	r = blockmap_allocate(m, &block);
	if (r != 0)
		return r;
	if (level == depth - 1)
		m->top[BLOCKMAP_DIRECT + depth - 1] = block;
	else
		m->node[level + 1].numbers[index % BLOCKMAP_PER_BLOCK] = htole32(block);
	memset(n->numbers, 0, sizeof(n->numbers));
	n->block = block;
	n->depth = depth;
	n->index = index;
	return 0;
}

int blockmap_add(struct blockmap *m, uint64_t logical, uint32_t *block)
{
	uint64_t offset, size;
	int depth = blockmap_tree(logical, &offset, &size);
	int r;

	assert(logical >= m->next);
	if (depth < 0)
		return depth;
	for (int level = depth - 1; level >= 0; level--) {
		r = blockmap_enter(m, depth, level, offset);
		if (r != 0)
			return r;
	}
	r = blockmap_allocate(m, block);
	if (r != 0)
		return r;
	if (depth == 0)
		m->top[logical] = *block;
	else
		m->node[0].numbers[offset % BLOCKMAP_PER_BLOCK] = htole32(*block);
	m->next = logical + 1;
	return 0;
}

int blockmap_finish(struct blockmap *m)
{
	for (int level = 0; level < BLOCKMAP_DEPTH; level++) {
		int r = blockmap_flush(m, &m->node[level]);

		if (r != 0)
			return r;
	}
	return 0;
}

int blockmap_cost_add(struct blockmap_cost *c, uint64_t first, uint64_t count)
{
	while (count > 0) {
		uint64_t offset, size, part;
		int depth = blockmap_tree(first, &offset, &size);

		if (depth < 0)
			return depth;
		part = size - offset < count ? size - offset : count;
		c->blocks += part;
		for (int level = 0; level < depth; level++) {
			int shift = BLOCKMAP_SHIFT * (level + 1);
			uint64_t from = offset >> shift;
			uint64_t to = (offset + part - 1) >> shift;

			c->blocks += to - from + 1;
			if (c->last[level].depth == depth && c->last[level].index == from)
				c->blocks--;
			c->last[level].depth = depth;
			c->last[level].index = to;
		}
		first += part;
		count -= part;
	}
	return 0;
}
