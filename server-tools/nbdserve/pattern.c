/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See pattern.h. */
#include "pattern.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { WORD_MAX = 32 };

/* Not isalnum(): that would ask the locale. ":" is here for IPv6 addresses. */
static bool is_value_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '.' || c == '_' || c == '-' || c == ':';
}

static bool is_lower_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

/* The size of the {word} at p with its braces, 0 if there is none. */
static size_t word_at(const char *p)
{
	size_t size;

	if (*p != '{')
		return 0;
	size = strspn(p + 1, "abcdefghijklmnopqrstuvwxyz0123456789_");
	return size > 0 && size <= WORD_MAX && p[1 + size] == '}' ? size + 2 : 0;
}

static bool is_word(const char *word, size_t size, const char *which)
{
	return strlen(which) == size && memcmp(word, which, size) == 0;
}

bool pattern_has_words(const char *text)
{
	return strpbrk(text, "{}") != NULL;
}

/* ---- checking ----------------------------------------------------------------------------- */

_printf_(3, 4) static int fail(char *err, size_t err_size, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err, err_size, fmt, ap);
	va_end(ap);
	return -1;
}

static const struct pattern_value *find_word(const struct pattern_values *v, const char *word,
					     size_t size)
{
	for (size_t i = 0; i < v->n; i++)
		if (v->list[i].word_size == size && memcmp(v->list[i].word, word, size) == 0)
			return &v->list[i];
	return NULL;
}

/* Lists the words of a text, each once; *count is how many there are. */
static int list_words(const char *text, const char *what, struct pattern_values *out, size_t *count,
		      char *err, size_t err_size)
{
	bool is_apart = true;

	*out = (struct pattern_values){ 0 };
	*count = 0;
	for (const char *p = text; *p != '\0';) {
		size_t size = word_at(p);

		if (size == 0 && (*p == '{' || *p == '}'))
			return fail(err, err_size,
				    "the %s \"%.100s\" has a brace that is not part of a {word}: "
				    "lower case letters, digits and \"_\" between { and }",
				    what, text);
		if (size == 0) {
			is_apart = is_apart || !is_value_char(*p);
			p++;
			continue;
		}
		if (!is_apart)
			return fail(err, err_size,
				    "the %s \"%.100s\": before %.*s must stand a character that no "
				    "word can contain, such as \"/\" or \"+\", to part it from the "
				    "word before",
				    what, text, (int)size, p);
		is_apart = false;
		(*count)++;
		if (!find_word(out, p + 1, size - 2)) {
			if (out->n == PATTERN_WORDS_MAX)
				return fail(err, err_size, "the %s \"%.100s\" has over %d words",
					    what, text, PATTERN_WORDS_MAX);
			out->list[out->n++] =
				(struct pattern_value){ .word = p + 1, .word_size = size - 2 };
		}
		p += size;
	}
	return 0;
}

int pattern_check(const char *name, const char *path, bool is_read_only, char *err, size_t err_size)
{
	struct pattern_values in_name, in_path;
	size_t n_name, n_path;

	if (list_words(name, "name", &in_name, &n_name, err, err_size) < 0 ||
	    list_words(path, "path", &in_path, &n_path, err, err_size) < 0)
		return -1;
	if (n_name != in_name.n)
		return fail(err, err_size, "the name \"%.100s\" has a word twice", name);
	for (size_t i = 0; i < in_path.n; i++) {
		const struct pattern_value *w = &in_path.list[i];

		if (!find_word(&in_name, w->word, w->word_size))
			return fail(err, err_size,
				    "the path \"%.100s\" has {%.*s}, which the name \"%.100s\" "
				    "does not have",
				    path, (int)w->word_size, w->word, name);
	}
	for (size_t i = 0; i < in_name.n && !is_read_only; i++) {
		const struct pattern_value *w = &in_name.list[i];

		if (!find_word(&in_path, w->word, w->word_size))
			return fail(err, err_size,
				    "the path \"%.100s\" does not use {%.*s} of the name: several "
				    "names would be one writable image",
				    path, (int)w->word_size, w->word);
	}
	if (path[0] != '/')
		return fail(err, err_size, "the path \"%.100s\" of a pattern must begin with \"/\"",
			    path);
	return 0;
}

/* ---- matching ----------------------------------------------------------------------------- */

/* Digits and dashes: 'x' stands for a hexadecimal digit in lower case. */
static bool has_form(const char *value, size_t size, const char *form)
{
	if (size != strlen(form))
		return false;
	for (size_t i = 0; i < size; i++)
		if (form[i] == 'x' ? !is_lower_hex(value[i]) : value[i] != form[i])
			return false;
	return true;
}

/* An address as inet_ntop(3) writes it: "::1" and "0:0::1" must not be two images. */
static bool is_address(const char *value, size_t size)
{
	char text[INET6_ADDRSTRLEN], again[INET6_ADDRSTRLEN];
	unsigned char bytes[16];
	int family;

	if (size >= sizeof(text))
		return false;
	memcpy(text, value, size);
	text[size] = '\0';
	family = strchr(text, ':') ? AF_INET6 : AF_INET;
	return inet_pton(family, text, bytes) == 1 &&
	       inet_ntop(family, bytes, again, sizeof(again)) && strcmp(text, again) == 0;
}

static bool is_value_of(const char *word, size_t word_size, const char *value, size_t size)
{
	if (size == 0 || size > PATTERN_VALUE_MAX)
		return false;
	if (is_word(word, word_size, "mac"))
		return has_form(value, size, "xx-xx-xx-xx-xx-xx");
	if (is_word(word, word_size, "uuid"))
		return has_form(value, size, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx");
	if (is_word(word, word_size, "ip"))
		return is_address(value, size);
	/* the rest of its characters are those of is_value_char() */
	return value[0] != '.' && value[0] != '-' && !memchr(value, ':', size);
}

/* How many characters there are from p up to end that a value could have. */
static size_t span(const char *p, const char *end)
{
	size_t n = 0;

	while (p + n < end && is_value_char(p[n]))
		n++;
	return n;
}

bool pattern_match(const char *pattern, const char *name, size_t size,
		   struct pattern_values *values)
{
	const char *p = pattern, *p_end = pattern + strlen(pattern);
	const char *n = name, *n_end = name + size;

	*values = (struct pattern_values){ 0 };
	while (p < p_end) {
		size_t word_size = word_at(p), literal, have;
		struct pattern_value *v;

		if (word_size == 0) {
			if (n == n_end || *p != *n)
				return false;
			p++;
			n++;
			continue;
		}
		/*
		 * What follows the word up to the next character that parts words is literal
		 * (pattern_check() saw to that), so the value's end is known: no guessing.
		 */
		literal = span(p + word_size, p_end);
		have = span(n, n_end);
		if (have <= literal || memcmp(n + have - literal, p + word_size, literal) != 0 ||
		    values->n == PATTERN_WORDS_MAX)
			return false;
		v = &values->list[values->n++];
		*v = (struct pattern_value){ .word = p + 1,
					     .word_size = word_size - 2,
					     .value = n,
					     .size = have - literal };
		if (!is_value_of(v->word, v->word_size, v->value, v->size))
			return false;
		p += word_size + literal;
		n += have;
	}
	return n == n_end;
}

/* ---- paths -------------------------------------------------------------------------------- */

int pattern_expand(const char *path, const struct pattern_values *values, char *out,
		   size_t out_size)
{
	size_t used = 0;

	while (*path != '\0') {
		size_t word_size = word_at(path), size = 1;
		const char *piece = path++;

		if (word_size > 0) {
			const struct pattern_value *v = find_word(values, piece + 1, word_size - 2);

			path = piece + word_size;
			if (!v)
				return -EINVAL;
			piece = v->value;
			size = v->size;
		}
		if (size >= out_size - used)
			return -ENAMETOOLONG;
		memcpy(out + used, piece, size);
		used += size;
	}
	if (out_size == 0)
		return -ENAMETOOLONG;
	out[used] = '\0';
	return 0;
}

int pattern_directory(const char *path, char *out, size_t out_size)
{
	size_t size = strcspn(path, "{");

	while (size > 0 && path[size - 1] != '/')
		size--;
	while (size > 1 && path[size - 1] == '/')
		size--;
	if (size == 0) {
		path = ".";
		size = 1;
	}
	if (size >= out_size)
		return -ENAMETOOLONG;
	memcpy(out, path, size);
	out[size] = '\0';
	return 0;
}
