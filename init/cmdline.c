/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See cmdline.h. The network part (ip=, BOOTIF=) is in cmdline-net.c. */
#include "cmdline.h"
#include "cmdline-internal.h"

#include "base/parse.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { VALUE_SHOWN = 100 }; /* of one that makes no sense, so that the reason is still read */

void cmdline_problem(struct cmdline *c, const char *fmt, ...)
{
	va_list ap;

	if (c->problem[0] != '\0')
		return;
	va_start(ap, fmt);
	vsnprintf(c->problem, sizeof(c->problem), fmt, ap);
	va_end(ap);
}

/* A word longer than the store is left out; the store is four times the longest command line. */
static char *store_printf(struct cmdline *c, const char *fmt, ...) _printf_(2, 3);
static char *store_printf(struct cmdline *c, const char *fmt, ...)
{
	char *at = c->store + c->store_used;
	size_t room = sizeof(c->store) - c->store_used;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(at, room, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= room) {
		cmdline_problem(c, "the command line is too long");
		at[0] = '\0';
		return at;
	}
	c->store_used += (size_t)n + 1;
	return at;
}

/* The kernel's next_arg() (lib/cmdline.c): quotes group, and are taken off at the ends. */
static char *next_word(char *text, char **name, char **value)
{
	bool is_in_quote = false, is_quoted = false;
	size_t equals = 0, i;

	if (*text == '"') {
		text++;
		is_in_quote = is_quoted = true;
	}
	for (i = 0; text[i] != '\0'; i++) {
		if (isspace((unsigned char)text[i]) && !is_in_quote)
			break;
		if (equals == 0 && text[i] == '=')
			equals = i;
		if (text[i] == '"')
			is_in_quote = !is_in_quote;
	}

	char *rest = text + i;

	if (*rest != '\0')
		*rest++ = '\0';
	if (i > 0 && text[i - 1] == '"' && (is_quoted || (equals > 0 && text[equals + 1] == '"')))
		text[i - 1] = '\0';
	*name = text;
	*value = NULL;
	if (equals > 0) {
		text[equals] = '\0';
		*value = text + equals + 1;
		if (**value == '"')
			(*value)++;
	}
	while (isspace((unsigned char)*rest))
		rest++;
	return rest;
}

/* "" and nothing are the same to most parameters. */
static const char *or_null(const char *text)
{
	return text != NULL && *text != '\0' ? text : NULL;
}

/* Cuts text at the first mark, and returns what stands behind it; NULL when there is none. */
static char *cut(char *text, char mark)
{
	char *at = text != NULL ? strchr(text, mark) : NULL;

	if (at == NULL)
		return NULL;
	*at = '\0';
	return at + 1;
}

static bool is_clean_path(const char *path)
{
	if (path[0] != '/' || path[1] == '\0')
		return false;
	for (const char *p = strstr(path, "/.."); p != NULL; p = strstr(p + 1, "/.."))
		if (p[3] == '\0' || p[3] == '/')
			return false;
	return true;
}

/* <uri>,<mount point>[,<fstype>[,<options>]]; options may hold commas of their own. */
static bool parse_mount(struct cmdline *c, const char *name, char *value, bool is_rpmdb,
			struct cmdline_mount *out)
{
	struct cmdline_mount m = { .uri = value };
	char *rest = cut(value, ',');

	m.mount_point = or_null(rest);
	rest = cut(rest, ',');
	m.fstype = or_null(rest);
	m.options = or_null(cut(rest, ','));

	if (value == NULL || !root_spec_is_nbd_uri(value)) {
		cmdline_problem(c, "%s=%s: wanted an nbd:// URI first", name, value ? value : "");
		return false;
	}
	if (m.mount_point == NULL && !is_rpmdb) {
		cmdline_problem(c,
				"%s=%s: no mount point; wanted %s=<uri>,<mount point>"
				"[,<file system>[,<options>]]",
				name, value, name);
		return false;
	}
	if (m.mount_point != NULL && !is_clean_path(m.mount_point)) {
		cmdline_problem(c,
				"%s=%s,%s: the mount point must be a path that starts with '/', "
				"without \"..\", and not the root itself",
				name, value, m.mount_point);
		return false;
	}
	*out = m;
	return true;
}

static void parse_extra_mount(struct cmdline *c, char *value)
{
	if (c->mounts_count == CMDLINE_MOUNTS_MAX)
		cmdline_problem(c, "nbdroot.mount=%s: more than %d of them", value ? value : "",
				CMDLINE_MOUNTS_MAX);
	else if (parse_mount(c, "nbdroot.mount", value, false, &c->mounts[c->mounts_count]))
		c->mounts_count++;
}

static void parse_fallbacks(struct cmdline *c, char *value)
{
	for (char *next; value != NULL; value = next) {
		next = cut(value, ',');
		if (*value == '\0')
			continue;
		if (c->fallbacks_count == CMDLINE_FALLBACKS_MAX) {
			cmdline_problem(c, "nbdroot.fallback=: more than %d servers",
					CMDLINE_FALLBACKS_MAX);
			return;
		}
		if (strchr(value, '/') != NULL) {
			cmdline_problem(c, "nbdroot.fallback=%s: wanted <host>[:<port>], not a URI",
					value);
			return;
		}
		c->fallbacks[c->fallbacks_count++] = value;
	}
}

/* Seconds as the kernel reads them; below 0 means at once. */
static void parse_panic(struct cmdline *c, const char *value)
{
	bool is_negative = value != NULL && value[0] == '-';
	uint64_t seconds;

	if (value == NULL || parse_u64(value + is_negative, INT32_MAX, &seconds) != 0) {
		cmdline_problem(c, "panic=%s: wanted a number of seconds", value ? value : "");
		return;
	}
	c->has_panic = true;
	c->panic_s = is_negative ? -(int)seconds : (int)seconds;
}

/* wait, or reboot:<seconds>: passed on to nbdclient as it is. */
static void parse_outage(struct cmdline *c, const char *value)
{
	uint64_t seconds;

	if (value != NULL && strcmp(value, "wait") == 0)
		c->outage = NULL;
	else if (value != NULL && strncmp(value, "reboot:", 7) == 0 &&
		 parse_u64(value + 7, INT32_MAX, &seconds) == 0 && seconds > 0)
		c->outage = value;
	else
		cmdline_problem(c, "nbdroot.outage=%s: wanted wait, or reboot:<seconds>",
				value ? value : "");
}

/* "512m", "50%": what tmpfs takes, see tmpfs(5). */
static bool is_tmpfs_size(const char *text)
{
	size_t digits = strspn(text, "0123456789");

	return digits > 0 && (text[digits] == '\0' || (strchr("kKmMgG%", text[digits]) != NULL &&
						       text[digits + 1] == '\0'));
}

/* tmpfs[,size=<size>], or <uri>[,<fstype>[,<options>]] */
static void parse_overlay(struct cmdline *c, char *value)
{
	char *rest = cut(value, ',');

	c->upper = (struct cmdline_mount){ 0 };
	c->overlay = CMDLINE_OVERLAY_NONE;
	if (value != NULL && strcmp(value, "tmpfs") == 0) {
		if (or_null(rest) != NULL &&
		    (strncmp(rest, "size=", 5) != 0 || !is_tmpfs_size(rest + 5))) {
			cmdline_problem(
				c,
				"nbdroot.overlay=tmpfs,%s: wanted size=<number>, with k, m, "
				"g or %% behind it",
				rest);
			return;
		}
		c->overlay = CMDLINE_OVERLAY_TMPFS;
		c->upper.options = or_null(rest);
	} else if (value != NULL && root_spec_is_nbd_uri(value)) {
		c->overlay = CMDLINE_OVERLAY_DEVICE;
		c->upper.uri = value;
		c->upper.options = or_null(cut(rest, ','));
		c->upper.fstype = or_null(rest);
	} else {
		cmdline_problem(c,
				"nbdroot.overlay=%s: wanted tmpfs[,size=<size>], or "
				"nbd://<server>/<export>[,<file system>[,<options>]]",
				value != NULL ? value : "");
	}
}

static void parse_fsck(struct cmdline *c, const char *value)
{
	static const char *const words[] = { [CMDLINE_FSCK_AUTO] = "auto",
					     [CMDLINE_FSCK_SKIP] = "skip",
					     [CMDLINE_FSCK_FORCE] = "force" };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (value != NULL && strcmp(value, words[i]) == 0) {
			c->fsck = (enum cmdline_fsck)i;
			return;
		}
	}
	cmdline_problem(c, "nbdroot.fsck=%s: wanted auto, skip or force", value ? value : "");
}

/* What has to wait for the rest of the line. */
struct late {
	const char *root, *nfsroot, *fstype, *flags;
};

static void parse_word(struct cmdline *c, const char *name, char *value, struct late *late)
{
	if (strcmp(name, "root") == 0)
		late->root = value != NULL ? value : "";
	else if (strcmp(name, "nfsroot") == 0)
		late->nfsroot = or_null(value);
	else if (strcmp(name, "rootfstype") == 0)
		late->fstype = or_null(value);
	else if (strcmp(name, "rootflags") == 0)
		late->flags = or_null(value);
	else if (strcmp(name, "nbdroot.mount") == 0)
		parse_extra_mount(c, value);
	else if (strcmp(name, "rpmdb") == 0)
		parse_mount(c, "rpmdb", value, true, &c->rpmdb);
	else if (strcmp(name, "nbdroot.fallback") == 0)
		parse_fallbacks(c, value);
	else if (strcmp(name, "ip") == 0)
		cmdline_parse_ip(c, value);
	else if (strcmp(name, "BOOTIF") == 0)
		cmdline_parse_bootif(c, value);
	else if (strcmp(name, "bootdev") == 0)
		c->bootdev = or_null(value);
	else if (strcmp(name, "vlan") == 0)
		cmdline_parse_vlan(c, value);
	else if (strcmp(name, "bond") == 0 || strcmp(name, "team") == 0 ||
		 strcmp(name, "bridge") == 0 || strcmp(name, "rd.route") == 0)
		cmdline_problem(c, "%s=%s: not supported by this version", name,
				value ? value : "");
	else if (strcmp(name, "nameserver") == 0)
		cmdline_parse_nameserver(c, value);
	else if (strcmp(name, "ro") == 0 && value == NULL)
		c->is_rw = false;
	else if (strcmp(name, "rw") == 0 && value == NULL)
		c->is_rw = true;
	else if (strcmp(name, "init") == 0)
		c->init = or_null(value);
	else if (strcmp(name, "panic") == 0)
		parse_panic(c, value);
	else if (strcmp(name, "rd.shell") == 0)
		c->wants_shell = value == NULL || strcmp(value, "0") != 0;
	else if (strcmp(name, "rd.break") == 0)
		c->break_step = value != NULL ? value : "";
	else if ((strcmp(name, "debug") == 0 && value == NULL) || strcmp(name, "rd.debug") == 0)
		c->is_debug = true;
	else if (strcmp(name, "nbdroot.outage") == 0)
		parse_outage(c, value);
	else if (strcmp(name, "nbdroot.overlay") == 0)
		parse_overlay(c, value);
	else if (strcmp(name, "nbdroot.fsck") == 0)
		parse_fsck(c, value);
	else if (strncmp(name, "nbdroot.", 8) == 0)
		cmdline_problem(c, "%s: there is no such parameter", name);
}

/* Who has no DHCP has to say all of it. */
static void check_without_dhcp(struct cmdline *c, const struct late *late)
{
	bool has_dhcp = c->nets_count == 0;

	for (size_t i = 0; i < c->nets_count; i++)
		has_dhcp |= c->nets[i].how == CMDLINE_IP_DHCP;
	if (has_dhcp)
		return;
	if (c->root.kind == ROOT_DHCP)
		cmdline_problem(c,
				"root=dhcp: with this ip= nobody asks by DHCP; leave ip= out, or "
				"name the root");
	else if (c->root.kind == ROOT_NFS && c->root.server[0] == '\0' &&
		 cmdline_ip_server(c) == NULL)
		cmdline_problem(c,
				"root=%s: no server is named, and with this ip= no DHCP server "
				"can name one; wanted root=nfs:<server>:<path>",
				late->root);
}

static void parse_root(struct cmdline *c, const struct late *late)
{
	char problem[ROOT_SPEC_PROBLEM_MAX];
	struct root_spec *s = &c->root;

	if (late->root == NULL)
		cmdline_problem(c, "no root=: wanted root=nbd://server[:port]/export, "
				   "root=nfs:server:/path, or root=dhcp");
	else if (late->root[0] == '\0')
		cmdline_problem(c, "root= is empty");
	else if (root_spec_parse(late->root, s, problem) != 0)
		cmdline_problem(c, "root=%.*s%s: %s", VALUE_SHOWN, late->root,
				strlen(late->root) > VALUE_SHOWN ? "..." : "", problem);
	if (s->kind == ROOT_NFS && s->path[0] == '\0' && late->nfsroot != NULL &&
	    root_spec_parse_nfsroot(late->nfsroot, s, problem) != 0)
		cmdline_problem(c, "nfsroot=%.*s%s: %s", VALUE_SHOWN, late->nfsroot,
				strlen(late->nfsroot) > VALUE_SHOWN ? "..." : "", problem);
	if (s->kind == ROOT_NONE)
		return;
	if (late->fstype != NULL && s->kind != ROOT_NFS && s->fstype[0] == '\0') {
		if (strlen(late->fstype) >= sizeof(s->fstype))
			cmdline_problem(c, "rootfstype=%s: too long", late->fstype);
		else
			snprintf(s->fstype, sizeof(s->fstype), "%s", late->fstype);
	}
	if (late->flags != NULL && root_spec_add_options(s, late->flags) != 0)
		cmdline_problem(c, "rootflags=: the mount options are too long");
	check_without_dhcp(c, late);
}

int cmdline_parse(struct cmdline *c, const char *text)
{
	struct late late = { NULL };
	char *rest;

	*c = (struct cmdline){ 0 };
	if (strlen(text) >= CMDLINE_TEXT_MAX) {
		cmdline_problem(c, "the command line is longer than %d bytes",
				CMDLINE_TEXT_MAX - 1);
		return CMDLINE_E_BAD;
	}
	rest = store_printf(c, "%s", text);
	while (isspace((unsigned char)*rest))
		rest++;
	while (*rest != '\0') {
		char *name, *value;

		rest = next_word(rest, &name, &value);
		if (strcmp(name, "--") == 0 && value == NULL)
			break; /* what follows is for the real init alone */
		parse_word(c, name, value, &late);
	}

	parse_root(c, &late);
	return c->problem[0] != '\0' ? CMDLINE_E_BAD : 0;
}

/* The length of the host at text: "host" or "[address]"; a port or path may follow. */
static size_t host_size(const char *text)
{
	const char *end = *text == '[' ? strchr(text, ']') : NULL;

	return end != NULL ? (size_t)(end + 1 - text) : strcspn(text, ":/?");
}

int cmdline_fallback_uri(const char *uri, const char *server, char *out, size_t out_size)
{
	const char *host = strstr(uri, "://"), *port, *path;
	int n;

	if (host == NULL || strncmp(uri, "nbd+unix:", 9) == 0 ||
	    strncmp(uri, "nbds+unix:", 10) == 0)
		return CMDLINE_E_BAD;
	host += 3;
	if (memchr(host, '@', strcspn(host, "/?")) != NULL)
		host = strchr(host, '@') + 1;
	port = host + host_size(host);
	path = port + strcspn(port, "/?");
	if (server[host_size(server)] == ':')
		port = path; /* the server brings its own */
	n = snprintf(out, out_size, "%.*s%s%s", (int)(host - uri), uri, server, port);
	return n < 0 || (size_t)n >= out_size ? -ENOSPC : 0;
}
