/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The one thing about writing JSON that is easy to get wrong: strings. */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <stdio.h>

/*
 * Writes text as a JSON string, with its quotes (RFC 8259, section 7). Bytes that are not UTF-8
 * become U+FFFD, for a name from a peer may be anything and the output must parse.
 */
void json_put_string(FILE *out, const char *text);

#endif
