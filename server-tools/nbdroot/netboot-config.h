/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an administrator says about booting over the network, from an INI file:
 *
 *	[netboot]
 *	server = 10.0.0.1
 *	range = 10.0.0.100,10.0.0.200
 *	[entry diskless]
 *	kernel = /srv/roots/c1/boot/vmlinuz-6.1.0-13-amd64
 *	initramfs = /srv/nbdroot/nbdroot.img
 *	root = nbd://10.0.0.1/root-{mac}
 *	[client 52:54:00:12:34:56]
 *	name = pc17
 *	address = 10.0.0.17
 *
 * Pure: bytes in, a struct out; no file but the configuration itself is opened. Every value that
 * comes out may stand in a line of PXELINUX's, GRUB's, iPXE's, dnsmasq's, dhcpd's and Kea's files:
 * what one of them would read as something else is refused here. A blank before "#" or ";" does not
 * begin a comment: comments have lines of their own, as in nbdserve.conf.
 */
#ifndef NBDROOT_NETBOOT_CONFIG_H
#define NBDROOT_NETBOOT_CONFIG_H

#include "base/cleanup.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	NETBOOT_ERROR_MAX = 640,
	NETBOOT_NAME_MAX = 63,     /* of an entry, a host, an interface */
	NETBOOT_INITRAMFS_MAX = 8, /* of one entry: ours, a site's firmware, ... */
	NETBOOT_ENTRIES_MAX = 256,
	NETBOOT_CLIENTS_MAX = 16384,
};

/* Who gives the clients their addresses. */
enum netboot_dhcp {
	NETBOOT_DHCP_UNSAID,
	NETBOOT_DHCP_RANGE,  /* our dnsmasq, from a range */
	NETBOOT_DHCP_STATIC, /* our dnsmasq, to the [client] sections only */
	NETBOOT_DHCP_PROXY,  /* another server; our dnsmasq adds what to boot */
	NETBOOT_DHCP_NONE,   /* another server, which says what to boot, too */
};

enum netboot_loader {
	NETBOOT_LOADER_UNSAID,
	NETBOOT_LOADER_NONE,
	NETBOOT_LOADER_PXELINUX,
	NETBOOT_LOADER_GRUB,
	NETBOOT_LOADER_IPXE
};

/* Programs of others that go into the tree; NULL: where Debian has them. */
enum netboot_program {
	NETBOOT_PXELINUX,
	NETBOOT_LDLINUX,
	NETBOOT_SHIM,
	NETBOOT_GRUB,
	NETBOOT_GRUB_IA32,
	NETBOOT_IPXE_BIOS,
	NETBOOT_IPXE_UEFI,
	NETBOOT_PROGRAMS
};

struct netboot_entry {
	char *name;
	char *kernel;
	char *initramfs[NETBOOT_INITRAMFS_MAX];
	size_t n_initramfs;
	char *root;
	char *root_path; /* DHCP option 17; NULL: none */
	char *rpmdb;     /* NULL: none */
	char *append;    /* "" when there is none */
	unsigned line;
};

struct netboot_client {
	uint8_t mac[6];
	char *name; /* NULL: none */
	bool has_address;
	struct in_addr address;
	char *entry_name; /* NULL: the default */
	char *append;
	unsigned line;
	const struct netboot_entry *entry; /* NULL: boots from its own disk */
};

struct netboot_config {
	struct in_addr server;
	char *interface;
	enum netboot_dhcp dhcp;
	struct in_addr first, last;
	char *lease;                       /* "12h" */
	char *router, *dns, *ntp, *domain; /* as dnsmasq takes them; NULL: not told */
	unsigned http_port;                /* 0: no HTTP server */
	enum netboot_loader bios, uefi;
	char *programs[NETBOOT_PROGRAMS];
	char *default_name; /* NULL: the first entry */
	const struct netboot_entry
		*default_entry; /* NULL: unknown machines are sent to their disk */

	struct netboot_entry *entries;
	size_t n_entries;
	struct netboot_client *clients; /* sorted by address of the card */
	size_t n_clients;
};

/*
 * Reads an INI file's text of size bytes; name is for messages. 0, or -1 with one line of words in
 * err (of NETBOOT_ERROR_MAX bytes): "NAME:LINE: what: why (what to do)". c must be zeroed, and
 * must be given back with netboot_config_deinit() in either case.
 */
int netboot_config_parse(struct netboot_config *c, const char *name, const char *text, size_t size,
			 char *err) _must_check_;

/* The same from a file. */
int netboot_config_load(struct netboot_config *c, const char *path, char *err) _must_check_;

void netboot_config_deinit(struct netboot_config *c);

#endif
