/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See json.h. */
#include "json.h"

#include "parse.h"

#include <stdbool.h>
#include <string.h>

/* RFC 3629, section 4. */
size_t json_utf8_length(const char *text)
{
	const unsigned char *p = (const unsigned char *)text;
	size_t n;

	if (p[0] < 0x80)
		return 1;
	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		n = 2;
	else if (p[0] >= 0xe0 && p[0] <= 0xef)
		n = 3;
	else if (p[0] >= 0xf0 && p[0] <= 0xf4)
		n = 4;
	else
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80) /* the final NUL stops here too */
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
	    (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return n;
}

/* ---- writing ------------------------------------------------------------------------------ */

void json_put_string(FILE *out, const char *text)
{
	const char *p = text, *plain = text; /* what is written as it is goes in one piece */

	fputc('"', out);
	while (*p) {
		size_t n = json_utf8_length(p);

		if (n > 0 && *p != '"' && *p != '\\' && (unsigned char)*p >= 0x20) {
			p += n;
			continue;
		}
		fwrite(plain, 1, (size_t)(p - plain), out);
		if (n == 0)
			fputs("\\ufffd", out);
		else if ((unsigned char)*p < 0x20)
			fprintf(out, "\\u%04x", (unsigned char)*p);
		else
			fprintf(out, "\\%c", *p);
		plain = ++p;
	}
	fwrite(plain, 1, (size_t)(p - plain), out);
	fputc('"', out);
}

/* ---- reading ------------------------------------------------------------------------------ */

struct parser {
	const char *text;
	size_t size, at;
	struct json_token *tokens;
	size_t max, count;
};

static int peek(const struct parser *p)
{
	return p->at < p->size ? (unsigned char)p->text[p->at] : -1;
}

static bool take(struct parser *p, char c)
{
	if (peek(p) != c)
		return false;
	p->at++;
	return true;
}

static void skip_space(struct parser *p)
{
	int c;

	while ((c = peek(p)) == ' ' || c == '\t' || c == '\n' || c == '\r')
		p->at++;
}

/* Returns the token's index for end_token(). */
static size_t begin_token(struct parser *p, enum json_type type)
{
	if (p->count < p->max)
		p->tokens[p->count] = (struct json_token){ .type = type, .start = p->at };
	return p->count++;
}

static void end_token(struct parser *p, size_t index)
{
	if (index < p->max) {
		p->tokens[index].span = (uint32_t)(p->count - index);
		p->tokens[index].size = p->at - p->tokens[index].start;
	}
}

static bool parse_word(struct parser *p, const char *word, enum json_type type)
{
	size_t size = strlen(word), index = begin_token(p, type);

	if (p->size - p->at < size || memcmp(p->text + p->at, word, size) != 0)
		return false;
	p->at += size;
	end_token(p, index);
	return true;
}

static bool parse_digits(struct parser *p)
{
	size_t before = p->at;

	while (peek(p) >= '0' && peek(p) <= '9')
		p->at++;
	return p->at > before;
}

static bool parse_number(struct parser *p)
{
	size_t index = begin_token(p, JSON_NUMBER);

	(void)take(p, '-');
	if (!take(p, '0') && !parse_digits(p))
		return false;
	if (take(p, '.') && !parse_digits(p))
		return false;
	if (take(p, 'e') || take(p, 'E')) {
		if (!take(p, '+'))
			(void)take(p, '-');
		if (!parse_digits(p))
			return false;
	}
	end_token(p, index);
	return true;
}

static bool parse_escape(struct parser *p)
{
	int c = peek(p);

	if (c < 0)
		return false;
	p->at++;
	if (c == 'u') {
		for (int i = 0; i < 4; i++, p->at++)
			if (peek(p) < 0 || parse_hex_digit((char)peek(p)) < 0)
				return false;
		return true;
	}
	return c != 0 && strchr("\"\\/bfnrt", c) != NULL;
}

/* One character that is not an escape: all of its bytes, or none of them is taken. */
static bool parse_character(struct parser *p)
{
	char bytes[4] = { 0 };
	size_t left = p->size - p->at, n;

	memcpy(bytes, p->text + p->at, left < sizeof(bytes) ? left : sizeof(bytes));
	n = json_utf8_length(bytes);
	if ((unsigned char)bytes[0] < 0x20 || n == 0)
		return false;
	p->at += n;
	return true;
}

static bool parse_string(struct parser *p)
{
	size_t index;

	if (!take(p, '"'))
		return false;
	index = begin_token(p, JSON_STRING);
	while (peek(p) != '"') {
		if (peek(p) < 0)
			return false;
		if (!(take(p, '\\') ? parse_escape(p) : parse_character(p)))
			return false;
	}
	end_token(p, index);
	p->at++;
	return true;
}

static bool parse_value(struct parser *p, int depth);

/* An array, or an object, whose elements have a key each. */
static bool parse_list(struct parser *p, enum json_type type, char end, int depth)
{
	size_t index = begin_token(p, type);

	p->at++;
	if (depth == 0)
		return false;
	skip_space(p);
	if (!take(p, end)) {
		do {
			skip_space(p);
			if (type == JSON_OBJECT) {
				if (!parse_string(p))
					return false;
				skip_space(p);
				if (!take(p, ':'))
					return false;
			}
			if (!parse_value(p, depth - 1))
				return false;
		} while (take(p, ','));
		if (!take(p, end))
			return false;
	}
	end_token(p, index);
	return true;
}

/* With the space around it. */
static bool parse_value(struct parser *p, int depth)
{
	bool is_good;

	skip_space(p);
	switch (peek(p)) {
	case '{': is_good = parse_list(p, JSON_OBJECT, '}', depth); break;
	case '[': is_good = parse_list(p, JSON_ARRAY, ']', depth); break;
	case '"': is_good = parse_string(p); break;
	case 't': is_good = parse_word(p, "true", JSON_TRUE); break;
	case 'f': is_good = parse_word(p, "false", JSON_FALSE); break;
	case 'n': is_good = parse_word(p, "null", JSON_NULL); break;
	default: is_good = parse_number(p); break;
	}
	skip_space(p);
	return is_good;
}

ssize_t json_parse(const char *text, size_t size, struct json_token *tokens, size_t max)
{
	struct parser p = { .text = text, .size = size, .tokens = tokens, .max = max };

	if (size > UINT32_MAX || !parse_value(&p, JSON_DEPTH_MAX) || p.at != size)
		return -EINVAL;
	return (ssize_t)p.count;
}

/* The four digits of a \u escape. */
static unsigned hex4(const char *digits)
{
	unsigned n = 0;

	for (int i = 0; i < 4; i++)
		n = n << 4 | (unsigned)parse_hex_digit(digits[i]);
	return n;
}

static size_t utf8_encode(unsigned c, char out[static 4])
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 0x3f));
		out[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | c >> 18);
	out[1] = (char)(0x80 | (c >> 12 & 0x3f));
	out[2] = (char)(0x80 | (c >> 6 & 0x3f));
	out[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

/*
 * The character of an escape sequence whose backslash is at p, in UTF-8. Returns how many bytes
 * the sequence has, or 0 when it stands for no character of a C string.
 */
static size_t unescape(const char *p, const char *end, char out[static 4], size_t *out_size)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	unsigned c, low;

	if (p[1] != 'u') {
		out[0] = to[strchr(from, p[1]) - from];
		*out_size = 1;
		return 2;
	}
	c = hex4(p + 2);
	if (c == 0 || (c >= 0xdc00 && c <= 0xdfff))
		return 0;
	if (c < 0xd800 || c > 0xdbff) {
		*out_size = utf8_encode(c, out);
		return 6;
	}
	if (end - p < 12 || p[6] != '\\' || p[7] != 'u')
		return 0;
	low = hex4(p + 8);
	if (low < 0xdc00 || low > 0xdfff)
		return 0;
	*out_size = utf8_encode(0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00), out);
	return 12;
}

ssize_t json_string(const char *text, const struct json_token *t, char *out, size_t out_size)
{
	const char *p, *end;
	size_t used = 0;

	if (!t || t->type != JSON_STRING)
		return -EINVAL;
	for (p = text + t->start, end = p + t->size; p < end;) {
		char bytes[4] = { *p };
		size_t n = 1, taken = 1;

		if (*p == '\\')
			taken = unescape(p, end, bytes, &n);
		if (taken == 0)
			return -EINVAL;
		if (n >= out_size - used) /* one byte stays for the final NUL */
			return -ENAMETOOLONG;
		memcpy(out + used, bytes, n);
		used += n;
		p += taken;
	}
	if (out_size == 0)
		return -ENAMETOOLONG;
	out[used] = '\0';
	return (ssize_t)used;
}

int json_is(const char *text, const struct json_token *t, const char *content)
{
	char got[128];

	return json_string(text, t, got, sizeof(got)) >= 0 && strcmp(got, content) == 0;
}

const struct json_token *json_get(const char *text, const struct json_token *object,
				  const char *name)
{
	const struct json_token *t, *end;

	if (!object || object->type != JSON_OBJECT)
		return NULL;
	for (t = object + 1, end = object + object->span; t < end; t += 1 + t[1].span)
		if (json_is(text, t, name))
			return t + 1;
	return NULL;
}

int json_u64(const char *text, const struct json_token *t, uint64_t max, uint64_t *out)
{
	char digits[32];

	if (!t || t->type != JSON_NUMBER || t->size >= sizeof(digits))
		return -EINVAL;
	memcpy(digits, text + t->start, t->size);
	digits[t->size] = '\0';
	return parse_u64(digits, max, out);
}
