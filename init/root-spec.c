/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See root-spec.h. */
#include "root-spec.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define NFS_WANTED "wanted nfs:[<server>:]<path>[:<options>], the path beginning with '/'"

static int bad(char problem[static ROOT_SPEC_PROBLEM_MAX], const char *fmt, ...) _printf_(2, 3);
static int bad(char problem[static ROOT_SPEC_PROBLEM_MAX], const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(problem, ROOT_SPEC_PROBLEM_MAX, fmt, ap);
	va_end(ap);
	return ROOT_SPEC_E_BAD;
}

bool root_spec_is_nbd_uri(const char *text)
{
	static const char *const schemes[] = { "nbd://", "nbds://", "nbd+unix://", "nbds+unix://" };

	for (size_t i = 0; i < ARRAY_SIZE(schemes); i++)
		if (strncmp(text, schemes[i], strlen(schemes[i])) == 0)
			return true;
	return false;
}

/* size bytes of text into a field of the result. */
static int take(const char *what, const char *text, size_t size, char *out, size_t out_size,
		char problem[static ROOT_SPEC_PROBLEM_MAX])
{
	if (size >= out_size)
		return bad(problem, "the %s is longer than %zu bytes", what, out_size - 1);
	memcpy(out, text, size);
	out[size] = '\0';
	return 0;
}

/* The length of the server at text, brackets included; 0: none that ends. */
static size_t server_size(const char *text)
{
	const char *end;

	if (*text != '[')
		return strcspn(text, ":");
	end = strchr(text, ']');
	return end != NULL ? (size_t)(end + 1 - text) : 0;
}

/* ---- network block devices ------------------------------------------------------------------ */

/* An export name as the path of a URI. Braces stay: they are placeholders. */
static int add_encoded(struct root_spec *s, const char *text, size_t size,
		       char problem[static ROOT_SPEC_PROBLEM_MAX])
{
	size_t used = strlen(s->uri);

	for (size_t i = 0; i < size; i++) {
		unsigned char byte = (unsigned char)text[i];

		if (sizeof(s->uri) - used < sizeof("%00"))
			return bad(problem, "too long");
		if (isalnum(byte) || strchr("-._~/{}", byte) != NULL)
			s->uri[used++] = (char)byte;
		else
			used += (size_t)sprintf(s->uri + used, "%%%02X", (unsigned int)byte);
	}
	s->uri[used] = '\0';
	return 0;
}

static int set_uri(struct root_spec *s, const char *server, size_t server_length, const char *port,
		   size_t port_length, const char *name, size_t name_length,
		   char problem[static ROOT_SPEC_PROBLEM_MAX])
{
	int n = snprintf(s->uri, sizeof(s->uri), "nbd://%.*s%s%.*s/", (int)server_length, server,
			 port_length > 0 ? ":" : "", (int)port_length, port);

	if (server_length >= ROOT_SPEC_SERVER_MAX || n < 0 || (size_t)n >= sizeof(s->uri))
		return bad(problem, "too long");
	s->kind = ROOT_NBD;
	return add_encoded(s, name, name_length, problem);
}

/* dracut's form: nbd:<server>:<port or export>[:<fstype>[:<mount options>]] */
static int parse_nbd(const char *text, struct root_spec *out,
		     char problem[static ROOT_SPEC_PROBLEM_MAX])
{
	size_t server = server_size(text), size;
	const char *where, *p;
	int r;

	if (*text == '[' && server == 0)
		return bad(problem, "the '[' of the server has no ']'");
	where = text + server;
	size = *where == ':' ? strcspn(where + 1, ":") : 0;
	if (server == 0 || size == 0)
		return bad(problem, "wanted nbd:<server>:<port or export>[:<file system>[:<mount "
				    "options>]]");
	where++;
	if (strspn(where, "0123456789") == size)
		r = set_uri(out, text, server, where, size, "", 0, problem);
	else
		r = set_uri(out, text, server, "", 0, where, size, problem);

	p = where + size;
	if (r == 0 && *p == ':') {
		p++;
		size = strcspn(p, ":");
		r = take("file system", p, size, out->fstype, sizeof(out->fstype), problem);
		p += size;
	}
	if (r == 0 && *p == ':') {
		p++;
		size = strcspn(p, ":");
		r = take("text of the mount options", p, size, out->options, sizeof(out->options),
			 problem);
		p += size;
	}
	if (r == 0 && *p == ':')
		r = bad(problem, "options of another NBD client (\"%.64s\") are not supported",
			p + 1);
	return r;
}

/* ---- NFS ------------------------------------------------------------------------------------ */

/*
 * [<server>:]<path>[:<options>], or with the kernel's comma before the options. The path may be
 * empty when can_be_empty.
 */
static int parse_nfs(const char *text, bool can_be_empty, struct root_spec *out,
		     char problem[static ROOT_SPEC_PROBLEM_MAX])
{
	const char *path = text;
	size_t size;
	int r = 0;

	out->kind = ROOT_NFS;
	if (*text != '/' && !(can_be_empty && (*text == ',' || *text == '\0'))) {
		size = server_size(text);
		if (*text == '[' && size == 0)
			return bad(problem, "the '[' of the server has no ']'");
		if (size == 0 || text[size] != ':')
			return bad(problem, NFS_WANTED);
		for (size_t i = 0; i < size; i++)
			if (!isalnum((unsigned char)text[i]) &&
			    strchr(*text == '[' ? "[]:." : "-._{}", text[i]) == NULL)
				return bad(problem,
					   "\"%.*s\" is not the name or address of a server",
					   (int)(size > 64 ? 64 : size), text);
		r = take("name of the server", text, size, out->server, sizeof(out->server),
			 problem);
		path = text + size + 1;
	}
	size = strcspn(path, ":,");
	if (r == 0 && *path != '/' && (size > 0 || !can_be_empty))
		r = bad(problem, NFS_WANTED);
	if (r == 0)
		r = take("path", path, size, out->path, sizeof(out->path), problem);
	path += size;
	if (r == 0 && *path != '\0')
		r = take("text of the mount options", path + 1, strlen(path + 1), out->options,
			 sizeof(out->options), problem);
	return r;
}

/* ---- the three places ----------------------------------------------------------------------- */

/* Forms that mean the same everywhere. ROOT_NONE in out: none of them. */
static int parse_common(const char *text, struct root_spec *out,
			char problem[static ROOT_SPEC_PROBLEM_MAX])
{
	*out = (struct root_spec){ .kind = ROOT_NONE };
	for (const char *p = text; *p != '\0'; p++)
		if (iscntrl((unsigned char)*p))
			return bad(problem, "has control characters in it");
	if (root_spec_is_nbd_uri(text)) {
		out->kind = ROOT_NBD;
		return take("URI", text, strlen(text), out->uri, sizeof(out->uri), problem);
	}
	if (strncmp(text, "nbd:", 4) == 0)
		return parse_nbd(text + 4, out, problem);
	if (strncmp(text, "nfs:", 4) == 0)
		return parse_nfs(text + 4, true, out, problem);
	if (strncmp(text, "nfs4:", 5) == 0) {
		out->is_nfs4 = true;
		return parse_nfs(text + 5, true, out, problem);
	}
	return 0;
}

static int done(int r, struct root_spec *out)
{
	if (r != 0)
		*out = (struct root_spec){ .kind = ROOT_NONE };
	return r;
}

int root_spec_parse(const char *text, struct root_spec *out,
		    char problem[static ROOT_SPEC_PROBLEM_MAX])
{
	int r = parse_common(text, out, problem);

	if (r != 0 || out->kind != ROOT_NONE)
		return done(r, out);
	if (strcmp(text, "/dev/nfs") == 0 || strcmp(text, "nfs") == 0 ||
	    strcmp(text, "nfs4") == 0) {
		out->kind = ROOT_NFS;
		out->is_nfs4 = strcmp(text, "nfs4") == 0;
		return 0;
	}
	if (strcmp(text, "dhcp") == 0) {
		out->kind = ROOT_DHCP;
		return 0;
	}
	return bad(problem, "not a root on the network; wanted nbd://server[:port]/export, "
			    "nfs:server:/path, or dhcp");
}

int root_spec_parse_nfsroot(const char *text, struct root_spec *out,
			    char problem[static ROOT_SPEC_PROBLEM_MAX])
{
	struct root_spec s = { .is_nfs4 = out->is_nfs4 };

	for (const char *p = text; *p != '\0'; p++)
		if (iscntrl((unsigned char)*p))
			return bad(problem, "has control characters in it");
	if (parse_nfs(text, true, &s, problem) != 0)
		return ROOT_SPEC_E_BAD;
	*out = s;
	return 0;
}

/* Debian's form: <server>:<port>/<export> */
static bool is_debian_nbd(const char *text, size_t *server, size_t *port)
{
	*server = server_size(text);
	if (*server == 0 || text[*server] != ':')
		return false;
	*port = strspn(text + *server + 1, "0123456789");
	return *port > 0 && text[*server + 1 + *port] == '/';
}

int root_spec_parse_option17(const char *text, struct root_spec *out,
			     char problem[static ROOT_SPEC_PROBLEM_MAX])
{
	size_t server, port;
	int r = parse_common(text, out, problem);

	if (r == 0 && out->kind == ROOT_NFS && out->path[0] == '\0')
		r = bad(problem, NFS_WANTED);
	if (r != 0 || out->kind != ROOT_NONE)
		return done(r, out);
	if (is_debian_nbd(text, &server, &port)) {
		const char *name = text + server + 1 + port + 1;

		return done(set_uri(out, text, server, text + server + 1, port, name, strlen(name),
				    problem),
			    out);
	}
	size_t plain = server_size(text);

	if (*text == '/' || (plain > 0 && text[plain] == ':' && text[plain + 1] == '/'))
		return done(parse_nfs(text, false, out, problem), out);
	return bad(problem,
		   "not a root that this initramfs knows; wanted [server:]/path for NFS, or "
		   "nbd://server[:port]/export");
}

int root_spec_add_options(struct root_spec *s, const char *options)
{
	size_t used = strlen(s->options);
	int n = snprintf(s->options + used, sizeof(s->options) - used, "%s%s",
			 used > 0 && *options != '\0' ? "," : "", options);

	if (n >= 0 && (size_t)n < sizeof(s->options) - used)
		return 0;
	s->options[used] = '\0';
	return ROOT_SPEC_E_BAD;
}
