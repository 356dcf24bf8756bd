/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Numbers, sizes and addresses as people write them. Whole strings only: "12x" is not 12. */
#ifndef BASE_PARSE_H
#define BASE_PARSE_H

#include "cleanup.h"

#include <stddef.h>
#include <stdint.h>

/* A decimal number from 0 to max. 0, -EINVAL (not a number) or -ERANGE. */
int parse_u64(const char *text, uint64_t max, uint64_t *out) _must_check_;

/* Bytes, with an optional K, M, G or T (powers of 1024). 0, -EINVAL or -ERANGE (over 2^63-1). */
int parse_size(const char *text, uint64_t *out) _must_check_;

/*
 * A UUID in its usual form (8-4-4-4-12 hexadecimal digits, either case). 0 or -EINVAL.
 */
int parse_uuid(const char *text, uint8_t out[static 16]) _must_check_;

/* The reverse, lower case, for messages. */
enum { PARSE_UUID_TEXT = 37 };
void parse_format_uuid(const uint8_t uuid[static 16], char out[static PARSE_UUID_TEXT]);

/* One hexadecimal digit's value, or -1. */
int parse_hex_digit(char c);

/* An IPv4 address in four decimal parts, in the host's byte order. 0 or -EINVAL, *out as it was. */
int parse_ipv4(const char *text, uint32_t *out) _must_check_;

/* A hardware address: 52:54:00:12:34:56, or with dashes. 0 or -EINVAL; *out is then as it was. */
int parse_mac(const char *text, uint8_t out[static 6]) _must_check_;

/* Without the white space on both sides; writes into the text, and points into it. */
char *parse_trim(char *text);

#endif
