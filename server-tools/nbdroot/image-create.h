/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Makes an ext3 image, empty or filled from a directory. With SOURCE_DATE_EPOCH and a UUID the
 * same input gives the same bytes. Leaves nothing behind when it fails.
 */
#ifndef NBDROOT_IMAGE_CREATE_H
#define NBDROOT_IMAGE_CREATE_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stdint.h>

struct image_create {
	const char *path;
	uint64_t size_bytes; /* a multiple of 4096, within what ext3.h allows */
	const char *from;    /* NULL: empty */
	const char *label;   /* "" for none */
	bool has_uuid;
	uint8_t uuid[16];
	bool may_replace;
};

/* 0, or what failed, already reported. */
int image_create(const struct image_create *c) _must_check_;

#endif
