/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See lease.h. */
#include "lease.h"

#include "base/fd.h"

#include <stdio.h>
#include <string.h>

static void file_of(const char *folder, const char *interface, char out[static 96])
{
	snprintf(out, 96, "%s/lease.%s", folder, interface);
}

int lease_read(const char *folder, const char *interface, struct lease *out)
{
	char path[96], text[2048], prefix[8] = "";
	const struct {
		const char *key;
		char *out;
		size_t size;
	} wanted[] = {
		{ "address=", out->address, sizeof(out->address) },
		{ "prefix=", prefix, sizeof(prefix) },
		{ "routes=", out->routes, sizeof(out->routes) },
		{ "dns=", out->dns, sizeof(out->dns) },
		{ "search=", out->search, sizeof(out->search) },
		{ "hostname=", out->hostname, sizeof(out->hostname) },
	};
	int r;

	*out = (struct lease){ 0 };
	file_of(folder, interface, path);
	r = fd_read_file(path, text, sizeof(text));
	if (r < 0)
		return r;
	for (const char *line = text; *line != '\0';) {
		size_t size = strcspn(line, "\n");

		for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
			size_t key = strlen(wanted[i].key);

			if (size > key && strncmp(line, wanted[i].key, key) == 0)
				snprintf(wanted[i].out, wanted[i].size, "%.*s", (int)(size - key),
					 line + key);
		}
		line += size;
		line += *line == '\n';
	}
	out->prefix = (unsigned int)strtoul(prefix, NULL, 10);
	return out->address[0] != '\0' && out->prefix <= 32 ? 0 : -ENODATA;
}

int lease_write(const char *folder, const char *interface, const struct lease *lease)
{
	char path[96], text[2048];
	int size;

	file_of(folder, interface, path);
	size = snprintf(text, sizeof(text),
			"address=%s\nprefix=%u\nroutes=%s\ndns=%s\nsearch=%s\nhostname=%s\n",
			lease->address, lease->prefix, lease->routes, lease->dns, lease->search,
			lease->hostname);
	if (size < 0 || (size_t)size >= sizeof(text))
		return -EFBIG;
	return fd_create_file(path, text);
}
