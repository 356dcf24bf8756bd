/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One entry of the configuration for a whole fleet: "clients/{mac}/root" as an export's name
 * and "/srv/nbd/{mac}-root.img" as its path. A name comes from the network and ends in a path,
 * so this is strict:
 *
 *  - a {word} matches one or more of A-Z a-z 0-9 . _ - and never begins with "." or "-"; no
 *    value can hold a "/" or be "..", so no name leaves the folders that the path shows;
 *  - {mac}, {ip} and {uuid} match such things only, in their one canonical spelling;
 *  - between two words there must be a character that no word can match, and a writable export's
 *    path must use every word of the name: two names are never one image.
 */
#ifndef NBDSERVE_PATTERN_H
#define NBDSERVE_PATTERN_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stddef.h>

enum {
	PATTERN_WORDS_MAX = 8,
	PATTERN_VALUE_MAX = 255, /* a file's name has no more */
};

/* What the words of a pattern stand for in a name; points into the pattern and into the name. */
struct pattern_values {
	struct pattern_value {
		const char *word, *value;
		size_t word_size, size;
	} list[PATTERN_WORDS_MAX];
	size_t n;
};

/* Whether an export's name is a pattern, good or bad. */
bool pattern_has_words(const char *text);

/*
 * Checks the name and the path of an export, of which at least one has words. 0, or -1 with
 * words in err. Only what has passed may be given to the functions below.
 */
int pattern_check(const char *name, const char *path, bool is_read_only, char *err,
		  size_t err_size) _must_check_;

/* Whether a name of size bytes, any bytes, matches; then the values are set. */
bool pattern_match(const char *pattern, const char *name, size_t size,
		   struct pattern_values *values) _must_check_;

/*
 * The path with the words replaced. 0, or -ENAMETOOLONG when it and its NUL do not fit in out.
 */
int pattern_expand(const char *path, const struct pattern_values *values, char *out,
		   size_t out_size) _must_check_;

/*
 * The folder beneath which all images of an export are, pattern or not: "/srv/nbd" for
 * "/srv/nbd/{mac}-root.img" and "/srv/nbd/root.img", "/srv" for "/srv/{mac}/root.img", "." for
 * "root.img". 0 or -ENAMETOOLONG.
 */
int pattern_directory(const char *path, char *out, size_t out_size) _must_check_;

#endif
