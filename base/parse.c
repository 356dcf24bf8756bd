/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See parse.h. */
#include "parse.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>

/* Reads digits from *p on and moves it past them. */
static int parse_digits(const char **p, uint64_t max, uint64_t *out)
{
	uint64_t value = 0;

	if (**p < '0' || **p > '9')
		return -EINVAL;
	for (; **p >= '0' && **p <= '9'; (*p)++) {
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(**p - '0'), &value) || value > max)
			return -ERANGE;
	}
	*out = value;
	return 0;
}

int parse_u64(const char *text, uint64_t max, uint64_t *out)
{
	uint64_t value;
	int r = parse_digits(&text, max, &value);

	if (r < 0)
		return r;
	if (*text != '\0')
		return -EINVAL;
	*out = value;
	return 0;
}

int parse_size(const char *text, uint64_t *out)
{
	static const char suffixes[] = "KMGT";
	const char *suffix;
	uint64_t value;
	int r = parse_digits(&text, INT64_MAX, &value);

	if (r < 0)
		return r;
	if (*text != '\0') {
		suffix = strchr(suffixes, *text >= 'a' && *text <= 'z' ? *text - 'a' + 'A' : *text);
		if (!suffix || text[1] != '\0')
			return -EINVAL;
		for (long i = 0; i <= suffix - suffixes; i++)
			if (__builtin_mul_overflow(value, 1024, &value))
				return -ERANGE;
		if (value > INT64_MAX)
			return -ERANGE;
	}
	*out = value;
	return 0;
}

int parse_hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int parse_mac(const char *text, uint8_t out[static 6])
{
	uint8_t mac[6];

	if (strlen(text) != 17)
		return -EINVAL;
	for (size_t i = 0; i < 6; i++) {
		int high = parse_hex_digit(text[3 * i]), low = parse_hex_digit(text[3 * i + 1]);
		char mark = text[3 * i + 2];

		if (high < 0 || low < 0 || (i < 5 && mark != '-' && mark != ':'))
			return -EINVAL;
		mac[i] = (uint8_t)(high << 4 | low);
	}
	memcpy(out, mac, 6);
	return 0;
}

char *parse_trim(char *text)
{
	char *end = text + strlen(text);

	while (end > text && isspace((unsigned char)end[-1]))
		end--;
	*end = '\0';
	while (isspace((unsigned char)*text))
		text++;
	return text;
}

/* A dash stands before these bytes of a UUID's text. */
static int uuid_dash_before(int byte)
{
	return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

int parse_uuid(const char *text, uint8_t out[static 16])
{
	uint8_t uuid[16];

	for (int i = 0; i < 16; i++) {
		int high, low;

		if (uuid_dash_before(i) && *text++ != '-')
			return -EINVAL;
		high = parse_hex_digit(text[0]);
		if (high < 0)
			return -EINVAL;
		low = parse_hex_digit(text[1]);
		if (low < 0)
			return -EINVAL;
		uuid[i] = (uint8_t)(high << 4 | low);
		text += 2;
	}
	if (*text != '\0')
		return -EINVAL;
	memcpy(out, uuid, sizeof(uuid));
	return 0;
}

int parse_ipv4(const char *text, uint32_t *out)
{
	struct in_addr a;

	if (inet_pton(AF_INET, text, &a) != 1)
		return -EINVAL;
	*out = ntohl(a.s_addr);
	return 0;
}

void parse_format_uuid(const uint8_t uuid[static 16], char out[static PARSE_UUID_TEXT])
{
	static const char digits[] = "0123456789abcdef";

	for (int i = 0; i < 16; i++) {
		if (uuid_dash_before(i))
			*out++ = '-';
		*out++ = digits[uuid[i] >> 4];
		*out++ = digits[uuid[i] & 15];
	}
	*out = '\0';
}
