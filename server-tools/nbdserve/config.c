/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See config.h. Here: exports, from both sources, and what holds for the whole. */
#include "config.h"

#include "config-internal.h"
#include "pattern.h"
#include "proto/nbd.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
	DEFAULT_HALF_OPEN = 4096,
	DEFAULT_MEMORY_MIB = 256,
};

int config_fail(char *err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err, CONFIG_ERROR_MAX, fmt, ap);
	va_end(ap);
	return -1;
}

int config_out_of_memory(char *err)
{
	return config_fail(err, "out of memory");
}

/* Makes room for one more; *list and *n are of any type with elements of `size` bytes. */
static void *grow(void *list, size_t n, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(n + 1, size, &bytes))
		return NULL;
	return realloc(list, bytes);
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

int config_begin_export(struct config *c, const char *name, char *err)
{
	struct config_export *bigger;

	if (strlen(name) > NBD_STRING_MAX)
		return config_fail(err, "the export name \"%.32s...\" is longer than %d bytes",
				   name, NBD_STRING_MAX);
	if (!name_is_valid(name))
		return config_fail(err,
				   "the export name \"%.200s\" must be UTF-8 without control "
				   "characters",
				   name);
	bigger = grow(c->list, c->n_list, sizeof(*c->list));
	if (!bigger)
		return config_out_of_memory(err);
	c->list = bigger;
	bigger[c->n_list] = (struct config_export){ .name = strdup(name) };
	if (!bigger[c->n_list].name)
		return config_out_of_memory(err);
	c->n_list++;
	return 0;
}

static int set_path(struct config_export *e, const char *path, char *err)
{
	if (*path == '\0')
		return config_fail(err, "the path of the image is empty");
	free(e->path);
	e->path = strdup(path);
	return e->path ? 0 : config_out_of_memory(err);
}

static int set_durability(struct config_export *e, const char *value, char *err)
{
	if (strcmp(value, "write") == 0)
		e->durability = CONFIG_DURABILITY_WRITE;
	else if (strcmp(value, "flush") == 0)
		e->durability = CONFIG_DURABILITY_FLUSH;
	else
		return config_fail(err, "durability must be \"write\" or \"flush\", not \"%.100s\"",
				   value);
	return 0;
}

static int set_on_full(struct config_export *e, const char *value, char *err)
{
	if (strcmp(value, "hold") == 0)
		e->on_full = CONFIG_ON_FULL_HOLD;
	else if (strcmp(value, "error") == 0)
		e->on_full = CONFIG_ON_FULL_ERROR;
	else
		return config_fail(err, "on-full must be \"hold\" or \"error\", not \"%.100s\"",
				   value);
	return 0;
}

static int add_rule(struct cidr **list, size_t *n, const char *text, char *err)
{
	struct cidr *bigger = grow(*list, *n, sizeof(**list));

	if (!bigger)
		return config_out_of_memory(err);
	*list = bigger;
	if (!cidr_parse(text, &bigger[*n], err, CONFIG_ERROR_MAX))
		return -1;
	(*n)++;
	return 0;
}

int config_add_rules(struct cidr **list, size_t *n, bool *has_allow, const char *text, char *err)
{
	_cleanup_free_ char *copy = strdup(text);
	char *rest = copy, *rule;

	if (!copy)
		return config_out_of_memory(err);
	while ((rule = strsep(&rest, "+"))) {
		bool is_none = strcmp(rule, "none") == 0;

		if (*has_allow && (is_none || *n == 0))
			return config_fail(err, "allow: \"none\" cannot be combined with anything");
		*has_allow = true;
		if (is_none)
			continue;
		if (strcmp(rule, "all") == 0) {
			if (add_rule(list, n, "0.0.0.0/0", err) < 0 ||
			    add_rule(list, n, "::/0", err) < 0)
				return -1;
		} else if (add_rule(list, n, rule, err) < 0) {
			return -1;
		}
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
		return config_fail(err, "ro must be \"yes\" or \"no\", not \"%.100s\"", value);
	return 0;
}

static int set_option(struct config_export *e, const char *key, const char *value, char *err)
{
	if (strcmp(key, "durability") == 0)
		return set_durability(e, value, err);
	if (strcmp(key, "on-full") == 0)
		return set_on_full(e, value, err);
	if (strcmp(key, "allow") == 0)
		return config_add_rules(&e->allow, &e->n_allow, &e->has_allow, value, err);
	if (strcmp(key, "base") == 0)
		return config_fail(err,
				   "base= (a writable layer over a shared image) is not part of "
				   "this version; give every client its own image");
	return config_fail(err,
			   "there is no export option \"%.100s\"; there are ro, durability=write, "
			   "durability=flush, on-full=hold, on-full=error, "
			   "allow=NETWORK[+NETWORK...]",
			   key);
}

int config_set_export(struct config_export *e, const char *key, const char *value, char *err)
{
	if (strcmp(key, "path") == 0)
		return set_path(e, value, err);
	if (strcmp(key, "ro") == 0)
		return set_read_only(e, value, err);
	return set_option(e, key, value, err);
}

int config_end_export(struct config_export *e, char *err)
{
	if (!e->path)
		return config_fail(err, "[export %.100s], which ends here, has no path", e->name);
	e->is_pattern = pattern_has_words(e->name);
	/* "{mac}.img" for the name "root" is a slip, more likely than a file of that name. */
	if (!e->is_pattern && !strchr(e->path, '{'))
		return 0;
	return pattern_check(e->name, e->path, e->is_read_only, err, CONFIG_ERROR_MAX);
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
		return config_out_of_memory(err);
	path = strchr(copy, '=');
	if (!path)
		return config_fail(err, "--export \"%.200s\" is not NAME=PATH[,opt]...", text);
	*path++ = '\0';
	if (config_begin_export(c, copy, why) < 0 ||
	    add_export_words(&c->list[c->n_list - 1], path, why) < 0 ||
	    config_end_export(&c->list[c->n_list - 1], why) < 0)
		return config_fail(err, "--export \"%.100s\": %.380s", text, why);
	return 0;
}

/* ---- the whole ---------------------------------------------------------------------------- */

struct entry {
	const struct config_export *e;
};

/* By name, and those of one name in their order in the configuration. */
static int compare_entries(const void *a, const void *b)
{
	const struct config_export *x = ((const struct entry *)a)->e;
	const struct config_export *y = ((const struct entry *)b)->e;
	int order = strcmp(x->name, y->name);

	return order != 0 ? order : (x > y) - (x < y);
}

static int check_names(const struct config *c, char *err)
{
	_cleanup_free_ struct entry *sorted = calloc(c->n_list, sizeof(*sorted));

	if (!sorted)
		return config_out_of_memory(err);
	for (size_t i = 0; i < c->n_list; i++)
		sorted[i].e = &c->list[i];
	qsort(sorted, c->n_list, sizeof(*sorted), compare_entries);
	for (size_t i = 1; i < c->n_list; i++) {
		const struct config_export *first = sorted[i - 1].e, *second = sorted[i].e;

		if (strcmp(first->name, second->name) == 0)
			return config_fail(err,
					   "two exports are named \"%.200s\" (%.100s and %.100s): "
					   "a name must be given once",
					   first->name, first->path, second->path);
	}
	return 0;
}

/* Gives an export that has no rules those of the server. */
static int inherit_rules(const struct config *c, struct config_export *e, char *err)
{
	if (e->has_allow || !c->has_allow)
		return 0;
	if (c->n_allow > 0) {
		e->allow = calloc(c->n_allow, sizeof(*e->allow));
		if (!e->allow)
			return config_out_of_memory(err);
		memcpy(e->allow, c->allow, c->n_allow * sizeof(*e->allow));
	}
	e->n_allow = c->n_allow;
	e->has_allow = true;
	return 0;
}

int config_check(struct config *c, char *err)
{
	if (c->n_list == 0)
		return config_fail(err, "there is nothing to serve: give --export NAME=PATH, or "
					"--config with an [export NAME] section");
	if (check_names(c, err) < 0)
		return -1;
	for (size_t i = 0; i < c->n_list; i++)
		if (inherit_rules(c, &c->list[i], err) < 0)
			return -1;
	if (c->memory == 0)
		c->memory = (uint64_t)DEFAULT_MEMORY_MIB * 1024 * 1024;
	if (c->half_open_max == 0)
		c->half_open_max = DEFAULT_HALF_OPEN;
	c->half_open_address_max = (c->half_open_max + 1) / 2;
	return 0;
}

bool config_export_allows(const struct config_export *e, const struct address *client)
{
	if (!e->has_allow || client->family == ADDRESS_UNIX)
		return true;
	for (size_t i = 0; i < e->n_allow; i++)
		if (cidr_matches(&e->allow[i], client))
			return true;
	return false;
}

bool config_export_is_served_alike(const struct config_export *a, const struct config_export *b)
{
	return a->is_read_only == b->is_read_only && a->durability == b->durability &&
	       a->on_full == b->on_full;
}

bool config_export_same_image(const struct config_export *a, const struct config_export *b)
{
	return strcmp(a->path, b->path) == 0 && a->is_pattern == b->is_pattern &&
	       config_export_is_served_alike(a, b);
}

static void free_strings(char **list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(list[i]);
	free(list);
}

void config_export_deinit(struct config_export *e)
{
	free(e->name);
	free(e->path);
	free(e->allow);
	*e = (struct config_export){ 0 };
}

void config_deinit(struct config *c)
{
	for (size_t i = 0; i < c->n_list; i++)
		config_export_deinit(&c->list[i]);
	free(c->list);
	free_strings(c->listens, c->n_listens);
	free_strings(c->unix_paths, c->n_unix_paths);
	free_strings(c->directories, c->n_directories);
	free(c->control);
	free(c->metrics);
	free(c->user);
	free(c->allow);
	*c = (struct config){ 0 };
}
