/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See netboot-text.h: dnsmasq's files. Made for dnsmasq 2.81 and later (dhcp-ignore-clid). */
#include "netboot-text.h"

#include <arpa/inet.h>
#include <string.h>

static const char *format_address(struct in_addr a, char out[static INET_ADDRSTRLEN])
{
	return inet_ntop(AF_INET, &a, out, INET_ADDRSTRLEN);
}

/* An option of the lease; nothing at all is told for one that has no value. */
static void put_option(FILE *f, const char *name, const char *value)
{
	fprintf(f, "dhcp-option=option:%s%s%s\n", name, value ? "," : "", value ? value : "");
}

static void put_host(FILE *f, const struct netboot_client *k)
{
	char mac[NETBOOT_MAC_TEXT], address[INET_ADDRSTRLEN];

	netboot_format_mac(k->mac, ':', mac);
	fprintf(f, "dhcp-host=%s", mac);
	if (k->has_address)
		fprintf(f, ",%s", format_address(k->address, address));
	if (k->name)
		fprintf(f, ",%s", k->name);
	fputc('\n', f);
}

static void put_addresses(FILE *f, const struct netboot_config *c)
{
	char first[INET_ADDRSTRLEN], last[INET_ADDRSTRLEN];

	if (c->dhcp == NETBOOT_DHCP_RANGE) {
		fprintf(f, "\n# The addresses that are given out, and for how long.\n");
		fprintf(f, "dhcp-range=%s,%s,%s\n", format_address(c->first, first),
			format_address(c->last, last), c->lease);
	} else {
		fprintf(f, "\n# Addresses for the clients below, and for nobody else.\n");
		fprintf(f, "dhcp-range=%s,static\n", format_address(c->server, first));
	}
	fprintf(f,
		"# There is no other DHCP server here: a client that moves or comes back gets an\n"
		"# answer at once.\n"
		"dhcp-authoritative\n"
		"# Firmware, initramfs and system call themselves by different client ids. Here "
		"the\n"
		"# card's address counts, so that all three have the same address.\n"
		"dhcp-ignore-clid\n");
	put_option(f, "router", c->router);
	put_option(f, "dns-server", c->dns);
	if (c->ntp)
		put_option(f, "ntp-server", c->ntp);
	if (c->domain)
		put_option(f, "domain-name", c->domain);
	for (size_t i = 0; i < c->n_clients; i++)
		if (c->clients[i].has_address || c->clients[i].name)
			put_host(f, &c->clients[i]);
}

void netboot_put_dnsmasq(FILE *f, const struct netboot_plan *p)
{
	const struct netboot_config *c = p->config;
	char server[INET_ADDRSTRLEN];

	fprintf(f,
		"# Written by nbdroot netboot from %s: change it there.\n"
		"# A dnsmasq of its own: dnsmasq --conf-file=%s/dnsmasq.conf\n"
		"# An existing dnsmasq reads dnsmasq-boot.conf alone, see there.\n\n"
		"# No DNS.\nport=0\n",
		p->source, p->folder);
	if (c->interface)
		fprintf(f, "interface=%s\nbind-dynamic\n", c->interface);
	switch (c->dhcp) {
	case NETBOOT_DHCP_RANGE:
	case NETBOOT_DHCP_STATIC: put_addresses(f, c); break;
	case NETBOOT_DHCP_PROXY:
		fprintf(f,
			"\n# Another DHCP server gives the addresses; what to boot is added to its "
			"answers.\n"
			"dhcp-range=%s,proxy\n",
			format_address(c->server, server));
		break;
	case NETBOOT_DHCP_NONE:
	case NETBOOT_DHCP_UNSAID:
		fprintf(f,
			"\n# No DHCP: the server that there is says what to boot (dhcpd.conf.txt, "
			"kea.json.txt).\n");
		break;
	}
	fprintf(f, "\nconf-file=%s/dnsmasq-boot.conf\n", p->folder);
}

/* ---- what to boot ------------------------------------------------------------------------- */

static void put_match(FILE *f, const char *tag, const char *what, const char *comment)
{
	fprintf(f, "dhcp-match=set:%s,%s%*s# %s\n", tag, what,
		(int)(34 - strlen(tag) - strlen(what)), "", comment);
}

static void put_boot(FILE *f, const char *tags, const char *file, const char *server)
{
	fprintf(f, "dhcp-boot=%s,%s,,%s\n", tags, file, server);
}

/* Proxy DHCP: a list of one, which is booted at once. */
static void put_service(FILE *f, const char *kind, const char *file, const char *server)
{
	fprintf(f, "pxe-service=tag:!nbdroot-ipxe,%s,\"nbdroot\",%s,%s\n", kind, file, server);
}

static void put_programs(FILE *f, const struct netboot_plan *p, const char *server)
{
	const char *bios = netboot_file_bios(p), *ia32 = netboot_file_ia32(p),
		   *x64 = netboot_file_x64(p), *http = netboot_file_http(p);
	bool bios_runs_script = p->config->bios == NETBOOT_LOADER_IPXE;
	bool is_proxy = p->config->dhcp == NETBOOT_DHCP_PROXY;

	/* A network card may have iPXE as its BIOS firmware: it boots PXELINUX like any other. */
	if (bios)
		put_boot(f,
			 bios_runs_script ? "tag:nbdroot-bios,tag:!nbdroot-ipxe"
					  : "tag:nbdroot-bios",
			 bios, server);
	if (ia32)
		put_boot(f, "tag:nbdroot-ia32,tag:!nbdroot-ipxe", ia32, server);
	if (x64)
		put_boot(f, "tag:nbdroot-x64,tag:!nbdroot-ipxe", x64, server);
	if (netboot_has_ipxe_script(p)) {
		fprintf(f, "# iPXE, once it runs, is given its script, and not itself again.\n");
		put_boot(f,
			 bios_runs_script ? "tag:nbdroot-ipxe"
					  : "tag:!nbdroot-bios,tag:nbdroot-ipxe",
			 "boot.ipxe", server);
	}
	if (http && !is_proxy) { /* a proxy adds to the answers to PXEClient only */
		fprintf(f,
			"# UEFI HTTP boot takes an answer for one when it says HTTPClient, too.\n"
			"dhcp-option-force=tag:nbdroot-http,60,HTTPClient\n"
			"dhcp-boot=tag:nbdroot-http,\"http://%s:%u/%s\"\n",
			server, p->config->http_port, http);
	}
	if (!is_proxy)
		return;
	fprintf(f, "\n# As a proxy, dnsmasq tells firmware what to boot in this way.\n");
	if (bios)
		put_service(f, "x86PC", bios, server);
	if (ia32)
		put_service(f, "IA32_EFI", ia32, server);
	if (x64) {
		put_service(f, "X86-64_EFI", x64, server);
		put_service(f, "BC_EFI", x64, server);
	}
}

/* Option 17, for root=dhcp. iPXE would take it for a disk of its own, and stop. */
static void put_root_paths(FILE *f, const struct netboot_plan *p)
{
	const struct netboot_config *c = p->config;
	char mac[NETBOOT_MAC_TEXT];
	bool has_some = false;

	for (size_t i = 0; i < c->n_entries; i++)
		has_some |= c->entries[i].root_path != NULL;
	if (!has_some)
		return;
	fprintf(f, "\n# root=dhcp: where the root is (option 17). Not for iPXE, which would try to "
		   "attach it.\n");
	for (size_t i = 0; i < c->n_clients; i++) {
		const struct netboot_entry *e = c->clients[i].entry;

		netboot_format_mac(c->clients[i].mac, ':', mac);
		fprintf(f, "dhcp-mac=set:nbdroot-known,%s\n", mac);
		if (e && e->root_path)
			fprintf(f, "dhcp-mac=set:nbdroot-entry-%s,%s\n", e->name, mac);
	}
	for (size_t i = 0; i < c->n_entries; i++) {
		const struct netboot_entry *e = &c->entries[i];

		if (!e->root_path)
			continue;
		fprintf(f,
			"dhcp-option=tag:nbdroot-entry-%s,tag:!nbdroot-ipxe,option:root-path,\"%"
			"s\"\n",
			e->name, e->root_path);
		if (e == c->default_entry)
			fprintf(f,
				"dhcp-option=tag:!nbdroot-known,tag:!nbdroot-ipxe,option:root-path,"
				"\"%s\"\n",
				e->root_path);
	}
}

void netboot_put_dnsmasq_boot(FILE *f, const struct netboot_plan *p)
{
	char server[INET_ADDRSTRLEN];

	format_address(p->config->server, server);
	fprintf(f,
		"# Written by nbdroot netboot from %s: change it there.\n"
		"# For an existing dnsmasq: conf-file=%s/dnsmasq-boot.conf\n"
		"# in its configuration, and dhcp-ignore-clid, when nothing else needs client "
		"ids.\n\n"
		"enable-tftp\ntftp-root=%s/tftp\n",
		p->source, p->folder, p->folder);
	/* Also where another DHCP server is: it may be a dnsmasq that takes this file in. */
	fprintf(f, "\n# What kind of firmware asks (option 93).\n");
	put_match(f, "nbdroot-bios", "option:client-arch,0", "BIOS");
	put_match(f, "nbdroot-ia32", "option:client-arch,6", "UEFI, 32 bits");
	put_match(f, "nbdroot-x64", "option:client-arch,7", "UEFI, 64 bits");
	put_match(f, "nbdroot-x64", "option:client-arch,9", "the same, as some firmware says it");
	put_match(f, "nbdroot-http", "option:client-arch,16", "UEFI, 64 bits, HTTP boot");
	put_match(f, "nbdroot-ipxe", "175", "iPXE's own option");
	fprintf(f, "dhcp-userclass=set:nbdroot-ipxe,iPXE\n\n# What it is given.\n");
	put_programs(f, p, server);
	put_root_paths(f, p);
}
