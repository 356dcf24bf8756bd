/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See initramfs.h. */
#include "initramfs.h"

#include "base/log.h"
#include "compress.h"
#include "epoch.h"
#include "interrupt.h"
#include "kernel-tree.h"
#include "outfile.h"

#include <getopt.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#ifndef NBDROOT_LIBDIR
#define NBDROOT_LIBDIR "/usr/local/lib/nbdroot"
#endif

enum { EXIT_USAGE = 2, INITRAMFS_KERNELS_MAX = 32 };

/* What QEMU's and most offices' machines have. */
static const char initramfs_drivers[] = "virtio_net,virtio_pci,e1000,e1000e,r8169";

static const char initramfs_usage[] =
	"usage: nbdroot initramfs -o FILE [--modules DIR/lib/modules/VERSION]...\n"
	"                         [--drivers all|LIST] [--compress zstd|xz|gzip]\n"
	"                         [--program-dir DIR]\n";

static const char initramfs_help[] =
	"\n"
	"Packs init, nbdclient, busybox and kernel modules into an initramfs.\n"
	"  -o, --output FILE   where to; an older FILE is replaced when the new one is complete\n"
	"  --modules TREE      take modules from there, for one or several kernels; without it\n"
	"                      none are taken (a kernel with everything built in)\n"
	"  --drivers LIST      network drivers, separated by commas; \"all\" is every Ethernet "
	"driver\n"
	"                      of the tree (default: virtio_net,virtio_pci,e1000,e1000e,r8169);\n"
	"                      nbd and ext4 are always taken\n"
	"  --compress KIND     default: zstd, or xz when a kernel is older than 5.9\n"
	"  --program-dir DIR   where init, nbdclient, busybox and udhcpc.script are\n"
	"\n"
	"The same input gives the same bytes; times are SOURCE_DATE_EPOCH, or 1970.\n"
	"Exit: 0 done, 1 failed, 2 wrong usage.\n";

struct initramfs {
	const char *output;
	const char *trees[INITRAMFS_KERNELS_MAX];
	size_t n_trees;
	const char *drivers;
	bool has_kind;
	enum compress_kind kind;
	const char *program_dir;
};

static bool initramfs_has_programs(const char *folder)
{
	static const char *const names[] = { "init", "busybox" };
	char path[PATH_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		int n = snprintf(path, sizeof(path), "%s/%s", folder, names[i]);

		if (n >= (int)sizeof(path) || access(path, F_OK) < 0)
			return false;
	}
	return true;
}

/*
 * Beside our own program when that is in a build folder; else where it was installed, which is
 * found from the program's own place (PREFIX/sbin), so that a moved installation works too.
 */
static int initramfs_find_programs(char out[static PATH_MAX])
{
	static const char *const places[] = { "", "/../lib/nbdroot" };
	char self[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (length > 0) {
		const char *folder;

		self[length] = '\0';
		folder = dirname(self);
		for (size_t i = 0; i < ARRAY_SIZE(places); i++)
			if (snprintf(out, PATH_MAX, "%s%s", folder, places[i]) < PATH_MAX &&
			    initramfs_has_programs(out))
				return 0;
	}
	if (initramfs_has_programs(NBDROOT_LIBDIR)) {
		snprintf(out, PATH_MAX, "%s", NBDROOT_LIBDIR);
		return 0;
	}
	log_error("init and busybox are neither beside nbdroot nor in " NBDROOT_LIBDIR
		  " (install them, or say with --program-dir where they are)");
	return -ENOENT;
}

/* Linux 5.9 is the first that unpacks zstd. */
static bool initramfs_is_before_zstd(const char *version)
{
	unsigned major, minor;

	return sscanf(version, "%u.%u", &major, &minor) == 2 &&
	       (major < 5 || (major == 5 && minor < 9));
}

static enum compress_kind initramfs_kind(const struct initramfs *i, const struct kernel_summary *s)
{
	if (i->has_kind)
		return i->kind;
	for (size_t k = 0; k < i->n_trees; k++)
		if (initramfs_is_before_zstd(s[k].version))
			return COMPRESS_XZ;
	return COMPRESS_ZSTD;
}

static int initramfs_add_kernels(const struct initramfs *i, struct pack *p,
				 struct kernel_summary *s)
{
	for (size_t k = 0; k < i->n_trees; k++) {
		int r;

		if (interrupt_pending())
			return -EINTR;
		r = kernel_add(p, i->trees[k], i->drivers, &s[k]);
		if (r < 0)
			return r;
		if (s[k].skipped)
			log_info("%s: left out: %s", s[k].version, s[k].skipped);
	}
	return 0;
}

static void initramfs_report(const struct initramfs *i, const struct kernel_summary *s, off_t size)
{
	printf("%s: %lld KiB", i->output, (long long)(size + 1023) / 1024);
	for (size_t k = 0; k < i->n_trees; k++)
		printf("; %s: %zu modules (%zu KiB)", s[k].version, s[k].modules,
		       s[k].size_bytes / 1024);
	if (i->n_trees == 0)
		printf("; no modules");
	putchar('\n');
}

static int initramfs_make(const struct initramfs *i, struct kernel_summary *s)
{
	_cleanup_outfile_ struct outfile o = { .fd = -1 };
	_cleanup_(pack_deinit) struct pack p = { 0 };
	_cleanup_(cpio_deinit) struct cpio c = { 0 };
	char programs[PATH_MAX];
	uint32_t epoch;
	bool has_epoch;
	off_t size;
	int r;

	r = epoch_read(&has_epoch, &epoch);
	if (r == 0 && !i->program_dir)
		r = initramfs_find_programs(programs);
	if (r == 0)
		r = outfile_open(&o, i->output, 0644, true);
	if (r == 0)
		r = pack_add_base(&p, i->program_dir ? i->program_dir : programs);
	if (r == 0)
		r = initramfs_add_kernels(i, &p, s);
	if (r < 0)
		return r;
	cpio_init(&c, epoch);
	r = pack_archive(&p, &c);
	if (r == 0)
		r = compress_write(initramfs_kind(i, s), c.data, c.size, o.fd);
	if (r < 0) {
		if (!interrupt_pending())
			log_error("%s: cannot be written: %s (nothing was created)", i->output,
				  strerror(-r));
		return r;
	}
	size = lseek(o.fd, 0, SEEK_END);
	r = outfile_commit(&o);
	if (r == 0)
		initramfs_report(i, s, size);
	return r;
}

/* ---- the command line --------------------------------------------------------------------- */

static int initramfs_take_kind(struct initramfs *i, const char *text)
{
	static const struct {
		const char *name;
		enum compress_kind kind;
	} kinds[] = {
		{ "zstd", COMPRESS_ZSTD },
		{ "xz", COMPRESS_XZ },
		{ "gzip", COMPRESS_GZIP },
	};

	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		if (strcmp(text, kinds[k].name) != 0)
			continue;
		i->kind = kinds[k].kind;
		i->has_kind = true;
		return 0;
	}
	log_error("--compress %s: not known: zstd, xz or gzip", text);
	return EXIT_USAGE;
}

/* 0: go on; else an exit status. */
static int initramfs_take_tree(struct initramfs *i, const char *path)
{
	_cleanup_free_ char *version = kernel_version(path);

	if (!version) {
		log_error("--modules %s: %s", path, strerror(errno));
		return 1;
	}
	for (size_t k = 0; k < i->n_trees; k++) {
		_cleanup_free_ char *other = kernel_version(i->trees[k]);

		if (other && strcmp(other, version) == 0) {
			log_error("--modules %s: kernel %s is given twice", path, version);
			return EXIT_USAGE;
		}
	}
	if (i->n_trees == INITRAMFS_KERNELS_MAX) {
		log_error("--modules %s: more than %d kernels", path, INITRAMFS_KERNELS_MAX);
		return EXIT_USAGE;
	}
	i->trees[i->n_trees++] = path;
	return 0;
}

int initramfs_main(int argc, char *argv[])
{
	static const struct option options[] = {
		{ "output", required_argument, NULL, 'o' },
		{ "modules", required_argument, NULL, 'm' },
		{ "drivers", required_argument, NULL, 'd' },
		{ "compress", required_argument, NULL, 'c' },
		{ "program-dir", required_argument, NULL, 'p' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	static char title[] = "nbdroot initramfs";
	struct initramfs i = { .drivers = initramfs_drivers };
	struct kernel_summary summaries[INITRAMFS_KERNELS_MAX] = { 0 };
	int option, r;

	argv[0] = title; /* what getopt's messages start with */
	while ((option = getopt_long(argc, argv, "o:h", options, NULL)) >= 0) {
		r = 0;
		switch (option) {
		case 'o': i.output = optarg; break;
		case 'm': r = initramfs_take_tree(&i, optarg); break;
		case 'd': i.drivers = optarg; break;
		case 'c': r = initramfs_take_kind(&i, optarg); break;
		case 'p': i.program_dir = optarg; break;
		case 'h': printf("%s%s", initramfs_usage, initramfs_help); return 0;
		default: return EXIT_USAGE;
		}
		if (r != 0)
			return r;
	}
	if (!i.output || optind != argc) {
		log_error("initramfs: wants -o FILE, and no other name (see nbdroot initramfs "
			  "--help)");
		return EXIT_USAGE;
	}
	r = initramfs_make(&i, summaries);
	for (size_t k = 0; k < INITRAMFS_KERNELS_MAX; k++)
		kernel_summary_deinit(&summaries[k]);
	return r == 0 ? 0 : 1;
}
