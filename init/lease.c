/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See lease.h. */
#include "lease.h"

#include "base/fd.h"
#include "base/parse.h"

#include <stdio.h>
#include <string.h>

static void file_of(const char *folder, const char *interface, char out[static 96])
{
	snprintf(out, 96, "%s/lease.%s", folder, interface);
}

enum kind {
	LEASE_ADDRESS,
	LEASE_LIST, /* is cut when it is too long; what else is too long is left out */
	LEASE_PAIRS,
	LEASE_TEXT,
};

/* Cuts a list that was too long at the last whole word, or pair of words. */
static void cut_list(char *list, bool is_pairs)
{
	size_t blanks = 0, end = 0;

	for (size_t i = 0; list[i] != '\0'; i++) {
		if (list[i] != ' ')
			continue;
		if (!is_pairs || blanks % 2 == 1)
			end = i;
		blanks++;
	}
	list[end] = '\0';
}

static void take(enum kind kind, const char *value, size_t size, char *out, size_t out_size)
{
	uint32_t address;

	*out = '\0';
	for (size_t i = 0; i < size; i++)
		if ((unsigned char)value[i] < 0x20 || (unsigned char)value[i] > 0x7e)
			return;
	if (size >= out_size && (kind == LEASE_TEXT || kind == LEASE_ADDRESS))
		return;
	snprintf(out, out_size, "%.*s", (int)size, value);
	if (size >= out_size)
		cut_list(out, kind == LEASE_PAIRS);
	if (kind == LEASE_ADDRESS && (parse_ipv4(out, &address) != 0 || address == 0))
		*out = '\0';
}

int lease_parse(const char *text, struct lease *out)
{
	char prefix[4] = "";
	uint64_t number;
	const struct {
		const char *key;
		enum kind kind;
		char *out;
		size_t size;
	} wanted[] = {
		{ "address=", LEASE_ADDRESS, out->address, sizeof(out->address) },
		{ "prefix=", LEASE_TEXT, prefix, sizeof(prefix) },
		{ "routes=", LEASE_PAIRS, out->routes, sizeof(out->routes) },
		{ "dns=", LEASE_LIST, out->dns, sizeof(out->dns) },
		{ "search=", LEASE_LIST, out->search, sizeof(out->search) },
		{ "domain=", LEASE_TEXT, out->domain, sizeof(out->domain) },
		{ "hostname=", LEASE_TEXT, out->hostname, sizeof(out->hostname) },
		{ "ntp=", LEASE_LIST, out->ntp, sizeof(out->ntp) },
		{ "root_path=", LEASE_TEXT, out->root_path, sizeof(out->root_path) },
		{ "next_server=", LEASE_ADDRESS, out->next_server, sizeof(out->next_server) },
		{ "server=", LEASE_ADDRESS, out->server, sizeof(out->server) },
	};

	*out = (struct lease){ 0 };
	for (const char *line = text; *line != '\0';) {
		size_t size = strcspn(line, "\n");

		for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
			size_t key = strlen(wanted[i].key);

			if (size >= key && strncmp(line, wanted[i].key, key) == 0)
				take(wanted[i].kind, line + key, size - key, wanted[i].out,
				     wanted[i].size);
		}
		line += size;
		line += *line == '\n';
	}
	if (out->address[0] == '\0' || parse_u64(prefix, 32, &number) != 0)
		return -ENODATA;
	out->prefix = (unsigned int)number;
	return 0;
}

/* The next word of the list; false: none, or one that is too long. */
static bool next_word(const char **rest, char *out, size_t out_size)
{
	const char *word = *rest + strspn(*rest, " ");
	size_t size = strcspn(word, " ");

	*rest = word + size;
	if (size == 0 || size >= out_size)
		return false;
	memcpy(out, word, size);
	out[size] = '\0';
	return true;
}

bool lease_next_route(const char **rest, struct lease_route *out)
{
	char to[32], *slash;

	if (!next_word(rest, to, sizeof(to)) ||
	    !next_word(rest, out->gateway, sizeof(out->gateway)))
		return false;
	slash = strchr(to, '/');
	out->prefix = slash != NULL ? (unsigned int)strtoul(slash + 1, NULL, 10) : 32;
	if (slash != NULL)
		*slash = '\0';
	snprintf(out->to, sizeof(out->to), "%.15s", to);
	return true;
}

int lease_read(const char *folder, const char *interface, struct lease *out)
{
	char path[96], text[LEASE_TEXT_MAX];
	int r;

	*out = (struct lease){ 0 };
	file_of(folder, interface, path);
	r = fd_read_file(path, text, sizeof(text));
	return r < 0 ? r : lease_parse(text, out);
}

static int lease_format(const struct lease *lease, char *out, size_t out_size)
{
	int size = snprintf(out, out_size,
			    "address=%s\nprefix=%u\nroutes=%s\ndns=%s\nsearch=%s\ndomain=%s\n"
			    "hostname=%s\nntp=%s\nroot_path=%s\nnext_server=%s\nserver=%s\n",
			    lease->address, lease->prefix, lease->routes, lease->dns, lease->search,
			    lease->domain, lease->hostname, lease->ntp, lease->root_path,
			    lease->next_server, lease->server);

	return size < 0 || (size_t)size >= out_size ? -EFBIG : 0;
}

int lease_write(const char *folder, const char *interface, const struct lease *lease)
{
	char path[96], fresh[96 + 5], text[LEASE_TEXT_MAX];
	int r = lease_format(lease, text, sizeof(text));

	file_of(folder, interface, path);
	snprintf(fresh, sizeof(fresh), "%s.init", path);
	if (r == 0)
		r = fd_create_file(fresh, text);
	if (r == 0 && rename(fresh, path) != 0)
		r = -errno;
	return r;
}
