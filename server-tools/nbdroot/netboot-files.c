/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See netboot-files.h. */
#include "netboot-files.h"

#include "base/fd.h"
#include "base/log.h"

#include <ctype.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

/* ---- boot programs ------------------------------------------------------------------------ */

struct source {
	const char *setting; /* [netboot] SETTING = PATH */
	const char *path;    /* Debian's */
	const char *package;
	const char *name; /* in the tree; shim wants GRUB under its own name */
};

static const struct source sources[NETBOOT_PROGRAMS] = {
	[NETBOOT_PXELINUX] = { "pxelinux", "/usr/lib/PXELINUX/pxelinux.0", "pxelinux",
			       "pxelinux.0" },
	[NETBOOT_LDLINUX] = { "ldlinux", "/usr/lib/syslinux/modules/bios/ldlinux.c32",
			      "syslinux-common", "ldlinux.c32" },
	[NETBOOT_SHIM] = { "shim", "/usr/lib/shim/shimx64.efi.signed", "shim-signed",
			   "shimx64.efi" },
	[NETBOOT_GRUB] = { "grub", "/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed",
			   "grub-efi-amd64-signed", "grubx64.efi" },
	[NETBOOT_GRUB_IA32] = { "grub-ia32", "/usr/lib/grub/i386-efi/monolithic/grubnetia32.efi",
				"grub-efi-ia32-bin", "grubia32.efi" },
	[NETBOOT_IPXE_BIOS] = { "ipxe-bios", "/usr/lib/ipxe/undionly.kpxe", "ipxe",
				"undionly.kpxe" },
	[NETBOOT_IPXE_UEFI] = { "ipxe-uefi", "/usr/lib/ipxe/snponly.efi", "ipxe", "snponly.efi" },
};

static int add_program(const struct netboot_plan *p, struct netboot_tree *t,
		       enum netboot_program which, const char *wish)
{
	const struct source *s = &sources[which];
	const char *own = p->config->programs[which], *path = own ? own : s->path;
	char name[64];

	if (access(path, F_OK) < 0 && errno == ENOENT) {
		if (own)
			log_error("%s: %s = %s: there is no such file", p->source, s->setting,
				  path);
		else
			log_error("%s: %s needs %s, which is not there: install the package %s, or "
				  "say where "
				  "it is (%s = PATH in [netboot]), or do without (%s none)",
				  p->source, wish, path, s->package, s->setting, wish);
		return -ENOENT;
	}
	snprintf(name, sizeof(name), "tftp/%s", s->name);
	return netboot_tree_add_file(t, name, path, NULL);
}

int netboot_add_programs(struct netboot_plan *p, struct netboot_tree *t)
{
	const struct netboot_config *c = p->config;
	int r = 0;

	if (c->bios == NETBOOT_LOADER_PXELINUX) {
		r = add_program(p, t, NETBOOT_LDLINUX, "bios =");
		if (r == 0)
			r = add_program(p, t, NETBOOT_PXELINUX, "bios =");
	} else if (c->bios == NETBOOT_LOADER_IPXE) {
		r = add_program(p, t, NETBOOT_IPXE_BIOS, "bios =");
	}
	if (r == 0 && c->uefi == NETBOOT_LOADER_GRUB) {
		r = add_program(p, t, NETBOOT_GRUB, "uefi =");
		if (r == 0)
			r = add_program(p, t, NETBOOT_SHIM, "uefi =");
		/* 32-bit UEFI is rare: it boots when the package is there. */
		p->has_ia32 = c->programs[NETBOOT_GRUB_IA32] ||
			      access(sources[NETBOOT_GRUB_IA32].path, F_OK) == 0;
		if (r == 0 && p->has_ia32)
			r = add_program(p, t, NETBOOT_GRUB_IA32, "uefi =");
	}
	if (r == 0 && (c->uefi == NETBOOT_LOADER_IPXE || netboot_file_http(p)))
		r = add_program(p, t, NETBOOT_IPXE_UEFI,
				c->uefi == NETBOOT_LOADER_IPXE ? "uefi =" : "http =");
	return r;
}

/* ---- kernels and archives ----------------------------------------------------------------- */

/* As part of a file's name: nothing that a boot program or a URL takes for more than a letter. */
static void clean_name(char *name)
{
	if (*name == '.')
		*name = '_';
	for (char *p = name; *p != '\0'; p++)
		if (!isalnum((unsigned char)*p) && strchr("._+-", *p) == NULL)
			*p = '_';
}

/*
 * The version out of an x86 kernel's own header (Documentation/arch/x86/boot.rst), into out,
 * cleaned. 0, -ENOEXEC (no such kernel) or negative errno.
 */
static int read_kernel_version(const char *path, char *out, size_t size)
{
	enum { HEADER_OFFSET = 0x202, HEADER_SIZE = 16, VERSION_MAX = 64 };
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	uint8_t header[HEADER_SIZE];
	char version[VERSION_MAX + 1] = "";
	off_t at;
	int r;

	if (fd < 0)
		return -errno;
	r = fd_pread_all(fd, header, sizeof(header), HEADER_OFFSET);
	if (r < 0)
		return r == -ENODATA ? -ENOEXEC : r;
	if (memcmp(header, "HdrS", 4) != 0)
		return -ENOEXEC;
	at = (off_t)(header[0xc] | header[0xd] << 8) + 0x200;
	r = fd_pread_all(fd, version, VERSION_MAX, at);
	if (r < 0)
		return r == -ENODATA ? -ENOEXEC : r;
	version[strcspn(version, " ")] = '\0'; /* "6.1.0-13-amd64 (debian-kernel@...) #1 SMP" */
	clean_name(version);
	snprintf(out, size, "%s", version);
	return 0;
}

/* What the kernel unpacks: an archive, or one of the forms that it knows to unpack. */
static int check_archive(const char *path)
{
	static const struct {
		const char *bytes;
		size_t size;
	} known[] = {
		{ "070701", 6 },
		{ "070702", 6 },
		{ "\x1f\x8b", 2 },
		{ "\xfd"
		  "7zXZ",
		  5 },
		{ "\x28\xb5\x2f\xfd", 4 },
		{ "\x02\x21\x4c\x18", 4 },
		{ "\x89LZO", 4 },
		{ "BZh", 3 },
		{ "\x5d\x00\x00", 3 },
	};
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	char start[6];
	int r;

	if (fd < 0)
		return -errno;
	r = fd_pread_all(fd, start, sizeof(start), 0);
	if (r < 0)
		return r == -ENODATA ? -ENOEXEC : r;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (memcmp(start, known[i].bytes, known[i].size) == 0)
			return 0;
	return -ENOEXEC;
}

static int report(const struct netboot_plan *p, const struct netboot_entry *e, const char *key,
		  const char *path, const char *what, int r)
{
	log_error("%s:%u: [entry %s] %s = %s: %s", p->source, e->line, e->name, key, path,
		  r == -ENOEXEC ? what : strerror(-r));
	return r;
}

/* "boot/NAME", the tree's name without "tftp/"; the plan's to free. */
static int add_image(struct netboot_tree *t, const char *name, const char *path, char **out)
{
	const char *in_tree;
	int r = netboot_tree_add_file(t, name, path, &in_tree);

	if (r < 0)
		return r;
	*out = strdup(in_tree + strlen("tftp/"));
	return *out ? 0 : -ENOMEM;
}

static int add_entry(struct netboot_plan *p, struct netboot_tree *t, size_t i)
{
	const struct netboot_entry *e = &p->config->entries[i];
	char version[80], name[160];
	int r = read_kernel_version(e->kernel, version, sizeof(version));

	if (r < 0)
		return report(p, e, "kernel", e->kernel,
			      "not a Linux kernel for x86 (a bzImage: vmlinuz-...)", r);
	snprintf(name, sizeof(name), "tftp/boot/vmlinuz-%s.%%", version);
	r = add_image(t, name, e->kernel, &p->images[i].kernel);
	for (size_t k = 0; r == 0 && k < e->n_initramfs; k++) {
		const char *slash = strrchr(e->initramfs[k], '/');
		char base[100];

		r = check_archive(e->initramfs[k]);
		if (r < 0)
			return report(p, e, "initramfs", e->initramfs[k],
				      "not an initramfs (an archive as nbdroot initramfs makes it)",
				      r);
		snprintf(base, sizeof(base), "%s", slash + 1);
		clean_name(base);
		snprintf(name, sizeof(name), "tftp/boot/%s.%%", base);
		r = add_image(t, name, e->initramfs[k], &p->images[i].initramfs[k]);
	}
	return r;
}

int netboot_add_images(struct netboot_plan *p, struct netboot_tree *t)
{
	p->images = calloc(p->config->n_entries, sizeof(*p->images));
	if (!p->images)
		return -ENOMEM;
	for (size_t i = 0; i < p->config->n_entries; i++) {
		int r = add_entry(p, t, i);

		if (r < 0)
			return r;
	}
	return 0;
}
