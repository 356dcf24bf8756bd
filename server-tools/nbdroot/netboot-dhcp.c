/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See netboot-text.h: what to put into another DHCP server, ISC dhcpd 4.4 or Kea 2.x. Pieces of a
 * configuration that has its subnets already; both are read by the servers' own checks as they are.
 */
#include "netboot-text.h"

#include "base/json.h"

#include <arpa/inet.h>
#include <string.h>

/* A kind of firmware and what it is given. */
struct program {
	const char *name;   /* of a class */
	unsigned arches[2]; /* option 93 */
	size_t n_arches;
	bool is_http;
	char file[64]; /* a name in the tree, or a URI */
};

enum { PROGRAMS_MAX = 4 };

static void add(struct program *list, size_t *n, const char *name, unsigned a, unsigned b,
		const char *file)
{
	struct program *p = &list[*n];

	if (!file)
		return;
	*p = (struct program){ .name = name, .arches = { a, b }, .n_arches = a == b ? 1 : 2 };
	snprintf(p->file, sizeof(p->file), "%s", file);
	++*n;
}

static size_t list_programs(const struct netboot_plan *p, struct program list[static PROGRAMS_MAX])
{
	const struct netboot_config *c = p->config;
	char server[INET_ADDRSTRLEN], uri[64];
	const char *http = netboot_file_http(p);
	size_t n = 0;

	add(list, &n, "nbdroot-bios", 0, 0, netboot_file_bios(p));
	add(list, &n, "nbdroot-ia32", 6, 6, netboot_file_ia32(p));
	add(list, &n, "nbdroot-x64", 7, 9, netboot_file_x64(p));
	if (http) {
		inet_ntop(AF_INET, &c->server, server, sizeof(server));
		snprintf(uri, sizeof(uri), "http://%s:%u/%s", server, c->http_port, http);
		add(list, &n, "nbdroot-http", 16, 16, uri);
		list[n - 1].is_http = true;
	}
	return n;
}

/* iPXE on a BIOS machine is given its script only when it is we who sent it there. */
static bool is_script_for(const struct netboot_plan *p, const struct program *k)
{
	return netboot_has_ipxe_script(p) && !k->is_http &&
	       (k->arches[0] != 0 || p->config->bios == NETBOOT_LOADER_IPXE);
}

/* ---- ISC dhcpd ---------------------------------------------------------------------------- */

static void put_dhcpd_programs(FILE *f, const struct netboot_plan *p)
{
	struct program list[PROGRAMS_MAX];
	size_t n = list_programs(p, list);
	char server[INET_ADDRSTRLEN];

	inet_ntop(AF_INET, &p->config->server, server, sizeof(server));
	fprintf(f, "option nbdroot-arch code 93 = unsigned integer 16;\n");
	for (size_t i = 0; i < n; i++) {
		const struct program *k = &list[i];

		fprintf(f,
			"\nclass \"%s\" {\n\tmatch if substring(option vendor-class-identifier, 0, "
			"%d) = \"%s\"\n"
			"\t\tand (option nbdroot-arch = 00:%02x",
			k->name, k->is_http ? 10 : 9, k->is_http ? "HTTPClient" : "PXEClient",
			k->arches[0]);
		for (size_t a = 1; a < k->n_arches; a++)
			fprintf(f, " or option nbdroot-arch = 00:%02x", k->arches[a]);
		fprintf(f, ");\n");
		if (k->is_http)
			fprintf(f, "\toption vendor-class-identifier \"HTTPClient\";\n");
		else
			fprintf(f, "\tnext-server %s;\n", server);
		if (is_script_for(p, k))
			fprintf(f,
				"\tif exists user-class and option user-class = \"iPXE\" {\n"
				"\t\tfilename \"boot.ipxe\";\n\t} else {\n\t\tfilename "
				"\"%s\";\n\t}\n}\n",
				k->file);
		else
			fprintf(f, "\tfilename \"%s\";\n}\n", k->file);
	}
}

/* Not for iPXE. dhcpd's "not" is no help: of an option that is not there, it knows neither. */
static void put_dhcpd_root_path(FILE *f, const char *indent, const char *root_path)
{
	fprintf(f,
		"%sif exists user-class and option user-class = \"iPXE\" {\n%s} else {\n"
		"%s\toption root-path \"%s\";\n%s}\n",
		indent, indent, indent, root_path, indent);
}

static void put_dhcpd_host(FILE *f, const struct netboot_client *k)
{
	char mac[NETBOOT_MAC_TEXT], dashed[NETBOOT_MAC_TEXT], address[INET_ADDRSTRLEN];
	const char *root_path = k->entry ? k->entry->root_path : NULL;

	if (!k->has_address && !k->name && !root_path)
		return;
	netboot_format_mac(k->mac, ':', mac);
	netboot_format_mac(k->mac, '-', dashed);
	fprintf(f, "host nbdroot-%s {\n\thardware ethernet %s;\n", dashed, mac);
	if (k->has_address)
		fprintf(f, "\tfixed-address %s;\n",
			inet_ntop(AF_INET, &k->address, address, sizeof(address)));
	if (k->name)
		fprintf(f, "\toption host-name \"%s\";\n", k->name);
	if (root_path)
		put_dhcpd_root_path(f, "\t", root_path);
	fprintf(f, "}\n");
}

void netboot_put_dhcpd(FILE *f, const struct netboot_plan *p)
{
	const struct netboot_config *c = p->config;

	fprintf(f,
		"# Written by nbdroot netboot from %s: change it there.\n"
		"# For ISC dhcpd, outside of any subnet: include \"%s/dhcpd.conf.txt\";\n\n"
		"# Firmware, initramfs and system call themselves by different client ids. Here "
		"the\n"
		"# card's address counts, so that all three have the same address.\n"
		"ignore-client-uids true;\n\n",
		p->source, p->folder);
	put_dhcpd_programs(f, p);
	if (c->default_entry && c->default_entry->root_path) {
		fprintf(f, "\n# root=dhcp\n");
		put_dhcpd_root_path(f, "", c->default_entry->root_path);
	}
	if (c->n_clients > 0)
		fputc('\n', f);
	for (size_t i = 0; i < c->n_clients; i++)
		put_dhcpd_host(f, &c->clients[i]);
}

/* ---- Kea ---------------------------------------------------------------------------------- */

static void put_member(FILE *f, const char *name, const char *value, const char *end)
{
	fprintf(f, "\"%s\": ", name);
	json_put_string(f, value);
	fputs(end, f);
}

static void put_kea_class(FILE *f, const struct netboot_plan *p, const struct program *k)
{
	char server[INET_ADDRSTRLEN], test[512];
	int n;

	inet_ntop(AF_INET, &p->config->server, server, sizeof(server));
	n = snprintf(test, sizeof(test),
		     "substring(option[60].hex, 0, %d) == '%s' and (option[93].hex == 0x%04x",
		     k->is_http ? 10 : 9, k->is_http ? "HTTPClient" : "PXEClient", k->arches[0]);
	for (size_t a = 1; a < k->n_arches; a++)
		n += snprintf(test + n, sizeof(test) - (size_t)n, " or option[93].hex == 0x%04x",
			      k->arches[a]);
	snprintf(test + n, sizeof(test) - (size_t)n, ")%s",
		 is_script_for(p, k) ? " and not member('nbdroot-ipxe')" : "");
	fprintf(f, "      {\n        ");
	put_member(f, "name", k->name, ",\n        ");
	put_member(f, "test", test, ",\n        ");
	if (k->is_http) {
		fprintf(f, "\"option-data\": [\n          { \"name\": \"vendor-class-identifier\", "
			   "\"data\": "
			   "\"HTTPClient\", \"always-send\": true },\n          { \"name\": "
			   "\"boot-file-name\", ");
		put_member(f, "data", k->file, ", \"always-send\": true }\n        ]\n      }");
		return;
	}
	put_member(f, "next-server", server, ",\n        ");
	put_member(f, "boot-file-name", k->file, "\n      }");
	if (!is_script_for(p, k))
		return;
	fprintf(f,
		",\n      {\n        \"name\": \"%s-script\",\n        \"test\": "
		"\"member('nbdroot-ipxe') and "
		"(option[93].hex == 0x%04x",
		k->name, k->arches[0]);
	for (size_t a = 1; a < k->n_arches; a++)
		fprintf(f, " or option[93].hex == 0x%04x", k->arches[a]);
	fprintf(f, ")\",\n        ");
	put_member(f, "next-server", server, ",\n        ");
	put_member(f, "boot-file-name", "boot.ipxe", "\n      }");
}

/* In option data, Kea takes a comma for the end of a field. */
static void put_kea_root_path(FILE *f, const char *root_path, const char *end)
{
	char escaped[2 * 256];
	size_t n = 0;

	for (const char *p = root_path; *p != '\0' && n < sizeof(escaped) - 2; p++) {
		if (*p == ',')
			escaped[n++] = '\\';
		escaped[n++] = *p;
	}
	escaped[n] = '\0';
	fprintf(f, "\"option-data\": [ { \"name\": \"root-path\", ");
	put_member(f, "data", escaped, ", \"always-send\": true } ]");
	fputs(end, f);
}

static void put_kea_host(FILE *f, const struct netboot_client *k, const char **separator)
{
	char mac[NETBOOT_MAC_TEXT], address[INET_ADDRSTRLEN];
	const char *root_path = k->entry ? k->entry->root_path : NULL;

	if (!k->has_address && !k->name && !root_path)
		return;
	netboot_format_mac(k->mac, ':', mac);
	fprintf(f, "%s\n      { ", *separator);
	*separator = ",";
	if (k->has_address)
		put_member(f, "ip-address",
			   inet_ntop(AF_INET, &k->address, address, sizeof(address)), ", ");
	if (k->name)
		put_member(f, "hostname", k->name, ", ");
	if (root_path)
		put_kea_root_path(f, root_path, ", ");
	put_member(f, "hw-address", mac, " }");
}

void netboot_put_kea(FILE *f, const struct netboot_plan *p)
{
	const struct netboot_config *c = p->config;
	struct program list[PROGRAMS_MAX];
	size_t n = list_programs(p, list);
	const char *separator = "";

	/* JSON has no comments; Kea ignores what is in user-context. */
	fprintf(f, "{\n  \"Dhcp4\": {\n    \"user-context\": { ");
	put_member(f, "comment", "Written by nbdroot netboot: put these members into Dhcp4", ", ");
	put_member(f, "source", p->source, " },\n");
	fprintf(f, "    \"match-client-id\": false,\n"
		   "    \"reservations-global\": true,\n    \"reservations-in-subnet\": true,\n"
		   "    \"client-classes\": [\n      {\n        \"name\": \"nbdroot-ipxe\",\n"
		   "        \"test\": \"option[175].exists or substring(option[77].hex, 0, 4) == "
		   "'iPXE'\"\n"
		   "      }");
	for (size_t i = 0; i < n; i++) {
		fprintf(f, ",\n");
		put_kea_class(f, p, &list[i]);
	}
	if (c->default_entry && c->default_entry->root_path) {
		fprintf(f, ",\n      {\n        \"name\": \"nbdroot-root-path\",\n        "
			   "\"test\": \"not "
			   "member('nbdroot-ipxe')\",\n        ");
		put_kea_root_path(f, c->default_entry->root_path, "\n      }");
	}
	fprintf(f, "\n    ],\n    \"reservations\": [");
	for (size_t i = 0; i < c->n_clients; i++)
		put_kea_host(f, &c->clients[i], &separator);
	fprintf(f, "%s]\n  }\n}\n", *separator ? "\n    " : "");
}
