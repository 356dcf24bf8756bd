/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See config.h. Here: the INI file, read by libinih. Three of its ways are not ours, and it gets
 * no chance at them:
 *
 *  - it cuts the name of a section after 49 bytes, and tells nobody that a section begins:
 *    sections are taken from the text here, line by line, before it sees them;
 *  - a line that is longer than its buffer it splits in silence: here such a line is an error;
 *  - an indented line continues the value before it: here indentation means nothing.
 */
#include "config.h"

#include "base/fd.h"
#include "base/parse.h"
#include "config-internal.h"

#include <ctype.h>
#include <ini.h>
#include <string.h>

enum {
	FILE_MAX_BYTES = 4 * 1024 * 1024,
	LINE_MAX_BYTES = 16 * 1024, /* a name and a path have 4096 at most */
};

struct setting {
	const char *key;
	int (*set)(struct config *c, const char *text, char *err);
	bool is_list; /* may be repeated, and adds up */
};

static const struct setting server_settings[] = {
	{ "listen", config_add_listen, true },
	{ "unix", config_add_unix, true },
	{ "control", config_set_control, false },
	{ "metrics", config_set_metrics, false },
	{ "engine", config_set_engine, false },
	{ "threads", config_set_threads, false },
	{ "memory", config_set_memory, false },
	{ "half-open", config_set_half_open, false },
	{ "per-address", config_set_per_address, false },
	{ "user", config_set_user, false },
	{ "log-format", config_set_log_format, false },
	{ "directory", config_add_directory, true },
	{ "allow", config_add_allow, true },
};

static const char *const export_keys[] = { "path", "ro", "durability", "on-full" };

struct ini {
	struct config *config;
	const char *rest; /* of the text */
	const char *end;
	const char *line; /* the one that is being read */
	size_t line_size;
	unsigned number;
	enum { SECTION_NONE, SECTION_SERVER, SECTION_EXPORT } section;
	/* bits of the settings that were seen: twice is a slip, not a wish */
	unsigned seen_server, seen_export;
	bool has_failed;
	char why[CONFIG_ERROR_MAX];
};

static struct config_export *current_export(const struct ini *ini)
{
	return &ini->config->list[ini->config->n_list - 1];
}

static int end_section(struct ini *ini)
{
	if (ini->section != SECTION_EXPORT)
		return 0;
	return config_end_export(current_export(ini), ini->why);
}

/* The line begins with "[". */
static int begin_section(struct ini *ini, char *line)
{
	size_t length;
	char *name;

	if (end_section(ini) < 0)
		return -1;
	line = parse_trim(line);
	length = strlen(line);
	if (line[length - 1] != ']')
		return config_fail(ini->why, "a section must end with \"]\"");
	line[length - 1] = '\0';
	line = parse_trim(line + 1);
	if (strcmp(line, "server") == 0) {
		ini->section = SECTION_SERVER;
		return 0;
	}
	if (strncmp(line, "export", 6) == 0 &&
	    (line[6] == '\0' || isspace((unsigned char)line[6]))) {
		name = parse_trim(line + 6);
		length = strlen(name);
		if (length >= 2 && name[0] == '"' && name[length - 1] == '"') {
			name[length - 1] = '\0';
			name++;
		}
		ini->section = SECTION_EXPORT;
		ini->seen_export = 0;
		return config_begin_export(ini->config, name, ini->why);
	}
	return config_fail(ini->why,
			   "there is no section [%.100s]; there are [server] and [export NAME]",
			   line);
}

static int note_once(struct ini *ini, unsigned *seen, size_t index, const char *key)
{
	if (*seen & 1u << index)
		return config_fail(ini->why, "\"%s\" is given twice", key);
	*seen |= 1u << index;
	return 0;
}

static int set_server(struct ini *ini, const char *key, const char *value)
{
	for (size_t i = 0; i < ARRAY_SIZE(server_settings); i++) {
		const struct setting *s = &server_settings[i];

		if (strcmp(key, s->key) != 0)
			continue;
		if (!s->is_list && note_once(ini, &ini->seen_server, i, key) < 0)
			return -1;
		return s->set(ini->config, value, ini->why);
	}
	return config_fail(ini->why,
			   "[server] has no \"%.100s\"; it has listen, unix, control, metrics, "
			   "engine, threads, memory, half-open, per-address, user, log-format, "
			   "directory and allow",
			   key);
}

static int set_export(struct ini *ini, const char *key, const char *value)
{
	for (size_t i = 0; i < ARRAY_SIZE(export_keys); i++)
		if (strcmp(key, export_keys[i]) == 0 &&
		    note_once(ini, &ini->seen_export, i, key) < 0)
			return -1;
	return config_set_export(current_export(ini), key, value, ini->why);
}

/* inih's handler: returns 0 for an error. Its own idea of the section may be cut, see above. */
static int handle_setting(void *user, const char *section, const char *key, const char *value)
{
	struct ini *ini = user;
	int r = -1;

	(void)section;
	switch (ini->section) {
	case SECTION_NONE:
		config_fail(ini->why, "\"%.100s\" stands before the first section", key);
		break;
	case SECTION_SERVER: r = set_server(ini, key, value); break;
	case SECTION_EXPORT: r = set_export(ini, key, value); break;
	}
	ini->has_failed = r < 0;
	return r == 0;
}

/* inih's reader, in the place of fgets(3): one line at a time, NULL at the end. */
static char *read_line(char *out, int out_size, void *stream)
{
	struct ini *ini = stream;
	const char *newline;

	if (ini->has_failed || ini->rest == ini->end)
		return NULL;
	ini->number++;
	newline = memchr(ini->rest, '\n', (size_t)(ini->end - ini->rest));
	ini->line = ini->rest;
	ini->rest = newline ? newline + 1 : ini->end;
	while (ini->line < ini->rest && isspace((unsigned char)*ini->line))
		ini->line++;
	ini->line_size = (size_t)(ini->rest - ini->line);

	/* A buffer that is full is to inih a line that is too long. */
	if (ini->line_size + 2 > (size_t)out_size) {
		config_fail(ini->why, "the line is longer than %d bytes", out_size - 2);
		ini->has_failed = true;
		return NULL;
	}
	memcpy(out, ini->line, ini->line_size);
	out[ini->line_size] = '\0';
	if (*out == '[') {
		ini->has_failed = begin_section(ini, out) < 0;
		*out = '\0';
	}
	return ini->has_failed ? NULL : out;
}

int config_parse(struct config *c, const char *name, const char *text, size_t size, char *err)
{
	static const char byte_order_mark[] = "\xef\xbb\xbf";
	struct ini ini = { .config = c, .rest = text, .end = text + size };
	int r;

	if (memchr(text, '\0', size))
		return config_fail(err, "%s: this is not a text file: it has a NUL byte", name);
	if (size >= 3 && memcmp(text, byte_order_mark, 3) == 0)
		ini.rest += 3;

	/* These are variables of the library. */
	ini_use_stack = false;
	ini_max_line = LINE_MAX_BYTES + 2;
	ini_initial_alloc = LINE_MAX_BYTES + 2;
	ini_stop_on_first_error = true;
	ini_allow_inline_comments = false; /* ";" may be in a path */
	r = ini_parse_stream(read_line, &ini, handle_setting, &ini);

	if (r < 0)
		return config_out_of_memory(err);
	if (r > 0 && !ini.has_failed) {
		/* No handler was called: inih found no "=". The text ends with no NUL. */
		while (ini.line_size > 0 && isspace((unsigned char)ini.line[ini.line_size - 1]))
			ini.line_size--;
		config_fail(ini.why, "\"%.*s\" is neither [section] nor key = value",
			    ini.line_size < 100 ? (int)ini.line_size : 100, ini.line);
	}
	if (r > 0 || ini.has_failed || end_section(&ini) < 0)
		return config_fail(err, "%s, line %u: %.380s", name, ini.number, ini.why);
	return 0;
}

int config_load(struct config *c, const char *path, char *err)
{
	_cleanup_free_ char *text = malloc(FILE_MAX_BYTES);
	int length;

	if (!text)
		return config_out_of_memory(err);
	length = fd_read_file(path, text, FILE_MAX_BYTES);
	if (length < 0)
		return config_fail(err, "cannot read the configuration %s: %s", path,
				   strerror(-length));
	return config_parse(c, path, text, (size_t)length, err);
}
