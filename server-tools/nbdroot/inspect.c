/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See inspect.h. */
#include "inspect.h"

#include "base/log.h"
#include "compress.h"
#include "infile.h"
#include "pack.h"

#include <fnmatch.h>
#include <string.h>
#include <sys/stat.h>

/* ---- modules ------------------------------------------------------------------------------ */

static const char *const inspect_lib[] = { "lib/modules/", "usr/lib/modules/" };
static const char *const inspect_firmware[] = { "lib/firmware/", "usr/lib/firmware/" };

const char *inspect_info(const struct inspect_module *m, const char *key, size_t *at)
{
	const struct elf e = { .info = m->info, .info_size = m->info_size };

	return elf_info(&e, key, at);
}

/* "kernel/fs/ext4/ext4.ko.xz" to "ext4"; NULL: no module. *kind: how it is packed. */
static char *inspect_module_name(const char *path, enum compress_kind *kind, bool *is_known)
{
	static const struct {
		const char *ending;
		enum compress_kind kind;
		bool is_known;
	} forms[] = {
		{ ".ko", COMPRESS_NONE, true },      { ".ko.gz", COMPRESS_GZIP, true },
		{ ".ko.xz", COMPRESS_XZ, true },     { ".ko.zst", COMPRESS_ZSTD, true },
		{ ".ko.lz4", COMPRESS_NONE, false },
	};
	const char *base = strrchr(path, '/');
	size_t length;

	base = base ? base + 1 : path;
	length = strlen(base);
	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		size_t ending = strlen(forms[i].ending);
		char *name;

		if (length <= ending || strcmp(base + length - ending, forms[i].ending) != 0)
			continue;
		*kind = forms[i].kind;
		*is_known = forms[i].is_known;
		name = strndup(base, length - ending);
		for (char *p = name; p && *p; p++)
			if (*p == '-')
				*p = '_';
		return name;
	}
	return NULL;
}

/* What the module says of itself, in a copy: the module itself may be large. */
static int inspect_read_module(struct inspect_module *m, const struct archive_file *f,
			       enum compress_kind kind, bool is_known)
{
	_cleanup_free_ uint8_t *unpacked = NULL;
	const uint8_t *data = f->data;
	size_t size = f->size;
	struct elf e;
	int r;

	m->size = f->size;
	if (is_known && kind != COMPRESS_NONE) {
		r = compress_unpack(kind, f->data, f->size, PACK_FILE_MAX, &unpacked, &size);
		if (r == -ENOMEM)
			return r;
		if (r < 0)
			size = 0;
		data = unpacked;
	}
	m->is_broken = is_known && (elf_read(data, size, &e) < 0 || !e.is_module);
	if (m->is_broken || !is_known)
		return 0;
	m->machine = e.machine;
	if (e.info_size == 0)
		return 0;
	m->info = malloc(e.info_size);
	if (!m->info)
		return -ENOMEM;
	memcpy(m->info, e.info, e.info_size);
	m->info_size = e.info_size;
	return 0;
}

static struct inspect_kernel *inspect_kernel(struct inspection *in, const char *folder,
					     const char *version, size_t length)
{
	struct inspect_kernel *grown;

	for (size_t i = 0; i < in->n_kernels; i++)
		if (strlen(in->kernels[i].version) == length &&
		    memcmp(in->kernels[i].version, version, length) == 0)
			return &in->kernels[i];
	grown = reallocarray(in->kernels, in->n_kernels + 1, sizeof(*grown));
	if (!grown)
		return NULL;
	in->kernels = grown;
	grown[in->n_kernels] = (struct inspect_kernel){ .version = strndup(version, length) };
	if (!grown[in->n_kernels].version)
		return NULL;
	snprintf(grown[in->n_kernels].folder, sizeof(grown->folder), "%.*s",
		 (int)strlen(folder) - 1, folder);
	return &grown[in->n_kernels++];
}

static int inspect_add_module(struct inspection *in, const struct archive_file *f,
			      const char *folder)
{
	const char *version = f->name + strlen(folder);
	size_t length = strcspn(version, "/");
	struct inspect_kernel *k;
	struct inspect_module *m;
	enum compress_kind kind;
	bool is_known;
	char *name;

	if (length == 0 || version[length] == '\0')
		return 0;
	k = inspect_kernel(in, folder, version, length);
	if (!k)
		return -ENOMEM;
	name = inspect_module_name(version + length + 1, &kind, &is_known);
	if (!name)
		return 0;
	/* Grows at the powers of two. */
	if ((k->n_modules & (k->n_modules - 1)) == 0) {
		size_t room = k->n_modules ? k->n_modules * 2 : 1;
		struct inspect_module *grown = reallocarray(k->modules, room, sizeof(*grown));

		if (!grown) {
			free(name);
			return -ENOMEM;
		}
		k->modules = grown;
	}
	m = &k->modules[k->n_modules++];
	*m = (struct inspect_module){ .name = name, .path = version + length + 1 };
	k->size_bytes += f->size;
	return inspect_read_module(m, f, kind, is_known);
}

static int inspect_compare(const void *a, const void *b)
{
	return strcmp(((const struct inspect_module *)a)->name,
		      ((const struct inspect_module *)b)->name);
}

const struct inspect_module *inspect_find_module(const struct inspect_kernel *k, const char *name)
{
	char normal[256];
	struct inspect_module key = { .name = normal };

	if (snprintf(normal, sizeof(normal), "%s", name) >= (int)sizeof(normal) ||
	    k->n_modules == 0)
		return NULL;
	for (char *p = normal; *p; p++)
		if (*p == '-')
			*p = '_';
	return bsearch(&key, k->modules, k->n_modules, sizeof(*k->modules), inspect_compare);
}

bool inspect_is_network_driver(const struct inspect_module *m)
{
	static const char *const folders[] = { "kernel/drivers/net/ethernet/",
					       "kernel/drivers/net/usb/" };
	static const char *const others[] = { "virtio_net", "vmxnet3", "hv_netvsc",
					      "xen_netfront" };

	for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
		if (strncmp(m->path, folders[i], strlen(folders[i])) == 0)
			return true;
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (strcmp(m->name, others[i]) == 0)
			return true;
	return false;
}

/* ---- firmware ----------------------------------------------------------------------------- */

const char *inspect_firmware_name(const struct archive_file *f)
{
	for (size_t i = 0; i < ARRAY_SIZE(inspect_firmware); i++)
		if (!S_ISDIR(f->mode) &&
		    strncmp(f->name, inspect_firmware[i], strlen(inspect_firmware[i])) == 0)
			return f->name + strlen(inspect_firmware[i]);
	return NULL;
}

/* name, or what is left of it when it has one of the endings. */
static bool inspect_firmware_fits(const char *pattern, const char *file)
{
	static const char *const endings[] = { "", ".xz", ".zst" };
	char plain[512];

	for (size_t i = 0; i < ARRAY_SIZE(endings); i++) {
		size_t length = strlen(file), ending = strlen(endings[i]);

		if (length <= ending || length >= sizeof(plain) ||
		    strcmp(file + length - ending, endings[i]) != 0)
			continue;
		memcpy(plain, file, length - ending);
		plain[length - ending] = '\0';
		if (fnmatch(pattern, plain, FNM_PATHNAME | FNM_PERIOD) == 0)
			return true;
	}
	return false;
}

bool inspect_has_firmware(const struct inspection *in, const struct inspect_kernel *k,
			  const char *name)
{
	static const char updates[] = "updates/";
	size_t version = strlen(k->version);

	for (size_t i = 0; i < in->archive.n_files; i++) {
		const char *file = inspect_firmware_name(&in->archive.files[i]);

		if (!file)
			continue;
		if (inspect_firmware_fits(name, file))
			return true;
		if (strncmp(file, updates, strlen(updates)) == 0)
			file += strlen(updates);
		if (strncmp(file, k->version, version) == 0 && file[version] == '/')
			file += version + 1;
		if (inspect_firmware_fits(name, file))
			return true;
	}
	return false;
}

/* ---- programs ----------------------------------------------------------------------------- */

/* What a program says of its version: the words after these, to the end of the string or line. */
static const struct {
	const char *path, *words;
} inspect_programs[INSPECT_PROGRAMS] = {
	{ "init", "init (nbdroot) " },
	{ "bin/nbdclient", "nbdclient " },
	{ "bin/busybox", "BusyBox v" },
	{ "sbin/e2fsck", NULL },
};

static char *inspect_version(const struct archive_file *f, const char *words)
{
	const uint8_t *data = f->data;
	size_t left = f->size, length = words ? strlen(words) : 0;

	while (words && (data = memmem(data, left, words, length))) {
		size_t n = 0;

		left = f->size - (size_t)(data - f->data) - length;
		data += length;
		while (n < left && n < 32 &&
		       ((data[n] >= '0' && data[n] <= '9') || data[n] == '.' || data[n] == '-' ||
			(n > 0 && data[n] >= 'a' && data[n] <= 'z')))
			n++;
		if (n > 0 && data[0] >= '0' && data[0] <= '9')
			return strndup((const char *)data, n);
	}
	return NULL;
}

/* For a script it is what its interpreter is for. */
static void inspect_program_machine(const struct inspection *in, struct inspect_program *p)
{
	const struct archive_file *f = p->file;
	struct elf e;

	for (int i = 0; i < 4 && f && f->size > 2 && memcmp(f->data, "#!", 2) == 0; i++) {
		char name[128];
		size_t start = 2, n = 0;

		while (start < f->size && f->data[start] == ' ')
			start++;
		while (start + n < f->size && n < sizeof(name) - 1 && f->data[start + n] > ' ')
			n++;
		memcpy(name, f->data + start, n);
		name[n] = '\0';
		f = archive_find(&in->archive, name);
	}
	if (f && S_ISREG(f->mode) && elf_read(f->data, f->size, &e) == 0 && !e.is_module) {
		p->machine = e.machine;
		p->is_static = e.is_static;
	}
}

static void inspect_find_programs(struct inspection *in)
{
	for (size_t i = 0; i < INSPECT_PROGRAMS; i++) {
		struct inspect_program *p = &in->programs[in->n_programs];

		p->path = inspect_programs[i].path;
		p->file = archive_find(&in->archive, p->path);
		if (!p->file)
			continue;
		inspect_program_machine(in, p);
		p->version = inspect_version(p->file, inspect_programs[i].words);
		in->n_programs++;
	}
}

/* ---- all of it ---------------------------------------------------------------------------- */

/* The value of a line "key=value"; NULL: there is none. */
static char *inspect_line(const struct archive_file *f, const char *key)
{
	const char *text = (const char *)f->data;
	size_t left = f->size, length = strlen(key);

	while (left > 0) {
		const char *end = memchr(text, '\n', left);
		size_t size = end ? (size_t)(end - text) : left;

		if (size > length && memcmp(text, key, length) == 0 && text[length] == '=')
			return strndup(text + length + 1, size - length - 1);
		text += size + (end != NULL);
		left -= size + (end != NULL);
	}
	return NULL;
}

int inspect_read(struct inspection *in, const uint8_t *data, size_t size)
{
	const struct archive_file *origin;
	int r;

	in->size = size;
	r = archive_read(&in->archive, data, size);
	for (size_t i = 0; i < in->archive.n_files && r == 0; i++) {
		const struct archive_file *f = &in->archive.files[i];

		if (inspect_firmware_name(f)) {
			in->n_firmware++;
			in->firmware_bytes += S_ISREG(f->mode) ? f->size : 0;
		}
		for (size_t k = 0; k < ARRAY_SIZE(inspect_lib) && S_ISREG(f->mode) && r == 0; k++)
			if (strncmp(f->name, inspect_lib[k], strlen(inspect_lib[k])) == 0)
				r = inspect_add_module(in, f, inspect_lib[k]);
	}
	if (r < 0)
		return r;
	for (size_t i = 0; i < in->n_kernels; i++) {
		struct inspect_kernel *k = &in->kernels[i];

		if (k->n_modules > 0)
			qsort(k->modules, k->n_modules, sizeof(*k->modules), inspect_compare);
		for (size_t n = 0; n < k->n_modules && k->machine == ELF_NONE; n++)
			k->machine = k->modules[n].machine;
	}
	inspect_find_programs(in);
	origin = archive_find(&in->archive, "etc/nbdroot.initramfs");
	if (origin && S_ISREG(origin->mode)) {
		in->made_by = inspect_line(origin, "version");
		in->drivers = inspect_line(origin, "drivers");
	}
	return 0;
}

int inspect_open(struct inspection *in, const char *path)
{
	size_t size;
	int r;

	*in = (struct inspection){ .path = path };
	r = infile_read(path, ARCHIVE_FILE_MAX, &in->data, &size);
	if (r == 0)
		r = inspect_read(in, in->data, size);
	if (r < 0)
		log_error("%s: cannot be read: %s", path,
			  r == -EINVAL  ? "not a regular file"
			  : r == -EFBIG ? "larger than 1 GiB: no initramfs is"
					: strerror(-r));
	return r;
}

void inspect_close(struct inspection *in)
{
	for (size_t i = 0; i < in->n_kernels; i++) {
		struct inspect_kernel *k = &in->kernels[i];

		for (size_t n = 0; n < k->n_modules; n++) {
			free(k->modules[n].name);
			free(k->modules[n].info);
		}
		free(k->modules);
		free(k->version);
	}
	for (size_t i = 0; i < in->n_programs; i++)
		free(in->programs[i].version);
	free(in->kernels);
	free(in->made_by);
	free(in->drivers);
	archive_deinit(&in->archive);
	free(in->data);
	*in = (struct inspection){ 0 };
}

char *inspect_clean(const char *text)
{
	char *copy = strdup(text);

	for (char *p = copy; p && *p; p++)
		if ((unsigned char)*p < ' ' || *p == 127)
			*p = '?';
	return copy;
}
