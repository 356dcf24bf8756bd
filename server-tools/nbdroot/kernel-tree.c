/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See kernel-tree.h. */
#include "kernel-tree.h"

#include "base/fd.h"
#include "base/log.h"
#include "compress.h"
#include "interrupt.h"
#include "modules.h"
#include "run.h"

#include <fcntl.h>
#include <ftw.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Without these no client mounts anything, whatever --drivers says. */
static const char *const kernel_required[] = { "nbd", "ext4" };
/* The DHCP client's packet sockets; most kernels have them built in. */
static const char *const kernel_helpful[] = { "af_packet" };
/* All of --drivers all that is not below its folders: the cards of virtual machines. */
static const char kernel_virtual[] = "virtio_net,virtio_pci,vmxnet3,hv_netvsc,xen-netfront";
static const char kernel_ethernet[] = "kernel/drivers/net/ethernet/";
/* Chips between a card and its cable: the kernel asks for them by alias when it finds one. */
static const char kernel_phy[] = "kernel/drivers/net/phy/";

/* What libkmod opens at boot: indexes, and the soft dependencies as text. */
static const char *const kernel_indexes[] = {
	"modules.alias.bin", "modules.builtin.alias.bin", "modules.builtin.bin",
	"modules.dep.bin",   "modules.softdep",           "modules.symbols.bin",
};
/* What depmod wants to read besides the modules. */
static const char *const kernel_inputs[] = {
	"modules.builtin",
	"modules.builtin.modinfo",
	"modules.order",
};

void kernel_summary_deinit(struct kernel_summary *s)
{
	free(s->version);
	free(s->skipped);
	*s = (struct kernel_summary){ 0 };
}

char *kernel_version(const char *path)
{
	_cleanup_free_ char *whole = realpath(path, NULL); /* the last part may be a link */

	return whole ? strdup(basename(whole)) : NULL;
}

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
	r = pack_read_file(whole, &data, &size);
	if (r == -ENOENT)
		return 0;
	if (r < 0) {
		log_error("%s: cannot be read: %s", whole, strerror(-r));
		return r;
	}
	*text = data;
	return 0;
}

/* ---- choosing ----------------------------------------------------------------------------- */

static int kernel_skip(struct kernel_summary *s, const char *name, int why)
{
	char *longer;

	if (asprintf(&longer, "%s%s%s (%s)", s->skipped ? s->skipped : "", s->skipped ? ", " : "",
		     name, why == MODULES_E_BUILTIN ? "built in" : "not in this tree") < 0)
		return -ENOMEM;
	free(s->skipped);
	s->skipped = longer;
	return 0;
}

static int kernel_broken(const char *path, const char *name)
{
	log_error("%s: %s depends on a module that is not in modules.dep (run depmod -b for this "
		  "tree)",
		  path, name);
	return -ENOENT;
}

static int kernel_choose_drivers(struct modules *m, const char *path, const char *drivers,
				 struct kernel_summary *s)
{
	_cleanup_free_ char *list = strdup(drivers);
	int r;

	if (!list)
		return -ENOMEM;
	for (char *save, *name = strtok_r(list, ",", &save); name;
	     name = strtok_r(NULL, ",", &save)) {
		size_t count;

		if (strcmp(name, "all") == 0) {
			r = modules_want_folder(m, kernel_ethernet, &count);
			if (r == 0 && count == 0)
				r = kernel_skip(s, "all of drivers/net/ethernet",
						MODULES_E_MISSING);
			if (r == 0)
				r = modules_want_folder(m, kernel_phy, &count);
			if (r == 0)
				r = kernel_choose_drivers(m, path, kernel_virtual, s);
		} else {
			r = modules_want(m, name);
			if (r == MODULES_E_BUILTIN || r == MODULES_E_MISSING)
				r = kernel_skip(s, name, r);
		}
		if (r == MODULES_E_BROKEN)
			r = kernel_broken(path, name);
		if (r < 0)
			return r;
	}
	return 0;
}

static int kernel_choose(struct modules *m, const char *path, const char *drivers,
			 struct kernel_summary *s)
{
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(kernel_required); i++) {
		const char *name = kernel_required[i];

		r = modules_want(m, name);
		if (r == MODULES_E_MISSING) {
			log_error("%s: has no %s module, and the kernel none built in: a client "
				  "cannot mount its root with it (take another kernel, or install "
				  "the package with the rest of its modules)",
				  path, name);
			return -ENOENT;
		}
		if (r == MODULES_E_BUILTIN)
			r = kernel_skip(s, name, r);
		if (r == MODULES_E_BROKEN)
			r = kernel_broken(path, name);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < ARRAY_SIZE(kernel_helpful); i++) {
		r = modules_want(m, kernel_helpful[i]);
		if (r < 0)
			return r;
	}
	return kernel_choose_drivers(m, path, drivers, s);
}

/* ---- the modules -------------------------------------------------------------------------- */

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

static int kernel_read_module(const char *path, void **data, size_t *size, size_t *plain)
{
	enum compress_kind kind = kernel_compression(path, plain);
	_cleanup_free_ void *packed = NULL;
	uint8_t *unpacked;
	int r;

	if (*plain == 0) {
		log_error("%s: compressed in a way that nbdroot does not know (it knows .xz, .zst "
			  "and .gz)",
			  path);
		return -EINVAL;
	}
	r = pack_read_file(path, &packed, size);
	if (r == 0 && kind != COMPRESS_NONE) {
		r = compress_unpack(kind, packed, *size, PACK_FILE_MAX, &unpacked, size);
		if (r == 0) {
			free(packed);
			packed = unpacked;
		}
	}
	if (r == 0 && (*size < 4 || memcmp(packed, "\177ELF", 4) != 0))
		r = -ENOEXEC;
	if (r == -ENOEXEC)
		log_error("%s: not a kernel module (it does not start as an ELF file does)", path);
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

/* ---- depmod's workshop -------------------------------------------------------------------- */

static int kernel_make_folders(char *path)
{
	for (char *p = strchr(path + 1, '/'); p; p = strchr(p + 1, '/')) {
		*p = '\0';
		if (mkdir(path, 0700) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return 0;
}

/* Writes folder/name, with the directories that it goes through. */
static int kernel_write_file(const char *folder, const char *name, const void *data, size_t size)
{
	_cleanup_close_ int fd = -1;
	_cleanup_free_ char *path = NULL;
	int r;

	if (asprintf(&path, "%s/%s", folder, name) < 0)
		return -ENOMEM;
	r = kernel_make_folders(path);
	if (r == 0) {
		fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		r = fd < 0 ? -errno : fd_write_all(fd, data, size);
	}
	if (r < 0)
		log_error("%s: cannot be written: %s", path, strerror(-r));
	return r;
}

static int kernel_remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void kernel_remove_workshop(char **folder)
{
	if (*folder)
		nftw(*folder, kernel_remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(*folder);
}
#define _cleanup_workshop_ _cleanup_(kernel_remove_workshop)

/* Its path, malloced; NULL, already reported, when there is none to be had. */
static char *kernel_make_workshop(void)
{
	const char *tmp = getenv("TMPDIR");
	_cleanup_free_ char *path = NULL;

	if (asprintf(&path, "%s/nbdroot.XXXXXX", tmp && tmp[0] ? tmp : "/tmp") < 0) {
		path = NULL;
		return NULL;
	}
	if (!mkdtemp(path)) {
		log_error("%s: cannot be created: %s (TMPDIR says where)", path, strerror(errno));
		return NULL;
	}
	return steal_ptr(&path);
}

/* Only depmod's own rules and this tree's texts count, not this machine's /etc/depmod.d. */
static int kernel_run_depmod(const char *workshop, const char *tree, const char *version)
{
	_cleanup_free_ char *config = NULL;
	int r;

	if (asprintf(&config, "%s/depmod.d", workshop) < 0)
		return -ENOMEM;
	if (mkdir(config, 0700) < 0)
		return -errno;
	const char *const command[] = { "depmod", "-b", workshop, "-C", config, version, NULL };

	r = run_program(command);
	if (r == 0)
		return 0;
	if (r == RUN_E_MISSING)
		log_error("%s: cannot be indexed: depmod is not installed (install kmod)", tree);
	else if (r < 0)
		log_error("%s: cannot be indexed: depmod cannot be run: %s", tree, strerror(-r));
	else
		log_error("%s: cannot be indexed: depmod failed (it says why above)", tree);
	return r < 0 ? r : -EIO;
}

static int kernel_copy_inputs(const char *tree, const char *folder)
{
	for (size_t i = 0; i < ARRAY_SIZE(kernel_inputs); i++) {
		_cleanup_free_ char *path = NULL;
		_cleanup_free_ void *data = NULL;
		size_t size = 0;
		int r;

		if (asprintf(&path, "%s/%s", tree, kernel_inputs[i]) < 0)
			return -ENOMEM;
		r = pack_read_file(path, &data, &size);
		if (r < 0 && r != -ENOENT) {
			log_error("%s: cannot be read: %s", path, strerror(-r));
			return r;
		}
		/* depmod warns about those that are not there, and does without. */
		r = kernel_write_file(folder, kernel_inputs[i], data, size);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- all of it ---------------------------------------------------------------------------- */

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

static int kernel_add_module(struct pack *p, const char *tree, const char *folder,
			     const struct module *it, struct kernel_summary *s)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_free_ char *name = NULL;
	_cleanup_free_ void *data = NULL;
	size_t size, plain;
	int r;

	if (interrupt_pending())
		return -EINTR;
	if (asprintf(&path, "%s/%.*s", tree, (int)it->path_length, it->path) < 0)
		return -ENOMEM;
	r = kernel_read_module(path, &data, &size, &plain);
	if (r < 0)
		return r;
	name = strndup(path + strlen(tree) + 1, plain - strlen(tree) - 1);
	if (!name)
		return -ENOMEM;
	r = kernel_write_file(folder, name, data, size);
	if (r < 0)
		return r;
	s->modules++;
	s->size_bytes += size;
	return kernel_pack(p, s->version, name, steal_ptr(&data), size);
}

static int kernel_add_indexes(struct pack *p, const char *folder, const char *version)
{
	for (size_t i = 0; i < ARRAY_SIZE(kernel_indexes); i++) {
		_cleanup_free_ char *path = NULL;
		void *data;
		size_t size;
		int r;

		if (asprintf(&path, "%s/%s", folder, kernel_indexes[i]) < 0)
			return -ENOMEM;
		r = pack_read_file(path, &data, &size);
		if (r == -ENOENT)
			continue; /* an older depmod makes fewer of them */
		if (r == 0)
			r = kernel_pack(p, version, kernel_indexes[i], data, size);
		if (r < 0) {
			log_error("%s: cannot be packed: %s", path, strerror(-r));
			return r;
		}
	}
	return 0;
}

static int kernel_add_chosen(struct pack *p, const char *tree, const struct modules *m,
			     struct kernel_summary *s)
{
	_cleanup_workshop_ char *workshop = kernel_make_workshop();
	_cleanup_free_ char *folder = NULL;
	int r;

	if (!workshop)
		return -EIO;
	if (asprintf(&folder, "%s/lib/modules/%s", workshop, s->version) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < m->count; i++) {
		if (!m->list[i].is_wanted)
			continue;
		r = kernel_add_module(p, tree, folder, &m->list[i], s);
		if (r < 0)
			return r;
	}
	r = kernel_copy_inputs(tree, folder);
	if (r == 0)
		r = kernel_run_depmod(workshop, tree, s->version);
	if (r == 0)
		r = kernel_add_indexes(p, folder, s->version);
	return r;
}

int kernel_add(struct pack *p, const char *path, const char *drivers, struct kernel_summary *s)
{
	_cleanup_free_ char *dep = NULL;
	_cleanup_free_ char *softdep = NULL;
	_cleanup_free_ char *alias = NULL;
	_cleanup_free_ char *builtin = NULL;
	_cleanup_(modules_deinit) struct modules m = { 0 };
	struct modules_texts texts;
	int r;

	s->version = kernel_version(path);
	if (!s->version) {
		r = -errno;
		log_error("%s: no kernel's modules: %s", path, strerror(-r));
		return r;
	}
	r = kernel_read_text(path, "modules.dep", &dep);
	if (r == 0)
		r = kernel_read_text(path, "modules.softdep", &softdep);
	if (r == 0)
		r = kernel_read_text(path, "modules.alias", &alias);
	if (r == 0)
		r = kernel_read_text(path, "modules.builtin", &builtin);
	if (r < 0)
		return r;
	if (!dep) {
		log_error("%s: has no modules.dep (is it DIR/lib/modules/VERSION? depmod -b DIR "
			  "VERSION makes it)",
			  path);
		return -ENOENT;
	}
	texts = (struct modules_texts){ dep, softdep, alias, builtin };
	r = modules_init(&m, &texts);
	if (r == 0)
		r = kernel_choose(&m, path, drivers, s);
	if (r == 0)
		r = kernel_add_chosen(p, path, &m, s);
	if (r == -ENOMEM)
		log_error("%s: out of memory", path);
	return r;
}
