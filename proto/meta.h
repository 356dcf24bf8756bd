/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT ask for, as far as it concerns a
 * server that has one context, base:allocation. Follows "Metadata querying" of doc/proto.md.
 * Queries of other namespaces, and those that are no queries at all, are passed over.
 */
#ifndef PROTO_META_H
#define PROTO_META_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct nbd_meta_query {
	const uint8_t *name; /* of the export, in the option's data; no NUL behind it */
	size_t name_size;
	uint32_t count;           /* how many queries there were */
	bool has_base;            /* "base:" was one of them */
	bool has_base_allocation; /* "base:allocation" was */
};

/*
 * Takes the data of either option. False: its lengths do not agree, or a query is longer than
 * NBD_STRING_MAX. How many queries there can be is bounded by size.
 */
bool nbd_meta_decode(struct nbd_meta_query *query, const void *data, size_t size);

#endif
