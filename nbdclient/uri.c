/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See uri.h. */
#include "uri.h"

#include "base/parse.h"

#include <stdio.h>
#include <string.h>

/* Percent-decodes from..end into out (a string). False: a bad escape, a NUL, or too long. */
static bool decode(const char *from, const char *end, char *out, size_t out_size)
{
	size_t used = 0;

	while (from < end) {
		int c = (unsigned char)*from++;

		if (c == '%') {
			int high, low;

			if (end - from < 2)
				return false;
			high = parse_hex_digit(from[0]);
			low = parse_hex_digit(from[1]);
			if (high < 0 || low < 0)
				return false;
			c = high << 4 | low;
			from += 2;
		}
		if (c == '\0' || used + 1 >= out_size)
			return false;
		out[used++] = (char)c;
	}
	out[used] = '\0';
	return true;
}

static bool has_prefix(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

static int parse_authority(struct uri *u, const char *p, const char *end, const char **why)
{
	const char *host_end, *port = NULL;
	uint64_t number;

	*why = "the host name is missing or malformed (nbd://host[:port]/export)";
	if (p < end && *p == '[') {
		host_end = memchr(p, ']', (size_t)(end - p));
		if (!host_end)
			return -EINVAL;
		p++;
		if (host_end + 1 < end) {
			if (host_end[1] != ':')
				return -EINVAL;
			port = host_end + 2;
		}
	} else {
		host_end = memchr(p, ':', (size_t)(end - p));
		if (host_end)
			port = host_end + 1;
		else
			host_end = end;
	}
	if (memchr(p, '@', (size_t)(host_end - p))) {
		*why = "a user name has no meaning without TLS";
		return -EINVAL;
	}
	if (p == host_end || !decode(p, host_end, u->host, sizeof(u->host)))
		return -EINVAL;

	*why = "the port is not a number from 1 to 65535";
	if (!port) {
		memcpy(u->port, NBD_DEFAULT_PORT, sizeof(NBD_DEFAULT_PORT));
		return 0;
	}
	if ((size_t)(end - port) >= sizeof(u->port) || !decode(port, end, u->port, sizeof(u->port)))
		return -EINVAL;
	if (parse_u64(u->port, 65535, &number) < 0 || number == 0)
		return -EINVAL;
	return 0;
}

static int parse_query(struct uri *u, const char *p, const char **why)
{
	while (*p) {
		const char *end = p + strcspn(p, "&;");

		if (!has_prefix(p, "socket=") || !u->is_unix) {
			*why = u->is_unix ? "the only parameter with a meaning is socket=PATH"
					  : "parameters after '?' have no meaning with nbd://";
			return -EINVAL;
		}
		if (!decode(p + strlen("socket="), end, u->socket, sizeof(u->socket))) {
			*why = "the socket's path is malformed or longer than 107 bytes";
			return -EINVAL;
		}
		p = *end ? end + 1 : end;
	}
	return 0;
}

int uri_parse(struct uri *out, const char *text, const char **why)
{
	struct uri u = { 0 };
	const char *p, *path, *query;
	int r;

	if (strlen(text) > URI_TEXT_MAX) {
		*why = "longer than 1024 bytes";
		return -EINVAL;
	}
	memcpy(u.text, text, strlen(text) + 1);
	for (p = text; *p; p++) {
		if ((unsigned char)*p <= ' ' || *p == 0x7f) {
			*why = "spaces and control characters must be written as %20 and the like";
			return -EINVAL;
		}
	}

	if (has_prefix(text, "nbd://")) {
		p = text + strlen("nbd://");
	} else if (has_prefix(text, "nbd+unix://")) {
		p = text + strlen("nbd+unix://");
		u.is_unix = true;
	} else if (has_prefix(text, "nbds://") || has_prefix(text, "nbds+unix://")) {
		*why = "TLS (nbds) is not supported by this version; use nbd:// on a trusted "
		       "network";
		return -EINVAL;
	} else {
		*why = "it does not begin with nbd:// or nbd+unix://";
		return -EINVAL;
	}

	query = p + strcspn(p, "?#");
	if (*query == '#') {
		*why = "a fragment ('#') has no meaning here; write %23";
		return -EINVAL;
	}
	path = memchr(p, '/', (size_t)(query - p));
	if (!path)
		path = query;
	if (u.is_unix && path != p) {
		*why = "a unix socket has no host name: nbd+unix:///export?socket=PATH";
		return -EINVAL;
	}
	if (!u.is_unix) {
		r = parse_authority(&u, p, path, why);
		if (r < 0)
			return r;
	}
	if (path < query && !decode(path + 1, query, u.export_name, sizeof(u.export_name))) {
		*why = "the export's name is malformed";
		return -EINVAL;
	}
	r = parse_query(&u, *query ? query + 1 : query, why);
	if (r < 0)
		return r;
	if (u.is_unix && u.socket[0] == '\0') {
		*why = "the socket is missing: nbd+unix:///export?socket=PATH";
		return -EINVAL;
	}
	*out = u;
	return 0;
}

const char *uri_server(const struct uri *u, char *out, size_t size)
{
	if (u->is_unix)
		snprintf(out, size, "%s", u->socket);
	else
		snprintf(out, size, strchr(u->host, ':') ? "[%s]:%s" : "%s:%s", u->host, u->port);
	return out;
}
