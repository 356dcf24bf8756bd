/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See config.h. */
#include "config.h"

#include "base/fd.h"
#include "base/parse.h"
#include "proto/nbd.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { CONFIG_FILE_MAX = 4 * 1024 * 1024 };

_printf_(2, 3) static int fail(char *err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err, CONFIG_ERROR_MAX, fmt, ap);
	va_end(ap);
	return -1;
}

static int out_of_memory(char *err)
{
	return fail(err, "out of memory");
}

/* Makes room for one more; *list and *n are of any type with elements of `size` bytes. */
static void *grow(void *list, size_t n, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(n + 1, size, &bytes))
		return NULL;
	return realloc(list, bytes);
}

static int add_string(char ***list, size_t *n, const char *text, char *err)
{
	char **bigger = grow(*list, *n, sizeof(**list));

	if (!bigger)
		return out_of_memory(err);
	*list = bigger;
	bigger[*n] = strdup(text);
	if (!bigger[*n])
		return out_of_memory(err);
	(*n)++;
	return 0;
}

/* ---- values ------------------------------------------------------------------------------- */

/* "Strings" of the protocol: UTF-8. Control characters are refused too: names go into logs. */
static bool name_is_valid(const char *name)
{
	const unsigned char *p = (const unsigned char *)name;

	while (*p) {
		int more = *p < 0x80             ? 0
			   : (*p & 0xe0) == 0xc0 ? 1
			   : (*p & 0xf0) == 0xe0 ? 2
			   : (*p & 0xf8) == 0xf0 ? 3
						 : -1;

		if (more < 0 || *p < 0x20 || *p == 0x7f)
			return false;
		for (p++; more > 0; more--, p++)
			if ((*p & 0xc0) != 0x80)
				return false;
	}
	return true;
}

static int new_export(struct config *c, const char *name, char *err)
{
	struct config_export *bigger;

	if (strlen(name) > NBD_STRING_MAX)
		return fail(err, "the export name \"%.32s...\" is longer than %d bytes", name,
			    NBD_STRING_MAX);
	if (!name_is_valid(name))
		return fail(err,
			    "the export name \"%.200s\" must be UTF-8 without control "
			    "characters",
			    name);
	bigger = grow(c->list, c->n_list, sizeof(*c->list));
	if (!bigger)
		return out_of_memory(err);
	c->list = bigger;
	bigger[c->n_list] = (struct config_export){ .name = strdup(name) };
	if (!bigger[c->n_list].name)
		return out_of_memory(err);
	c->n_list++;
	return 0;
}

static int set_path(struct config_export *e, const char *path, char *err)
{
	if (*path == '\0')
		return fail(err, "the path of the image is empty");
	free(e->path);
	e->path = strdup(path);
	return e->path ? 0 : out_of_memory(err);
}

static int set_durability(struct config_export *e, const char *value, char *err)
{
	if (strcmp(value, "write") == 0)
		e->durability = CONFIG_DURABILITY_WRITE;
	else if (strcmp(value, "flush") == 0)
		e->durability = CONFIG_DURABILITY_FLUSH;
	else
		return fail(err, "durability must be \"write\" or \"flush\", not \"%.100s\"",
			    value);
	return 0;
}

static int set_allow(struct config_export *e, const char *value, char *err)
{
	_cleanup_free_ char *copy = strdup(value);
	char *rest = copy, *rule;

	if (!copy)
		return out_of_memory(err);
	while ((rule = strsep(&rest, "+"))) {
		struct cidr *bigger = grow(e->allow, e->n_allow, sizeof(*e->allow));

		if (!bigger)
			return out_of_memory(err);
		e->allow = bigger;
		if (!cidr_parse(rule, &bigger[e->n_allow], err, CONFIG_ERROR_MAX))
			return -1;
		e->n_allow++;
	}
	return 0;
}

static int set_read_only(struct config_export *e, const char *value, char *err)
{
	if (strcmp(value, "yes") == 0 || strcmp(value, "true") == 0 || strcmp(value, "1") == 0)
		e->is_read_only = true;
	else if (strcmp(value, "no") == 0 || strcmp(value, "false") == 0 || strcmp(value, "0") == 0)
		e->is_read_only = false;
	else
		return fail(err, "ro must be \"yes\" or \"no\", not \"%.100s\"", value);
	return 0;
}

static int set_option(struct config_export *e, const char *key, const char *value, char *err)
{
	if (strcmp(key, "durability") == 0)
		return set_durability(e, value, err);
	if (strcmp(key, "allow") == 0)
		return set_allow(e, value, err);
	if (strcmp(key, "base") == 0)
		return fail(err, "base= (a writable layer over a shared image) is not part of this "
				 "version; give every client its own image");
	return fail(err,
		    "there is no export option \"%.100s\"; there are ro, durability=write, "
		    "durability=flush, allow=NETWORK[+NETWORK...]",
		    key);
}

/* ---- the command line --------------------------------------------------------------------- */

static int add_export_words(struct config_export *e, char *rest, char *err)
{
	char *word = strsep(&rest, ",");

	if (set_path(e, word, err) < 0)
		return -1;
	while ((word = strsep(&rest, ","))) {
		char *value = strchr(word, '=');

		if (strcmp(word, "ro") == 0) {
			e->is_read_only = true;
			continue;
		}
		if (value)
			*value++ = '\0';
		if (set_option(e, word, value ? value : "", err) < 0)
			return -1;
	}
	return 0;
}

int config_add_export(struct config *c, const char *text, char *err)
{
	_cleanup_free_ char *copy = strdup(text);
	char *path, why[CONFIG_ERROR_MAX];

	if (!copy)
		return out_of_memory(err);
	path = strchr(copy, '=');
	if (!path)
		return fail(err, "--export \"%.200s\" is not NAME=PATH[,opt]...", text);
	*path++ = '\0';
	if (new_export(c, copy, why) < 0 ||
	    add_export_words(&c->list[c->n_list - 1], path, why) < 0)
		return fail(err, "--export \"%.100s\": %.380s", text, why);
	return 0;
}

int config_split_listen(const char *text, char *host, size_t host_size, char *port,
			size_t port_size, char *err)
{
	const char *host_end, *port_start = NULL;
	uint64_t number;

	if (*text == '[') {
		text++;
		host_end = strchr(text, ']');
		if (!host_end || (host_end[1] != '\0' && host_end[1] != ':'))
			return fail(err, "\"[%.200s\" is not [ADDRESS]:PORT", text);
		if (host_end[1] == ':')
			port_start = host_end + 2;
	} else {
		host_end = strchr(text, ':');
		if (host_end && strchr(host_end + 1, ':'))
			host_end = NULL; /* two colons: a bare IPv6 address */
		if (host_end)
			port_start = host_end + 1;
		else
			host_end = text + strlen(text);
	}

	if ((size_t)(host_end - text) >= host_size)
		return fail(err, "the address \"%.100s...\" is too long", text);
	memcpy(host, text, (size_t)(host_end - text));
	host[host_end - text] = '\0';
	if (strcmp(host, "*") == 0)
		host[0] = '\0';

	if (!port_start)
		port_start = NBD_DEFAULT_PORT;
	if (parse_u64(port_start, 65535, &number) < 0)
		return fail(err, "\"%.100s\" is not a port: a number from 0 (any) to 65535",
			    port_start);
	snprintf(port, port_size, "%u", (unsigned)number);
	return 0;
}

int config_add_listen(struct config *c, const char *text, char *err)
{
	char host[256], port[8], why[CONFIG_ERROR_MAX];

	if (config_split_listen(text, host, sizeof(host), port, sizeof(port), why) < 0)
		return fail(err, "listen: %.400s", why);
	return add_string(&c->listens, &c->n_listens, text, err);
}

int config_add_unix(struct config *c, const char *text, char *err)
{
	if (*text == '\0' || strlen(text) > 107) /* sun_path of sockaddr_un, with its NUL */
		return fail(err, "unix: a socket's path has 1 to 107 bytes; \"%.200s\" has %zu",
			    text, strlen(text));
	return add_string(&c->unix_paths, &c->n_unix_paths, text, err);
}

/* ---- the INI file ------------------------------------------------------------------------- */

/* Without the white space on both sides; writes into the text. */
static char *trim(char *s)
{
	char *end = s + strlen(s);

	while (end > s && isspace((unsigned char)end[-1]))
		end--;
	*end = '\0';
	while (isspace((unsigned char)*s))
		s++;
	return s;
}

enum section { SECTION_NONE, SECTION_SERVER, SECTION_EXPORT };

static int parse_section(struct config *c, char *line, enum section *section, char *err)
{
	size_t length = strlen(line);
	char *name;

	if (line[length - 1] != ']')
		return fail(err, "a section must end with \"]\"");
	line[length - 1] = '\0';
	line = trim(line + 1);
	if (strcmp(line, "server") == 0) {
		*section = SECTION_SERVER;
		return 0;
	}
	if (strncmp(line, "export", 6) == 0 &&
	    (line[6] == '\0' || isspace((unsigned char)line[6]))) {
		name = trim(line + 6);
		length = strlen(name);
		if (length >= 2 && name[0] == '"' && name[length - 1] == '"') {
			name[length - 1] = '\0';
			name++;
		}
		*section = SECTION_EXPORT;
		return new_export(c, name, err);
	}
	return fail(err, "there is no section [%.100s]; there are [server] and [export NAME]",
		    line);
}

static int parse_setting(struct config *c, enum section section, char *line, char *err)
{
	char *value = strchr(line, '='), *key;
	struct config_export *e;

	if (!value)
		return fail(err, "\"%.100s\" is neither [section] nor key = value", line);
	*value++ = '\0';
	key = trim(line);
	value = trim(value);

	switch (section) {
	case SECTION_NONE: return fail(err, "\"%.100s\" stands before the first section", key);
	case SECTION_SERVER:
		if (strcmp(key, "listen") == 0)
			return config_add_listen(c, value, err);
		if (strcmp(key, "unix") == 0)
			return config_add_unix(c, value, err);
		return fail(err, "[server] has no \"%.100s\"; it has listen and unix", key);
	case SECTION_EXPORT:
		e = &c->list[c->n_list - 1];
		if (strcmp(key, "path") == 0)
			return set_path(e, value, err);
		if (strcmp(key, "ro") == 0)
			return set_read_only(e, value, err);
		return set_option(e, key, value, err);
	}
	return 0;
}

/* An export's section is complete when the next one begins. */
static int check_section(const struct config *c, enum section section, char *err)
{
	if (section == SECTION_EXPORT && !c->list[c->n_list - 1].path)
		return fail(err, "[export %.100s], which ends here, has no path",
			    c->list[c->n_list - 1].name);
	return 0;
}

int config_parse(struct config *c, const char *name, const char *text, size_t size, char *err)
{
	_cleanup_free_ char *copy = strndup(text, size);
	enum section section = SECTION_NONE;
	char *rest = copy, *line, why[CONFIG_ERROR_MAX];
	unsigned number = 0;

	if (!copy)
		return out_of_memory(err);
	if (strlen(copy) != size)
		return fail(err, "%s: this is not a text file: it has a NUL byte", name);
	while ((line = strsep(&rest, "\n"))) {
		int r = 0;

		number++;
		line = trim(line);
		if (*line == '\0' || *line == '#' || *line == ';')
			continue;
		if (*line == '[') {
			r = check_section(c, section, why);
			if (r == 0)
				r = parse_section(c, line, &section, why);
		} else {
			r = parse_setting(c, section, line, why);
		}
		if (r < 0)
			return fail(err, "%s, line %u: %.380s", name, number, why);
	}
	if (check_section(c, section, why) < 0)
		return fail(err, "%s, line %u: %.380s", name, number, why);
	return 0;
}

int config_load(struct config *c, const char *path, char *err)
{
	_cleanup_free_ char *text = malloc(CONFIG_FILE_MAX);
	int length;

	if (!text)
		return out_of_memory(err);
	length = fd_read_file(path, text, CONFIG_FILE_MAX);
	if (length < 0)
		return fail(err, "cannot read the configuration %s: %s", path, strerror(-length));
	return config_parse(c, path, text, (size_t)length, err);
}

int config_check(const struct config *c, char *err)
{
	if (c->n_list == 0)
		return fail(err, "there is nothing to serve: give --export NAME=PATH, or --config "
				 "with an [export NAME] section");
	for (size_t i = 0; i < c->n_list; i++)
		for (size_t j = 0; j < i; j++)
			if (strcmp(c->list[i].name, c->list[j].name) == 0)
				return fail(err,
					    "two exports are named \"%.200s\" (%.100s and "
					    "%.100s): a name must be given once",
					    c->list[i].name, c->list[j].path, c->list[i].path);
	return 0;
}

void config_deinit(struct config *c)
{
	for (size_t i = 0; i < c->n_list; i++) {
		free(c->list[i].name);
		free(c->list[i].path);
		free(c->list[i].allow);
	}
	free(c->list);
	for (size_t i = 0; i < c->n_listens; i++)
		free(c->listens[i]);
	free(c->listens);
	for (size_t i = 0; i < c->n_unix_paths; i++)
		free(c->unix_paths[i]);
	free(c->unix_paths);
	*c = (struct config){ 0 };
}
