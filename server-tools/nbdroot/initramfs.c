/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See initramfs.h. */
#include "initramfs.h"

#include "base/log.h"
#include "compress.h"
#include "epoch.h"
#include "inspect.h"
#include "interrupt.h"
#include "kernel-config.h"
#include "kernel-tree.h"
#include "outfile.h"
#include "programs.h"

#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { EXIT_USAGE = 2, INITRAMFS_KERNELS_MAX = 32 };

static const char initramfs_usage[] =
	"usage: nbdroot initramfs -o FILE [--modules DIR/lib/modules/VERSION]...\n"
	"                         [--drivers all|LIST] [--firmware DIR|none]\n"
	"                         [--arch amd64|i386] [--fsck auto|PATH]\n"
	"                         [--compress zstd|xz|gzip] [--program-dir DIR]\n"
	"       nbdroot initramfs --list|--check FILE [--json]\n";

static const char initramfs_help[] =
	"\n"
	"Packs init, nbdclient, busybox and kernel modules into an initramfs.\n"
	"  -o, --output FILE   where to; an older FILE is replaced when the new one is complete\n"
	"  --modules TREE      take modules from there, for one or several kernels; without it\n"
	"                      none are taken (a kernel with everything built in)\n"
	"  --drivers LIST      names of modules, separated by commas; \"all\", the default, is\n"
	"                      every network driver of the tree (Ethernet, USB, virtual).\n"
	"                      nbd, ext4, overlay, NFS and VLANs are always taken; add others\n"
	"                      as in all,xfs,squashfs\n"
	"  --firmware DIR      where the files are that drivers load into their cards; \"none\"\n"
	"                      takes none (default: lib/firmware beside lib/modules)\n"
	"  --arch amd64|i386   i386 is for 32-bit and 64-bit machines alike, and the default\n"
	"                      when one of the kernels is a 32-bit one\n"
	"  --fsck auto|PATH    take a static e2fsck along; auto: /sbin/e2fsck.static\n"
	"  --compress KIND     default: zstd, or xz when a kernel is older than 5.9\n"
	"  --program-dir DIR   where init, nbdclient, busybox and udhcpc.script are\n"
	"\n"
	"Of an archive, made by nbdroot or by another tool:\n"
	"  --list FILE         tell what is inside: kernels, modules, programs, firmware\n"
	"  --check FILE        explain what is missing; exits with 1 when machines will not boot\n"
	"  --json              as one JSON object\n"
	"\n"
	"The same input gives the same bytes; times are SOURCE_DATE_EPOCH, or 1970.\n"
	"Exit: 0 done, 1 failed, 2 wrong usage.\n";

struct initramfs {
	const char *output;
	const char *trees[INITRAMFS_KERNELS_MAX];
	struct kernel kernels[INITRAMFS_KERNELS_MAX];
	size_t n_trees;
	const char *drivers;
	struct firmware firmware;
	enum elf_machine arch;
	const char *fsck;
	bool has_kind;
	enum compress_kind kind;
	const char *program_dir;
	struct programs programs;
	/* --list, --check: */
	const char *listed, *checked;
	bool as_json;
};

static const struct {
	const char *name;
	enum compress_kind kind;
	const char *option; /* of the kernel's configuration */
} initramfs_kinds[] = {
	/* best first */
	{ "zstd", COMPRESS_ZSTD, "RD_ZSTD" },
	{ "xz", COMPRESS_XZ, "RD_XZ" },
	{ "gzip", COMPRESS_GZIP, "RD_GZIP" },
};

/* ---- making it ---------------------------------------------------------------------------- */

/* Linux 5.9 is the first that unpacks zstd. */
static bool initramfs_is_before_zstd(const char *version)
{
	unsigned major, minor;

	return sscanf(version, "%u.%u", &major, &minor) == 2 &&
	       (major < 5 || (major == 5 && minor < 9));
}

/* NULL: as far as can be known; else the version of a kernel that does not unpack this kind. */
static const char *initramfs_who_cannot_unpack(const struct initramfs *i, size_t kind)
{
	for (size_t k = 0; k < i->n_trees; k++) {
		const char *version = i->kernels[k].version;

		if ((initramfs_kinds[kind].kind == COMPRESS_ZSTD &&
		     initramfs_is_before_zstd(version)) ||
		    kernel_config(i->trees[k], initramfs_kinds[kind].option) == KERNEL_CONFIG_NO)
			return version;
	}
	return NULL;
}

static int initramfs_choose_kind(struct initramfs *i)
{
	for (size_t k = 0; k < ARRAY_SIZE(initramfs_kinds); k++) {
		const char *who;

		if (i->has_kind && i->kind != initramfs_kinds[k].kind)
			continue;
		who = initramfs_who_cannot_unpack(i, k);
		if (!who) {
			i->kind = initramfs_kinds[k].kind;
			return 0;
		}
		if (i->has_kind) {
			log_error(
				"--compress %s: kernel %s cannot unpack it (leave --compress out, "
				"and nbdroot takes one that all kernels know)",
				initramfs_kinds[k].name, who);
			return -EINVAL;
		}
	}
	log_error("there is no compression that all of these kernels know; make an archive for "
		  "each");
	return -EINVAL;
}

static int initramfs_open_kernels(struct initramfs *i)
{
	for (size_t k = 0; k < i->n_trees; k++) {
		int r = kernel_open(&i->kernels[k], i->trees[k]);

		if (r < 0)
			return r;
	}
	return 0;
}

static int initramfs_add_kernels(struct initramfs *i, struct pack *p)
{
	for (size_t n = 0; n < i->n_trees; n++) {
		struct kernel *k = &i->kernels[n];
		int r;

		if (interrupt_pending())
			return -EINTR;
		r = kernel_add(p, k, i->drivers, &i->firmware);
		if (r < 0)
			return r;
		if (k->skipped)
			log_info("%s: left out: %s", k->version, k->skipped);
		if (k->dark && !i->firmware.is_off)
			log_info("%s: no firmware found for: %s (cards that do not work without "
				 "it will not; --firmware says where the files are)",
				 k->version, k->dark);
	}
	return 0;
}

/* What --list tells of an archive's making. */
static int initramfs_add_origin(const struct initramfs *i, struct pack *p)
{
	char *text;
	int length = asprintf(&text, "version=%s\narch=%s\ndrivers=%s\n", NBDROOT_VERSION,
			      elf_machine_name(i->programs.machine), i->drivers);

	if (length < 0)
		return -ENOMEM;
	return pack_add(p, "etc/nbdroot.initramfs", S_IFREG | 0644, text, (size_t)length);
}

static int initramfs_fill(struct initramfs *i, struct pack *p)
{
	int r = initramfs_open_kernels(i);

	if (r == 0)
		r = initramfs_choose_kind(i);
	if (r == 0)
		r = programs_find(&i->programs, i->arch, i->program_dir, i->kernels, i->n_trees);
	if (r == 0)
		r = pack_add_base(p, i->programs.folder, i->programs.scripts);
	if (r == 0)
		r = initramfs_add_origin(i, p);
	if (r == 0 && i->fsck)
		r = programs_add_fsck(&i->programs, p, i->fsck);
	if (r == 0)
		r = initramfs_add_kernels(i, p);
	return r;
}

/*
 * Archive and what comes of it are in memory at the same time, beside the kernel: Debian's 6.1 for
 * amd64 wants 90 to 98 MiB for itself, and panics when it has less (docs/initramfs.md).
 */
enum { INITRAMFS_KERNEL_MIB = 100 };

static void initramfs_report(const struct initramfs *i, off_t size, size_t unpacked)
{
	printf("%s: %lld KiB, for %s", i->output, (long long)(size + 1023) / 1024,
	       elf_machine_name(i->programs.machine));
	for (size_t k = 0; k < i->n_trees; k++)
		printf("; %s: %zu modules (%zu KiB)", i->kernels[k].version, i->kernels[k].count,
		       i->kernels[k].size_bytes / 1024);
	if (i->n_trees == 0)
		printf("; no modules");
	if (i->firmware.count > 0)
		printf("; %zu firmware files (%zu KiB)", i->firmware.count,
		       i->firmware.size_bytes / 1024);
	printf("; clients need about %zu MiB of memory\n",
	       (((size_t)size + unpacked) >> 20) + INITRAMFS_KERNEL_MIB);
}

static int initramfs_make(struct initramfs *i)
{
	_cleanup_outfile_ struct outfile o = { .fd = -1 };
	_cleanup_(pack_deinit) struct pack p = { 0 };
	_cleanup_(cpio_deinit) struct cpio c = { 0 };
	uint32_t epoch;
	bool has_epoch;
	off_t size;
	int r;

	r = epoch_read(&has_epoch, &epoch);
	if (r == 0)
		r = outfile_open(&o, i->output, 0644, true);
	if (r == 0)
		r = initramfs_fill(i, &p);
	if (r < 0)
		return r;
	cpio_init(&c, epoch);
	r = pack_archive(&p, &c);
	if (r == 0)
		r = compress_write(i->kind, c.data, c.size, o.fd);
	if (r < 0) {
		if (!interrupt_pending())
			log_error("%s: cannot be written: %s (nothing was created)", i->output,
				  strerror(-r));
		return r;
	}
	size = lseek(o.fd, 0, SEEK_END);
	r = outfile_commit(&o);
	if (r == 0)
		initramfs_report(i, size, c.size);
	return r;
}

/* ---- the command line --------------------------------------------------------------------- */

static int initramfs_take_kind(struct initramfs *i, const char *text)
{
	for (size_t k = 0; k < ARRAY_SIZE(initramfs_kinds); k++) {
		if (strcmp(text, initramfs_kinds[k].name) != 0)
			continue;
		i->kind = initramfs_kinds[k].kind;
		i->has_kind = true;
		return 0;
	}
	log_error("--compress %s: not known: zstd, xz or gzip", text);
	return EXIT_USAGE;
}

static int initramfs_take_arch(struct initramfs *i, const char *text)
{
	i->arch = elf_machine_of_name(text);
	if (i->arch != ELF_NONE)
		return 0;
	log_error("--arch %s: not known: amd64 (64-bit x86) or i386 (32-bit and 64-bit x86)", text);
	return EXIT_USAGE;
}

static int initramfs_take_firmware(struct initramfs *i, const char *text)
{
	struct stat st;

	i->firmware.is_off = strcmp(text, "none") == 0;
	i->firmware.folder = text;
	if (i->firmware.is_off || (stat(text, &st) == 0 && S_ISDIR(st.st_mode)))
		return 0;
	log_error("--firmware %s: not a folder (or the word none)", text);
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

static int initramfs_inspect(const struct initramfs *i)
{
	_cleanup_(inspect_close) struct inspection in;
	int r = inspect_open(&in, i->listed ? i->listed : i->checked);

	if (r < 0)
		return 1;
	return i->listed ? inspect_list(&in, i->as_json) : inspect_check(&in, i->as_json);
}

int initramfs_main(int argc, char *argv[])
{
	static const struct option options[] = {
		{ "output", required_argument, NULL, 'o' },
		{ "modules", required_argument, NULL, 'm' },
		{ "drivers", required_argument, NULL, 'd' },
		{ "firmware", required_argument, NULL, 'w' },
		{ "arch", required_argument, NULL, 'a' },
		{ "fsck", required_argument, NULL, 'f' },
		{ "compress", required_argument, NULL, 'c' },
		{ "program-dir", required_argument, NULL, 'p' },
		{ "list", required_argument, NULL, 'l' },
		{ "check", required_argument, NULL, 'k' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	static char title[] = "nbdroot initramfs";
	struct initramfs i = { .drivers = "all" };
	int option, r;

	argv[0] = title; /* what getopt's messages start with */
	while ((option = getopt_long(argc, argv, "o:h", options, NULL)) >= 0) {
		r = 0;
		switch (option) {
		case 'o': i.output = optarg; break;
		case 'm': r = initramfs_take_tree(&i, optarg); break;
		case 'd': i.drivers = optarg; break;
		case 'w': r = initramfs_take_firmware(&i, optarg); break;
		case 'a': r = initramfs_take_arch(&i, optarg); break;
		case 'f': i.fsck = optarg; break;
		case 'c': r = initramfs_take_kind(&i, optarg); break;
		case 'p': i.program_dir = optarg; break;
		case 'l': i.listed = optarg; break;
		case 'k': i.checked = optarg; break;
		case 'j': i.as_json = true; break;
		case 'h': printf("%s%s", initramfs_usage, initramfs_help); return 0;
		default: return EXIT_USAGE;
		}
		if (r != 0)
			return r;
	}
	if (optind != argc && i.n_trees > 0) { /* a pattern for --modules that names several */
		log_error("initramfs: %s: give --modules once for each kernel", argv[optind]);
		return EXIT_USAGE;
	}
	if ((i.output != NULL) + (i.listed != NULL) + (i.checked != NULL) != 1 || optind != argc ||
	    (i.output && i.as_json)) {
		log_error("initramfs: wants one of -o FILE, --list FILE [--json] and --check FILE "
			  "[--json], and no other name (see nbdroot initramfs --help)");
		return EXIT_USAGE;
	}
	if (!i.output)
		return initramfs_inspect(&i);
	r = initramfs_make(&i);
	for (size_t k = 0; k < i.n_trees; k++)
		kernel_deinit(&i.kernels[k]);
	firmware_deinit(&i.firmware);
	return r == 0 ? 0 : 1;
}
