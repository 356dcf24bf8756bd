/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The texts of a netboot tree, each made from the plan alone: no file is read, and the same plan
 * gives the same bytes. Values were checked when they were read (netboot-config.h), so none of
 * them needs quoting but GRUB's words and JSON's strings.
 */
#ifndef NBDROOT_NETBOOT_TEXT_H
#define NBDROOT_NETBOOT_TEXT_H

#include "netboot-config.h"

#include <stdio.h>

/* Where an entry's files are in the tree, "boot/vmlinuz-6.1.0-13-amd64.0123abcd". */
struct netboot_image {
	char *kernel;
	char *initramfs[NETBOOT_INITRAMFS_MAX];
};

/* What a machine boots: an entry, and more words for some. */
struct netboot_choice {
	const struct netboot_entry *entry; /* NULL: its own disk */
	const struct netboot_image *image;
	const char *append; /* "" */
};

struct netboot_plan {
	const struct netboot_config *config;
	const char *source; /* the configuration's name, for the first line of each file */
	const char *folder; /* absolute; the tree is folder/tftp */
	bool has_ia32;      /* GRUB for 32-bit UEFI is there */
	struct netboot_image *images; /* of config->entries */
	/* Each once; the first is that of unknown machines. choice_of: of config->clients. */
	struct netboot_choice *choices;
	size_t n_choices;
	size_t *choice_of;
};

/* Fills choices and choice_of from config and images. 0 or -ENOMEM. */
int netboot_plan_choices(struct netboot_plan *p) _must_check_;
void netboot_plan_deinit(struct netboot_plan *p);

/* "52-54-00-12-34-56" or with colons, lower case. */
enum { NETBOOT_MAC_TEXT = 18 };
void netboot_format_mac(const uint8_t mac[static 6], char mark, char out[static NETBOOT_MAC_TEXT]);

/*
 * The longest command line that a boot program may make of a choice: with the names of files and
 * of the card that it adds. The kernel (x86) takes NETBOOT_CMDLINE_MAX bytes.
 */
enum { NETBOOT_CMDLINE_MAX = 2047 };
size_t netboot_cmdline_size(const struct netboot_choice *c);

/* pxelinux.cfg/...: one choice. */
void netboot_put_pxelinux(FILE *f, const struct netboot_plan *p, const struct netboot_choice *c);
/* grub/grub.cfg and boot.ipxe: all choices, and which machine has which. */
void netboot_put_grub(FILE *f, const struct netboot_plan *p);
void netboot_put_ipxe(FILE *f, const struct netboot_plan *p);

/* dnsmasq.conf, complete; and the part of it that an existing dnsmasq needs. */
void netboot_put_dnsmasq(FILE *f, const struct netboot_plan *p);
void netboot_put_dnsmasq_boot(FILE *f, const struct netboot_plan *p);
/* For other DHCP servers. */
void netboot_put_dhcpd(FILE *f, const struct netboot_plan *p);
void netboot_put_kea(FILE *f, const struct netboot_plan *p);

/* What boots a machine of this kind (DHCP option 93), as a name in the tree; NULL: nothing. */
const char *netboot_file_bios(const struct netboot_plan *p);
const char *netboot_file_ia32(const struct netboot_plan *p);
const char *netboot_file_x64(const struct netboot_plan *p);
const char *netboot_file_http(const struct netboot_plan *p);
/* Whether iPXE, wherever it came from, is given boot.ipxe. */
bool netboot_has_ipxe_script(const struct netboot_plan *p);

#endif
