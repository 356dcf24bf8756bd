/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NBD URIs (doc/uri.md of the NetworkBlockDevice project):
 *
 *	nbd://host[:port]/export		nbd+unix:///export?socket=PATH
 *
 * Pure. nbds:// (TLS) is recognised and refused in words.
 */
#ifndef NBDCLIENT_URI_H
#define NBDCLIENT_URI_H

#include "base/cleanup.h"
#include "proto/nbd.h"

#include <stdbool.h>

enum {
	URI_HOST_MAX = 255,   /* a DNS name */
	URI_SOCKET_MAX = 107, /* sun_path less its NUL, unix(7) */
	URI_TEXT_MAX = 1024,  /* as long a URI as we take, for it is also the kernel's label */
};

struct uri {
	bool is_unix;
	char host[URI_HOST_MAX + 1]; /* without brackets */
	char port[6];
	char socket[URI_SOCKET_MAX + 1];
	char export_name[URI_TEXT_MAX + 1]; /* decoded */
	char text[URI_TEXT_MAX + 1];        /* as it was given */
};

/* 0, or -EINVAL with *why saying what is wrong, for a person. */
int uri_parse(struct uri *out, const char *text, const char **why) _must_check_;

/* "host port 10809" or the socket's path, for log lines; out is cut at size. Returns out. */
const char *uri_server(const struct uri *u, char *out, size_t size);

#endif
