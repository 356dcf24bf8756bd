/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See netboot-text.h: which machine boots what, and which file serves whom. */
#include "netboot-text.h"

#include <string.h>

static size_t find_choice(struct netboot_plan *p, const struct netboot_entry *entry,
			  const char *append)
{
	for (size_t i = 0; i < p->n_choices; i++)
		if (p->choices[i].entry == entry &&
		    (!entry || strcmp(p->choices[i].append, append) == 0))
			return i;
	p->choices[p->n_choices] = (struct netboot_choice){
		.entry = entry,
		.image = entry ? &p->images[entry - p->config->entries] : NULL,
		.append = append,
	};
	return p->n_choices++;
}

int netboot_plan_choices(struct netboot_plan *p)
{
	const struct netboot_config *c = p->config;

	p->choices = calloc(c->n_clients + 1, sizeof(*p->choices));
	p->choice_of = calloc(c->n_clients + 1, sizeof(*p->choice_of));
	if (!p->choices || !p->choice_of)
		return -ENOMEM;
	find_choice(p, c->default_entry, "");
	for (size_t i = 0; i < c->n_clients; i++)
		p->choice_of[i] = find_choice(p, c->clients[i].entry, c->clients[i].append);
	return 0;
}

void netboot_plan_deinit(struct netboot_plan *p)
{
	for (size_t i = 0; p->images && i < p->config->n_entries; i++) {
		free(p->images[i].kernel);
		for (size_t k = 0; k < NETBOOT_INITRAMFS_MAX; k++)
			free(p->images[i].initramfs[k]);
	}
	free(p->images);
	free(p->choices);
	free(p->choice_of);
	p->images = NULL;
	p->choices = NULL;
	p->choice_of = NULL;
}

void netboot_format_mac(const uint8_t mac[static 6], char mark, char out[static NETBOOT_MAC_TEXT])
{
	snprintf(out, NETBOOT_MAC_TEXT, "%02x%c%02x%c%02x%c%02x%c%02x%c%02x", mac[0], mark, mac[1],
		 mark, mac[2], mark, mac[3], mark, mac[4], mark, mac[5]);
}

size_t netboot_cmdline_size(const struct netboot_choice *c)
{
	const struct netboot_entry *e = c->entry;
	size_t size;

	if (!e)
		return 0;
	/* What the tool writes, each with a blank ... */
	size = strlen("root=") + strlen(e->root) + strlen(e->append) + strlen(c->append) + 3;
	if (e->rpmdb)
		size += strlen(" rpmdb=") + strlen(e->rpmdb);
	/* ... and what PXELINUX, GRUB (with its device) or iPXE put around it. */
	size += strlen(" BOOTIF=01-52-54-00-12-34-56") +
		strlen("BOOT_IMAGE=(tftp,255.255.255.255)/ ") + strlen(c->image->kernel) +
		strlen(" initrd=");
	for (size_t i = 0; i < e->n_initramfs; i++)
		size += strlen(c->image->initramfs[i]) + 1;
	return size;
}

const char *netboot_file_bios(const struct netboot_plan *p)
{
	switch (p->config->bios) {
	case NETBOOT_LOADER_PXELINUX: return "pxelinux.0";
	case NETBOOT_LOADER_IPXE: return "undionly.kpxe";
	case NETBOOT_LOADER_GRUB:
	case NETBOOT_LOADER_UNSAID:
	case NETBOOT_LOADER_NONE: break;
	}
	return NULL;
}

const char *netboot_file_ia32(const struct netboot_plan *p)
{
	return p->has_ia32 && p->config->uefi == NETBOOT_LOADER_GRUB ? "grubia32.efi" : NULL;
}

const char *netboot_file_x64(const struct netboot_plan *p)
{
	switch (p->config->uefi) {
	case NETBOOT_LOADER_GRUB: return "shimx64.efi";
	case NETBOOT_LOADER_IPXE: return "snponly.efi";
	case NETBOOT_LOADER_PXELINUX:
	case NETBOOT_LOADER_UNSAID:
	case NETBOOT_LOADER_NONE: break;
	}
	return NULL;
}

/* Debian's signed GRUB has no HTTP in it, so that firmware is given iPXE. */
const char *netboot_file_http(const struct netboot_plan *p)
{
	return p->config->http_port > 0 && p->config->uefi != NETBOOT_LOADER_NONE ? "snponly.efi"
										  : NULL;
}

/*
 * Some cards have iPXE as their UEFI firmware (QEMU's have): Debian's GRUB, started by it, finds no
 * network. So there is always a script for it.
 */
bool netboot_has_ipxe_script(const struct netboot_plan *p)
{
	return p->config->bios == NETBOOT_LOADER_IPXE || p->config->uefi != NETBOOT_LOADER_NONE;
}
