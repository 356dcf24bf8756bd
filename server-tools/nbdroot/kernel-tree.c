/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See kernel-tree.h. */
#include "kernel-tree.h"

#include "base/log.h"
#include "compress.h"
#include "depmod.h"
#include "infile.h"
#include "interrupt.h"
#include "kernel-choose.h"

#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* What libkmod opens at boot: indexes, and the soft dependencies as text. */
static const char *const kernel_indexes[] = {
	"modules.alias.bin", "modules.builtin.alias.bin", "modules.builtin.bin",
	"modules.dep.bin",   "modules.softdep",           "modules.symbols.bin",
};
/* What depmod wants to read besides the modules; the first is packed too, for --check. */
static const char *const kernel_inputs[] = {
	"modules.builtin",
	"modules.builtin.modinfo",
	"modules.order",
};

void kernel_deinit(struct kernel *k)
{
	modules_deinit(&k->modules);
	free(k->version);
	free(k->dep);
	free(k->softdep);
	free(k->alias);
	free(k->builtin);
	free(k->skipped);
	free(k->dark);
	*k = (struct kernel){ 0 };
}

char *kernel_version(const char *path)
{
	_cleanup_free_ char *whole = realpath(path, NULL); /* the last part may be a link */

	return whole ? strdup(basename(whole)) : NULL;
}

int kernel_list_add(char **list, const char *word)
{
	char *longer;

	if (asprintf(&longer, "%s%s%s", *list ? *list : "", *list ? ", " : "", word) < 0)
		return -ENOMEM;
	free(*list);
	*list = longer;
	return 0;
}

/* ---- reading the tree --------------------------------------------------------------------- */

/* A file of the tree as a string; NULL in *text when it is not there. */
static int kernel_read_text(const char *path, const char *file, char **text)
{
	_cleanup_free_ char *whole = NULL;
	void *data = NULL;
	size_t size;
	int r;

	*text = NULL;
	if (asprintf(&whole, "%s/%s", path, file) < 0)
		return -ENOMEM;
	r = infile_read(whole, PACK_FILE_MAX, &data, &size);
	if (r == -ENOENT)
		return 0;
	if (r < 0) {
		log_error("%s: cannot be read: %s", whole, strerror(-r));
		return r;
	}
	*text = data;
	return 0;
}

/* By the name: depmod and libkmod go by it too. *plain: the length without the ending. */
static enum compress_kind kernel_compression(const char *path, size_t *plain)
{
	static const struct {
		const char *ending;
		enum compress_kind kind;
	} kinds[] = {
		{ ".ko", COMPRESS_NONE },
		{ ".ko.gz", COMPRESS_GZIP },
		{ ".ko.xz", COMPRESS_XZ },
		{ ".ko.zst", COMPRESS_ZSTD },
	};
	size_t length = strlen(path);

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		size_t ending = strlen(kinds[i].ending);

		if (length <= ending || strcmp(path + length - ending, kinds[i].ending) != 0)
			continue;
		*plain = length - ending + strlen(".ko");
		return kinds[i].kind;
	}
	*plain = 0;
	return COMPRESS_NONE;
}

int kernel_read_module(const char *path, void **data, size_t *size, size_t *plain)
{
	enum compress_kind kind = kernel_compression(path, plain);
	_cleanup_free_ void *packed = NULL;
	uint8_t *unpacked;
	struct elf e;
	int r;

	if (*plain == 0) {
		log_error("%s: compressed in a way that nbdroot does not know (it knows .xz, .zst "
			  "and .gz)",
			  path);
		return -EINVAL;
	}
	r = infile_read(path, PACK_FILE_MAX, &packed, size);
	if (r == 0 && kind != COMPRESS_NONE) {
		r = compress_unpack(kind, packed, *size, PACK_FILE_MAX, &unpacked, size);
		if (r == 0) {
			free(packed);
			packed = unpacked;
		}
	}
	if (r == 0 && (elf_read(packed, *size, &e) < 0 || !e.is_module))
		r = -ENOEXEC;
	if (r == -ENOEXEC)
		log_error("%s: not a kernel module (no ELF file, or not all of it)", path);
	else if (r == -EFBIG)
		log_error("%s: larger than %d MiB: no module is", path, PACK_FILE_MAX >> 20);
	else if (r == -EBADMSG)
		log_error("%s: damaged: cannot be unpacked", path);
	else if (r < 0)
		log_error("%s: cannot be read: %s", path, strerror(-r));
	if (r == 0)
		*data = steal_ptr(&packed);
	return r;
}

/* One module knows for which machine they all are. */
static int kernel_find_machine(struct kernel *k)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_free_ void *data = NULL;
	size_t size, plain;
	struct elf e;
	int r;

	if (k->modules.count == 0)
		return 0;
	if (asprintf(&path, "%s/%.*s", k->path, (int)k->modules.list[0].path_length,
		     k->modules.list[0].path) < 0)
		return -ENOMEM;
	r = kernel_read_module(path, &data, &size, &plain);
	if (r < 0)
		return r;
	if (elf_read(data, size, &e) == 0)
		k->machine = e.machine;
	if (k->machine != ELF_OTHER)
		return 0;
	log_error("%s: for another kind of machine (ELF machine %u): nbdroot packs for x86, 32-bit "
		  "and 64-bit, only",
		  k->path, e.number);
	return -ENOEXEC;
}

int kernel_open(struct kernel *k, const char *path)
{
	struct modules_texts texts;
	int r;

	*k = (struct kernel){ .path = path };
	k->version = kernel_version(path);
	if (!k->version) {
		r = -errno;
		log_error("%s: no kernel's modules: %s", path, strerror(-r));
		return r;
	}
	r = kernel_read_text(path, "modules.dep", &k->dep);
	if (r == 0)
		r = kernel_read_text(path, "modules.softdep", &k->softdep);
	if (r == 0)
		r = kernel_read_text(path, "modules.alias", &k->alias);
	if (r == 0)
		r = kernel_read_text(path, "modules.builtin", &k->builtin);
	if (r == 0 && !k->dep) {
		log_error("%s: has no modules.dep (is it DIR/lib/modules/VERSION? depmod -b DIR "
			  "VERSION makes it)",
			  path);
		return -ENOENT;
	}
	if (r == 0) {
		texts = (struct modules_texts){ k->dep, k->softdep, k->alias, k->builtin };
		r = modules_init(&k->modules, &texts);
	}
	if (r == 0)
		r = kernel_find_machine(k);
	if (r == -ENOMEM)
		log_error("%s: out of memory", path);
	return r;
}

/* ---- packing ------------------------------------------------------------------------------ */

/* Adds one file of the archive's lib/modules/VERSION. data becomes the pack's. */
static int kernel_pack(struct pack *p, const char *version, const char *name, void *data,
		       size_t size)
{
	_cleanup_free_ char *whole = NULL;

	if (asprintf(&whole, "lib/modules/%s/%s", version, name) < 0) {
		free(data);
		return -ENOMEM;
	}
	return pack_add(p, whole, S_IFREG | 0644, data, size);
}

static int kernel_copy_inputs(const struct depmod *d, struct pack *p, const struct kernel *k)
{
	for (size_t i = 0; i < ARRAY_SIZE(kernel_inputs); i++) {
		_cleanup_free_ char *path = NULL;
		_cleanup_free_ void *data = NULL;
		size_t size = 0;
		bool is_there = true;
		int r;

		if (asprintf(&path, "%s/%s", k->path, kernel_inputs[i]) < 0)
			return -ENOMEM;
		r = infile_read(path, PACK_FILE_MAX, &data, &size);
		if (r == -ENOENT)
			is_there = false;
		else if (r < 0) {
			log_error("%s: cannot be read: %s", path, strerror(-r));
			return r;
		}
		/* depmod warns about those that are not there, and does without. */
		r = depmod_put(d, kernel_inputs[i], data, size);
		if (r == 0 && i == 0 && is_there)
			r = kernel_pack(p, k->version, kernel_inputs[i], steal_ptr(&data), size);
		if (r < 0)
			return r;
	}
	return 0;
}

static int kernel_add_indexes(const struct depmod *d, struct pack *p)
{
	for (size_t i = 0; i < ARRAY_SIZE(kernel_indexes); i++) {
		_cleanup_free_ char *path = NULL;
		void *data;
		size_t size;
		int r;

		if (asprintf(&path, "%s/%s", d->modules, kernel_indexes[i]) < 0)
			return -ENOMEM;
		r = infile_read(path, PACK_FILE_MAX, &data, &size);
		if (r == -ENOENT)
			continue; /* an older depmod makes fewer of them */
		if (r == 0)
			r = kernel_pack(p, d->version, kernel_indexes[i], data, size);
		if (r < 0) {
			log_error("%s: cannot be packed: %s", path, strerror(-r));
			return r;
		}
	}
	return 0;
}

static int kernel_add_firmware(struct pack *p, struct kernel *k, struct firmware *fw,
			       const char *folder, const struct module *it, const struct elf *e)
{
	const char *name;
	size_t at = 0, named = 0, found = 0;

	while ((name = elf_info(e, "firmware", &at))) {
		size_t n;
		int r = firmware_add(fw, p, folder, k->version, name, &n);

		if (r < 0)
			return r;
		named++;
		found += n;
	}
	return named > 0 && found == 0 ? kernel_list_add(&k->dark, it->name) : 0;
}

static int kernel_add_module(struct pack *p, struct kernel *k, struct firmware *fw,
			     const char *folder, const struct depmod *d, const struct module *it)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_free_ char *name = NULL;
	_cleanup_free_ void *data = NULL;
	size_t size, plain;
	struct elf e;
	int r;

	if (interrupt_pending())
		return -EINTR;
	if (asprintf(&path, "%s/%.*s", k->path, (int)it->path_length, it->path) < 0)
		return -ENOMEM;
	r = kernel_read_module(path, &data, &size, &plain);
	if (r < 0)
		return r;
	if (elf_read(data, size, &e) < 0 || e.machine != k->machine) {
		log_error(
			"%s: for %s machines, in a tree for %s (one tree has one kernel's modules)",
			path, elf_machine_name(e.machine), elf_machine_name(k->machine));
		return -ENOEXEC;
	}
	r = kernel_add_firmware(p, k, fw, folder, it, &e);
	if (r < 0)
		return r;
	name = strndup(path + strlen(k->path) + 1, plain - strlen(k->path) - 1);
	if (!name)
		return -ENOMEM;
	r = depmod_put(d, name, data, size);
	if (r < 0)
		return r;
	k->count++;
	k->size_bytes += size;
	return kernel_pack(p, k->version, name, steal_ptr(&data), size);
}

static int kernel_add_chosen(struct pack *p, struct kernel *k, struct firmware *fw)
{
	_cleanup_free_ char *folder = firmware_folder(fw, k->path);
	_cleanup_(depmod_deinit) struct depmod d = { 0 };
	int r;

	if (!folder)
		return -ENOMEM;
	r = depmod_init(&d, k->version);
	for (size_t i = 0; i < k->modules.count && r == 0; i++)
		if (k->modules.list[i].is_wanted)
			r = kernel_add_module(p, k, fw, folder, &d, &k->modules.list[i]);
	if (r == 0)
		r = kernel_copy_inputs(&d, p, k);
	if (r == 0)
		r = depmod_run(&d, k->path);
	if (r == 0)
		r = kernel_add_indexes(&d, p);
	return r;
}

int kernel_add(struct pack *p, struct kernel *k, const char *drivers, struct firmware *fw)
{
	int r = kernel_choose(k, drivers);

	if (r == 0)
		r = kernel_add_chosen(p, k, fw);
	if (r == -ENOMEM)
		log_error("%s: out of memory", k->path);
	return r;
}
