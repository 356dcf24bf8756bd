/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See archive.h. */
#include "archive.h"

#include "compress.h"
#include "cpio-read.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { ARCHIVE_LINKS_MAX = 16, ARCHIVE_PATH_MAX = 4096 };

static int archive_fail(struct archive *a, size_t part, const char *what)
{
	return asprintf(&a->problem, "%s (part %zu, which starts at byte %zu)", what, part + 1,
			a->parts[part].offset) < 0
		       ? -ENOMEM
		       : 0;
}

/* ---- entries ------------------------------------------------------------------------------ */

/* Grows at the powers of two. */
static void *archive_grow(void *list, size_t count, size_t item)
{
	if ((count & (count - 1)) != 0)
		return list;
	return reallocarray(list, count ? count * 2 : 1, item);
}

static int archive_add(struct archive *a, const struct cpio_item *it)
{
	struct archive_file *grown = archive_grow(a->files, a->n_files, sizeof(*a->files));
	const char *name = it->name;

	if (!grown)
		return -ENOMEM;
	a->files = grown;
	while (name[0] == '/' || (name[0] == '.' && name[1] == '/'))
		name++;
	grown[a->n_files] = (struct archive_file){
		.name = strdup(name),
		.mode = (mode_t)it->mode,
		.data = it->data,
		.size = it->size,
		.inode = it->inode,
		.order = (uint32_t)a->n_files,
	};
	if (!grown[a->n_files].name)
		return -ENOMEM;
	a->n_files++;
	return 0;
}

/*
 * Hard links: only one of them has the content, the first or the last, and they follow one another.
 */
static void archive_link(struct archive *a, size_t from)
{
	for (size_t i = from; i < a->n_files; i++) {
		struct archive_file *f = &a->files[i];
		size_t end = i + 1;
		const struct archive_file *full = f->size > 0 ? f : NULL;

		if (!S_ISREG(f->mode))
			continue;
		for (; end < a->n_files && S_ISREG(a->files[end].mode) &&
		       a->files[end].inode == f->inode;
		     end++)
			if (a->files[end].size > 0)
				full = &a->files[end];
		for (size_t k = i; k < end && full; k++) {
			if (a->files[k].size > 0)
				continue;
			a->files[k].data = full->data;
			a->files[k].size = full->size;
		}
		i = end - 1;
	}
}

/*
 * One or several archives, with zeros after each. *used: all of it, or up to what is no cpio, for
 * which is_alone says whether it may be something else.
 */
static int archive_read_cpio(struct archive *a, size_t part, const uint8_t *data, size_t size,
			     bool is_alone, size_t *used)
{
	struct cpio_reader reader = { data, size, 0 };

	while (reader.at < size) {
		size_t first = a->n_files;
		struct cpio_item it;
		int r;

		if (data[reader.at] == 0) {
			reader.at++;
			continue;
		}
		if (is_alone && (data[reader.at] != '0' || (reader.at & 3) != 0))
			break; /* a compressed part, perhaps */
		while ((r = cpio_next(&reader, &it)) == 0) {
			if (a->n_files == ARCHIVE_ENTRIES_MAX)
				return archive_fail(a, part, "more entries than anybody needs");
			a->parts[part].entries++;
			r = archive_add(a, &it);
			if (r < 0)
				return r;
		}
		archive_link(a, first);
		if (r == CPIO_E_SHORT)
			return archive_fail(a, part, "it ends in the middle of an entry");
		if (r == CPIO_E_MALFORMED)
			return archive_fail(a, part, "it has an entry that is no cpio");
	}
	*used = reader.at;
	return 0;
}

/* ---- parts -------------------------------------------------------------------------------- */

static int archive_unpack(struct archive *a, size_t part, enum compress_kind kind,
			  const uint8_t *data, size_t size)
{
	struct archive_part *p = &a->parts[part];
	size_t used;
	int r;

	/* Byte 7 of the stream's header is the check: 4 is CRC64. */
	p->is_crc64 = kind == COMPRESS_XZ && size > 7 && (data[7] & 15) == 4;
	r = compress_unpack_first(kind, data, size, ARCHIVE_UNPACKED_MAX - a->unpacked, &p->data,
				  &p->unpacked, &p->packed);
	if (r == -ENOMEM)
		return r;
	if (r == -EFBIG)
		return archive_fail(a, part, "it unpacks to more than 2 GiB");
	if (r < 0)
		return archive_fail(a, part, "it is damaged: cannot be unpacked");
	a->unpacked += p->unpacked;
	return archive_read_cpio(a, part, p->data, p->unpacked, false, &used);
}

/* One part at *at, and past it. */
static int archive_read_part(struct archive *a, const uint8_t *data, size_t size, size_t *at)
{
	struct archive_part *grown = archive_grow(a->parts, a->n_parts, sizeof(*grown));
	size_t part = a->n_parts;
	enum compress_kind kind;
	struct archive_part *p;
	int r;

	if (!grown)
		return -ENOMEM;
	a->parts = grown;
	p = &grown[part];
	*p = (struct archive_part){ .offset = *at, .compression = "none" };
	a->n_parts++;
	if (data[*at] == '0' && (*at & 3) == 0) {
		r = archive_read_cpio(a, part, data + *at, size - *at, true, &p->packed);
		p->unpacked = p->packed;
		a->unpacked += p->unpacked;
	} else {
		p->compression = compress_detect(data + *at, size - *at, &kind);
		if (!p->compression) {
			p->compression = "unknown";
			return archive_fail(
				a, part,
				data[*at] == '0' ? "a cpio that is not compressed must start at a "
						   "multiple of four bytes, or no kernel finds it"
						 : "it is neither cpio nor anything that a kernel "
						   "unpacks");
		}
		p->is_unknown = kind == COMPRESS_NONE;
		if (p->is_unknown)
			return archive_fail(a, part,
					    "nbdroot cannot unpack this compression, so that "
					    "it does not know what is inside");
		r = archive_unpack(a, part, kind, data + *at, size - *at);
	}
	*at += p->packed;
	return r;
}

/* ---- names -------------------------------------------------------------------------------- */

static int archive_compare(const void *a, const void *b)
{
	const struct archive_file *x = a, *y = b;
	int order = strcmp(x->name, y->name);

	return order != 0 ? order : (x->order > y->order) - (x->order < y->order);
}

/* Sorts them, and of several of one name keeps the last. */
static void archive_sort(struct archive *a)
{
	size_t kept = 0;

	qsort(a->files, a->n_files, sizeof(*a->files), archive_compare);
	for (size_t i = 0; i < a->n_files; i++) {
		if (i + 1 < a->n_files && strcmp(a->files[i].name, a->files[i + 1].name) == 0)
			free(a->files[i].name);
		else
			a->files[kept++] = a->files[i];
	}
	a->n_files = kept;
}

int archive_read(struct archive *a, const uint8_t *data, size_t size)
{
	size_t at = 0;
	int r = 0;

	*a = (struct archive){ 0 };
	while (r == 0 && at < size && !a->problem) {
		if (data[at] == 0)
			at++;
		else
			r = archive_read_part(a, data, size, &at);
	}
	if (a->n_files > 0)
		archive_sort(a);
	return r;
}

void archive_deinit(struct archive *a)
{
	for (size_t i = 0; i < a->n_files; i++)
		free(a->files[i].name);
	for (size_t i = 0; i < a->n_parts; i++)
		free(a->parts[i].data);
	free(a->files);
	free(a->parts);
	free(a->problem);
	*a = (struct archive){ 0 };
}

static const struct archive_file *archive_find_exact(const struct archive *a, const char *path)
{
	size_t low = 0, high = a->n_files;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(path, a->files[middle].name);

		if (order == 0)
			return &a->files[middle];
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

/* Takes "." and ".." and double slashes out of a path that starts at the top. */
static void archive_tidy(char *path)
{
	char *to = path;

	for (char *part = path; *part;) {
		size_t length = strcspn(part, "/");
		char *next = part + length + (part[length] == '/');
		bool is_up = length == 2 && memcmp(part, "..", 2) == 0;

		if (is_up) {
			while (to > path && *--to != '/')
				;
		} else if (length > 0 && !(length == 1 && part[0] == '.')) {
			if (to > path)
				*to++ = '/';
			memmove(to, part, length);
			to += length;
		}
		part = next;
	}
	*to = '\0';
}

/* Replaces the first link that the path goes through (at its end too); false: there is none. */
static bool archive_follow(const struct archive *a, char path[static ARCHIVE_PATH_MAX])
{
	char next[ARCHIVE_PATH_MAX];

	for (char *end = path;; end++) {
		char saved = *end;
		const struct archive_file *f;
		int folder, n;

		if (saved != '/' && saved != '\0')
			continue;
		*end = '\0';
		f = archive_find_exact(a, path);
		*end = saved;
		if (!f || !S_ISLNK(f->mode)) {
			if (saved == '\0')
				return false;
			continue;
		}
		folder = (int)(end - path);
		while (folder > 0 && path[folder - 1] != '/')
			folder--;
		if (f->size > 0 && f->data[0] == '/')
			folder = 0;
		n = snprintf(next, sizeof(next), "%.*s%.*s%s", folder, path,
			     f->size < ARCHIVE_PATH_MAX ? (int)f->size : 0, (const char *)f->data,
			     end);
		if (n < 0 || n >= (int)sizeof(next))
			return false;
		archive_tidy(next);
		memcpy(path, next, strlen(next) + 1);
		return true;
	}
}

const struct archive_file *archive_find(const struct archive *a, const char *path)
{
	char now[ARCHIVE_PATH_MAX];

	if (snprintf(now, sizeof(now), "%s", path) >= (int)sizeof(now))
		return NULL;
	archive_tidy(now);
	for (int i = 0; i < ARCHIVE_LINKS_MAX; i++)
		if (!archive_follow(a, now))
			return archive_find_exact(a, now);
	return NULL;
}
