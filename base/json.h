/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * JSON (RFC 8259): the one thing about writing it that is easy to get wrong, which is strings;
 * and reading it without a tree: a text becomes an array of tokens that point into it. Nothing
 * here allocates. What is not strictly JSON, or deeper than JSON_DEPTH_MAX, is not read.
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include "cleanup.h"

#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

/*
 * Writes text as a JSON string, with its quotes (RFC 8259, section 7). Bytes that are not UTF-8
 * become U+FFFD, for a name from a peer may be anything and the output must parse.
 */
void json_put_string(FILE *out, const char *text);

/* The length of the UTF-8 sequence that a string begins with; 0: it begins with none. */
size_t json_utf8_length(const char *text);

enum json_type {
	JSON_OBJECT,
	JSON_ARRAY,
	JSON_STRING,
	JSON_NUMBER,
	JSON_TRUE,
	JSON_FALSE,
	JSON_NULL,
};

enum { JSON_DEPTH_MAX = 16 };

/*
 * A value. Those that are in it follow it: an array's elements one after the other, an object's
 * members as key, value, key, value. The one after t in the same array or object is t + t->span.
 */
struct json_token {
	enum json_type type;
	uint32_t span; /* tokens: itself and all that are in it */
	size_t start;  /* in the text; of a string, after its quote */
	size_t size;   /* of a string, without its quotes */
};

/*
 * Reads one value, which must be all of the text, into at most max tokens. Returns how many the
 * text has, which may be more than max (then read again with more; tokens may be NULL when max
 * is 0), or -EINVAL when it is not JSON.
 */
ssize_t json_parse(const char *text, size_t size, struct json_token *tokens,
		   size_t max) _must_check_;

/* The value of an object's first member of that name; NULL: no such member, or no object. */
const struct json_token *json_get(const char *text, const struct json_token *object,
				  const char *name);

/*
 * A string's content as a C string. Returns its length, -EINVAL when it is no string or has a
 * NUL or half a surrogate pair in it, -ENAMETOOLONG when it does not fit.
 */
ssize_t json_string(const char *text, const struct json_token *t, char *out,
		    size_t out_size) _must_check_;

/* Whether it is a string of that content. */
int json_is(const char *text, const struct json_token *t, const char *content);

/* A whole number that is not negative. 0, -EINVAL (not one) or -ERANGE (over max). */
int json_u64(const char *text, const struct json_token *t, uint64_t max,
	     uint64_t *out) _must_check_;

#endif
