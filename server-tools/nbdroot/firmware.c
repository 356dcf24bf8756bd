/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See firmware.h. */
#include "firmware.h"

#include "base/log.h"
#include "compress.h"
#include "infile.h"

#include <dirent.h>
#include <fnmatch.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* In the kernel's order (drivers/base/firmware_loader): each form everywhere, then the next. */
static const struct {
	const char *ending;
	enum compress_kind kind;
} firmware_forms[] = {
	{ "", COMPRESS_NONE },
	{ ".zst", COMPRESS_ZSTD },
	{ ".xz", COMPRESS_XZ },
};

enum { FIRMWARE_PLACES = 4 };

void firmware_deinit(struct firmware *fw)
{
	for (size_t i = 0; i < fw->count; i++)
		free(fw->names[i]);
	free(fw->names);
	fw->names = NULL;
	fw->count = 0;
}

char *firmware_folder(const struct firmware *fw, const char *path)
{
	_cleanup_free_ char *whole = NULL;
	char *folder;

	if (fw->folder)
		return strdup(fw->folder);
	whole = realpath(path, NULL); /* the last part may be a link */
	if (!whole)
		return NULL;
	return asprintf(&folder, "%s/firmware", dirname(dirname(whole))) < 0 ? NULL : folder;
}

/* A module is a file from outside: its firmware is below the folder, or nowhere. */
static bool firmware_name_is_safe(const char *name)
{
	if (name[0] == '\0' || name[0] == '/')
		return false;
	for (const char *part = name; part;) {
		size_t length = strcspn(part, "/");

		if (length == 0 || (length == 1 && part[0] == '.') ||
		    (length == 2 && memcmp(part, "..", 2) == 0))
			return false;
		part = part[length] ? part + length + 1 : NULL;
	}
	return true;
}

static int firmware_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool firmware_has(const struct firmware *fw, const char *name)
{
	return fw->count > 0 &&
	       bsearch(&name, fw->names, fw->count, sizeof(*fw->names), firmware_compare) != NULL;
}

static int firmware_remember(struct firmware *fw, const char *name)
{
	size_t at = fw->count;
	char **grown = reallocarray(fw->names, fw->count + 1, sizeof(*grown));
	char *copy = strdup(name);

	if (grown)
		fw->names = grown;
	if (!grown || !copy) {
		free(copy);
		return -ENOMEM;
	}
	for (; at > 0 && strcmp(grown[at - 1], name) > 0; at--)
		grown[at] = grown[at - 1];
	grown[at] = copy;
	fw->count++;
	return 0;
}

/* Reads folder/name in one of its forms. -ENOENT: it is not there. Others are reported. */
static int firmware_read(const char *folder, const char *name, size_t form, void **data,
			 size_t *size)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_free_ void *packed = NULL;
	uint8_t *unpacked;
	int r;

	if (asprintf(&path, "%s/%s%s", folder, name, firmware_forms[form].ending) < 0)
		return -ENOMEM;
	r = infile_read(path, PACK_FILE_MAX, &packed, size);
	if (r == -ENOENT || r == -ENOTDIR || r == -EINVAL) /* a folder, say */
		return -ENOENT;
	if (r == 0 && firmware_forms[form].kind != COMPRESS_NONE) {
		r = compress_unpack(firmware_forms[form].kind, packed, *size, PACK_FILE_MAX,
				    &unpacked, size);
		if (r == 0) {
			free(packed);
			packed = unpacked;
		}
	}
	if (r == 0)
		*data = steal_ptr(&packed);
	else if (r == -EFBIG)
		log_error("%s: larger than %d MiB: no firmware is", path, PACK_FILE_MAX >> 20);
	else if (r == -EBADMSG)
		log_error("%s: damaged: cannot be unpacked", path);
	else
		log_error("%s: cannot be read: %s", path, strerror(-r));
	return r;
}

/*
 * Packs one file, in the plain place when kernels of all versions would find it there, else in that
 * of its version. Another kernel may have brought it already.
 */
static int firmware_pack(struct firmware *fw, struct pack *p, const char *version, const char *name,
			 bool is_of_version, void *data, size_t size)
{
	_cleanup_free_ char *inside = NULL;
	int r;

	r = is_of_version ? asprintf(&inside, "lib/firmware/%s/%s", version, name)
			  : asprintf(&inside, "lib/firmware/%s", name);
	if (r < 0) {
		inside = NULL;
		free(data);
		return -ENOMEM;
	}
	if (firmware_has(fw, inside)) {
		const struct pack_entry *there = pack_find(p, inside);

		if (is_of_version ||
		    (there && there->size == size && memcmp(there->data, data, size) == 0)) {
			free(data);
			return 0;
		}
		/* Another folder's: the place of the version comes before the plain one. */
		return firmware_pack(fw, p, version, name, true, data, size);
	}
	r = firmware_remember(fw, inside);
	if (r < 0) {
		free(data);
		return r;
	}
	fw->size_bytes += size;
	return pack_add(p, inside, S_IFREG | 0644, data, size);
}

/* One file of exactly this name. *found grows by one, or not. */
static int firmware_add_one(struct firmware *fw, struct pack *p, const char *folder,
			    const char *version, const char *name, size_t *found)
{
	for (size_t form = 0; form < ARRAY_SIZE(firmware_forms); form++) {
		for (int place = 0; place < FIRMWARE_PLACES; place++) {
			_cleanup_free_ char *where = NULL;
			bool is_updates = place < 2, is_of_version = place % 2 == 0;
			void *data;
			size_t size;
			int r;

			if (asprintf(&where, "%s%s%s%s", folder, is_updates ? "/updates" : "",
				     is_of_version ? "/" : "", is_of_version ? version : "") < 0)
				return -ENOMEM;
			r = firmware_read(where, name, form, &data, &size);
			if (r == -ENOENT)
				continue;
			if (r == 0)
				r = firmware_pack(fw, p, version, name, is_of_version, data, size);
			if (r == 0)
				(*found)++;
			return r;
		}
	}
	return 0;
}

/* All files of a folder that a pattern's last part fits; patterns of folders do not exist. */
static int firmware_add_matching(struct firmware *fw, struct pack *p, const char *folder,
				 const char *place, const char *version, const char *pattern,
				 size_t *found)
{
	const char *slash = strrchr(pattern, '/');
	const char *last = slash ? slash + 1 : pattern;
	int before = slash ? (int)(slash - pattern + 1) : 0;
	_cleanup_free_ char *path = NULL;
	struct dirent **list;
	int n, r = 0;

	if (asprintf(&path, "%s%s/%.*s", folder, place, before, pattern) < 0)
		return -ENOMEM;
	n = scandir(path, &list, NULL, alphasort);
	if (n < 0)
		return errno == ENOMEM ? -ENOMEM : 0;
	for (int i = 0; i < n; i++) {
		_cleanup_free_ char *name = NULL;
		char *file = list[i]->d_name;

		for (size_t form = 1; form < ARRAY_SIZE(firmware_forms); form++) {
			size_t ending = strlen(firmware_forms[form].ending);
			size_t length = strlen(file);

			if (length > ending &&
			    strcmp(file + length - ending, firmware_forms[form].ending) == 0)
				file[length - ending] = '\0';
		}
		if (r == 0 && fnmatch(last, file, FNM_PERIOD) == 0) {
			if (asprintf(&name, "%.*s%s", before, pattern, file) < 0) {
				name = NULL;
				r = -ENOMEM;
			} else {
				r = firmware_add_one(fw, p, folder, version, name, found);
			}
		}
		free(list[i]);
	}
	free(list);
	return r;
}

int firmware_add(struct firmware *fw, struct pack *p, const char *folder, const char *version,
		 const char *name, size_t *found)
{
	static const char *const places[] = { "/updates", "" };
	int r = 0;

	*found = 0;
	if (fw->is_off || !firmware_name_is_safe(name))
		return 0;
	if (!strpbrk(name, "*?["))
		return firmware_add_one(fw, p, folder, version, name, found);
	for (size_t i = 0; i < ARRAY_SIZE(places) && r == 0; i++)
		r = firmware_add_matching(fw, p, folder, places[i], version, name, found);
	return r;
}
