/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See modules.h. */
#include "modules.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

/* Of a module's name or an alias; the kernel's own limit of a name is 55. */
enum { MODULES_NAME_MAX = 1024 };

/* ---- lines and words ---------------------------------------------------------------------- */

/* The next line, without its end; false after the last. */
static bool modules_line(const char **text, const char **line, size_t *length)
{
	if (!*text || **text == '\0')
		return false;
	*line = *text;
	*length = strcspn(*text, "\n");
	*text += *length + ((*text)[*length] == '\n');
	return true;
}

/* The next word of a line, moving past it; false when there is none. */
static bool modules_word(const char **line, size_t *left, const char **word, size_t *length)
{
	while (*left > 0 && (**line == ' ' || **line == '\t')) {
		(*line)++;
		(*left)--;
	}
	*word = *line;
	*length = 0;
	while (*length < *left && (*word)[*length] != ' ' && (*word)[*length] != '\t')
		(*length)++;
	*line += *length;
	*left -= *length;
	return *length > 0;
}

static bool modules_word_is(const char *word, size_t length, const char *text)
{
	return length == strlen(text) && memcmp(word, text, length) == 0;
}

/* ---- names -------------------------------------------------------------------------------- */

/* A copy with '_' for '-', except between brackets, where '-' is a range of an alias. */
static char *modules_normal(const char *text, size_t length)
{
	char *name;
	bool in_brackets = false;

	if (length == 0 || length > MODULES_NAME_MAX)
		return NULL;
	name = strndup(text, length);
	for (char *p = name; p && *p; p++) {
		if (*p == '[')
			in_brackets = true;
		else if (*p == ']')
			in_brackets = false;
		else if (*p == '-' && !in_brackets)
			*p = '_';
	}
	return name;
}

/* "kernel/fs/ext4/ext4.ko.xz" to "ext4"; NULL for what is no module's path. */
static char *modules_name_of_path(const char *path, size_t length)
{
	const char *base = path, *end = NULL;

	for (size_t i = 0; i < length; i++)
		if (path[i] == '/')
			base = path + i + 1;
	for (const char *p = base; p + 3 <= path + length && !end; p++)
		if (memcmp(p, ".ko", 3) == 0 && (p + 3 == path + length || p[3] == '.'))
			end = p;
	return end ? modules_normal(base, (size_t)(end - base)) : NULL;
}

/* Relative, and nowhere upwards. */
static bool modules_path_is_safe(const char *path, size_t length)
{
	if (length == 0 || path[0] == '/')
		return false;
	for (size_t start = 0; start < length;) {
		size_t part = 0;

		while (start + part < length && path[start + part] != '/')
			part++;
		if (modules_word_is(path + start, part, "..") ||
		    modules_word_is(path + start, part, ".") || part == 0)
			return false;
		start += part + 1;
	}
	return true;
}

static int modules_compare(const void *a, const void *b)
{
	return strcmp(((const struct module *)a)->name, ((const struct module *)b)->name);
}

static struct module *modules_find(const struct modules *m, char *name)
{
	const struct module key = { .name = name };

	if (m->count == 0)
		return NULL;
	return bsearch(&key, m->list, m->count, sizeof(*m->list), modules_compare);
}

static bool modules_is_builtin(const struct modules *m, const char *name)
{
	const char *text = m->text.builtin, *line;
	size_t length;

	while (modules_line(&text, &line, &length)) {
		_cleanup_free_ char *found = modules_name_of_path(line, length);

		if (found && strcmp(found, name) == 0)
			return true;
	}
	return false;
}

/* ---- reading ------------------------------------------------------------------------------ */

int modules_init(struct modules *m, const struct modules_texts *text)
{
	const char *rest = text->dep, *line;
	size_t length, lines = 0, kept = 0;

	*m = (struct modules){ .text = *text };
	while (modules_line(&rest, &line, &length))
		lines++;
	m->list = calloc(lines + 1, sizeof(*m->list));
	if (!m->list)
		return -ENOMEM;
	rest = text->dep;
	while (modules_line(&rest, &line, &length)) {
		const char *colon = memchr(line, ':', length);
		struct module *new_one = &m->list[m->count];

		if (!colon || !modules_path_is_safe(line, (size_t)(colon - line)))
			continue;
		new_one->path = line;
		new_one->path_length = (size_t)(colon - line);
		new_one->needs = colon + 1;
		new_one->needs_length = length - new_one->path_length - 1;
		new_one->name = modules_name_of_path(line, new_one->path_length);
		if (new_one->name)
			m->count++;
	}
	qsort(m->list, m->count, sizeof(*m->list), modules_compare);
	/* depmod names a module once; should a file not, the first one is as good as any. */
	for (size_t i = 0; i < m->count; i++) {
		if (kept > 0 && strcmp(m->list[kept - 1].name, m->list[i].name) == 0)
			free(m->list[i].name);
		else
			m->list[kept++] = m->list[i];
	}
	m->count = kept;
	return 0;
}

void modules_deinit(struct modules *m)
{
	for (size_t i = 0; i < m->count; i++)
		free(m->list[i].name);
	free(m->list);
	*m = (struct modules){ 0 };
}

/* ---- wanting ------------------------------------------------------------------------------ */

static int modules_want_one(struct modules *m, struct module *it);

/* Whatever has this alias. *found: whether there was one. */
static int modules_want_alias(struct modules *m, const char *name, bool *found)
{
	const char *text = m->text.alias, *line;
	struct module *it;
	size_t left;

	*found = false;
	while (modules_line(&text, &line, &left)) {
		_cleanup_free_ char *pattern = NULL;
		_cleanup_free_ char *target = NULL;
		const char *part;
		size_t size;
		int r;

		if (!modules_word(&line, &left, &part, &size) ||
		    !modules_word_is(part, size, "alias") ||
		    !modules_word(&line, &left, &part, &size))
			continue;
		pattern = modules_normal(part, size);
		if (!pattern || fnmatch(pattern, name, 0) != 0 ||
		    !modules_word(&line, &left, &part, &size))
			continue;
		target = modules_normal(part, size);
		it = target ? modules_find(m, target) : NULL;
		if (!it)
			continue;
		*found = true;
		r = modules_want_one(m, it);
		/* What an optional one lacks is its own trouble. */
		if (r < 0)
			return r;
	}
	return 0;
}

/* A soft dependency: a module's name or an alias, that nobody need have. */
static int modules_want_soft(struct modules *m, const char *word, size_t length)
{
	_cleanup_free_ char *name = modules_normal(word, length);
	_cleanup_free_ char *cipher = NULL;
	struct module *it;
	bool found;
	int r;

	if (!name)
		return 0;
	it = modules_find(m, name);
	if (it)
		return modules_want_one(m, it);
	r = modules_want_alias(m, name, &found);
	if (r < 0 || found)
		return r;
	/* Newer kernels know an algorithm by this name only, as they ask for it. */
	if (asprintf(&cipher, "crypto_%s", name) < 0)
		return -ENOMEM;
	return modules_want_alias(m, cipher, &found);
}

/* The words of the next "softdep NAME pre: WORD... post: WORD..." of this module. */
static bool modules_softdep(const char **text, const char *of, const char **line, size_t *left)
{
	const char *word;
	size_t length;

	while (modules_line(text, line, left)) {
		_cleanup_free_ char *name = NULL;

		if (!modules_word(line, left, &word, &length) ||
		    !modules_word_is(word, length, "softdep") ||
		    !modules_word(line, left, &word, &length))
			continue;
		name = modules_normal(word, length);
		if (name && strcmp(name, of) == 0)
			return true;
	}
	return false;
}

static int modules_want_softdeps(struct modules *m, const struct module *it)
{
	const char *text = m->text.softdep, *line, *word;
	size_t left, length;

	while (modules_softdep(&text, it->name, &line, &left)) {
		while (modules_word(&line, &left, &word, &length)) {
			int r;

			if (modules_word_is(word, length, "pre:") ||
			    modules_word_is(word, length, "post:"))
				continue;
			r = modules_want_soft(m, word, length);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

static int modules_want_one(struct modules *m, struct module *it)
{
	const char *rest = it->needs, *word;
	size_t left = it->needs_length, length;

	if (it->is_wanted)
		return 0; /* also what ends a circle of soft dependencies */
	it->is_wanted = true;
	while (modules_word(&rest, &left, &word, &length)) {
		_cleanup_free_ char *name = modules_name_of_path(word, length);
		struct module *needed = name ? modules_find(m, name) : NULL;
		int r;

		if (!needed)
			return MODULES_E_BROKEN;
		r = modules_want_one(m, needed);
		if (r != 0)
			return r;
	}
	return modules_want_softdeps(m, it);
}

int modules_want(struct modules *m, const char *name)
{
	_cleanup_free_ char *normal = modules_normal(name, strlen(name));
	struct module *it;

	if (!normal)
		return MODULES_E_MISSING;
	it = modules_find(m, normal);
	if (it)
		return modules_want_one(m, it);
	return modules_is_builtin(m, normal) ? MODULES_E_BUILTIN : MODULES_E_MISSING;
}

int modules_want_folder(struct modules *m, const char *folder, size_t *count)
{
	size_t length = strlen(folder);

	*count = 0;
	for (size_t i = 0; i < m->count; i++) {
		struct module *it = &m->list[i];
		int r;

		if (it->path_length < length || memcmp(it->path, folder, length) != 0)
			continue;
		(*count)++;
		r = modules_want_one(m, it);
		if (r != 0)
			return r;
	}
	return 0;
}

/* ---- what is asked for while they run ------------------------------------------------------ */

/* What finds the devices of these aliases; the machine's own buses (PCI) need nothing. */
static const struct {
	const char *aliases;
	const char *hosts[5];
} modules_buses[] = {
	{ "usb:", { "xhci_pci", "ehci_pci", "ohci_pci", "uhci_hcd" } },
	{ "virtio:", { "virtio_pci", "virtio_mmio" } },
};

static bool modules_starts_with(const char *word, size_t length, const char *start)
{
	return length > strlen(start) && memcmp(word, start, strlen(start)) == 0;
}

/* Which of the buses (bits) the wanted ones sit on; and who is a PHY, who a driver. */
static unsigned modules_note_aliases(struct modules *m)
{
	const char *text = m->text.alias, *line, *alias, *word;
	size_t left, alias_length, length;
	unsigned used = 0;

	while (modules_line(&text, &line, &left)) {
		_cleanup_free_ char *name = NULL;
		struct module *it;

		if (!modules_word(&line, &left, &word, &length) ||
		    !modules_word_is(word, length, "alias") ||
		    !modules_word(&line, &left, &alias, &alias_length) ||
		    !memchr(alias, ':', alias_length) ||
		    !modules_word(&line, &left, &word, &length))
			continue;
		name = modules_normal(word, length);
		it = name ? modules_find(m, name) : NULL;
		if (!it)
			continue;
		if (modules_starts_with(alias, alias_length, "mdio:"))
			it->is_phy = true;
		else
			it->is_driver = true;
		for (size_t i = 0; i < ARRAY_SIZE(modules_buses) && it->is_wanted; i++)
			if (modules_starts_with(alias, alias_length, modules_buses[i].aliases))
				used |= 1u << i;
	}
	return used;
}

static bool modules_uses_phys(const struct module *it)
{
	const char *rest = it->needs, *word;
	size_t left = it->needs_length, length;

	while (modules_word(&rest, &left, &word, &length)) {
		_cleanup_free_ char *name = modules_name_of_path(word, length);

		if (name && strcmp(name, "libphy") == 0)
			return true;
	}
	return false;
}

/* r8169 says by a soft dependency which PHYs it can have; who says nothing may have any. */
static bool modules_names_its_phy(const struct modules *m, const struct module *it)
{
	const char *text = m->text.softdep, *line, *word;
	size_t left, length;

	while (modules_softdep(&text, it->name, &line, &left)) {
		while (modules_word(&line, &left, &word, &length)) {
			_cleanup_free_ char *other = modules_normal(word, length);
			const struct module *phy = other ? modules_find(m, other) : NULL;

			if (phy && phy->is_phy)
				return true;
		}
	}
	return false;
}

static int modules_want_phys(struct modules *m)
{
	bool is_asked = false;
	int r;

	for (size_t i = 0; i < m->count && !is_asked; i++) {
		const struct module *it = &m->list[i];

		is_asked = it->is_wanted && it->is_driver && !it->is_phy && modules_uses_phys(it) &&
			   !modules_names_its_phy(m, it);
	}
	for (size_t i = 0; i < m->count && is_asked; i++) {
		if (!m->list[i].is_phy)
			continue;
		r = modules_want_one(m, &m->list[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

int modules_want_asked(struct modules *m)
{
	unsigned used = modules_note_aliases(m);

	for (size_t i = 0; i < ARRAY_SIZE(modules_buses); i++) {
		for (const char *const *host = modules_buses[i].hosts; used & 1u << i && *host;
		     host++) {
			int r = modules_want(m, *host);

			/* Built in, or a machine that has none: as good. */
			if (r < 0 || r == MODULES_E_BROKEN)
				return r;
		}
	}
	return modules_want_phys(m);
}
