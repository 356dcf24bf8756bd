/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The settings of netboot-config.h one by one: what each may be, and what is wrong with it. */
#include "netboot-config-internal.h"

#include "base/parse.h"
#include "netboot-words.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int netboot_fail(char *why, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, NETBOOT_WHY_MAX, fmt, ap);
	va_end(ap);
	return -1;
}

static int store(char **out, const char *text, char *why)
{
	char *copy = strdup(text);

	if (copy == NULL)
		return netboot_fail(why, "out of memory");
	free(*out);
	*out = copy;
	return 0;
}

bool netboot_is_name(const char *text)
{
	size_t length = strlen(text);

	if (length == 0 || length > NETBOOT_NAME_MAX || text[0] == '-')
		return false;
	for (size_t i = 0; i < length; i++)
		if (!isalnum((unsigned char)text[i]) && text[i] != '-' && text[i] != '_')
			return false;
	return true;
}

int netboot_parse_mac(const char *text, uint8_t out[static 6])
{
	if (parse_mac(text, out) != 0)
		return -1;
	for (size_t i = 5; i < 17; i += 3)
		if (text[i] != text[2])
			return -1;
	return out[0] & 1 ? -1 : 0; /* a card has no group address */
}

/* Comments behind a value are the commonest slip. */
static const char *comment_hint(const char *text)
{
	return strpbrk(text, ";#") != NULL ? "; comments have lines of their own" : "";
}

static int set_address(struct in_addr *out, const char *text, char *why)
{
	if (inet_pton(AF_INET, text, out) != 1 || out->s_addr == 0)
		return netboot_fail(why,
				    "\"%.100s\" is not an IPv4 address (wanted 10.0.0.1, say%s)",
				    text, comment_hint(text));
	return 0;
}

/* One or more addresses, separated by commas; kept without blanks. */
static int set_addresses(char **out, const char *text, char *why)
{
	char copy[256];
	size_t used = 0;
	struct in_addr ignored;

	if (strlen(text) >= sizeof(copy))
		return netboot_fail(why, "longer than %zu bytes (give fewer addresses)",
				    sizeof(copy) - 1);
	for (const char *p = text; *p != '\0'; p++)
		if (*p != ' ' && *p != '\t')
			copy[used++] = *p;
	copy[used] = '\0';
	if (store(out, copy, why) < 0)
		return -1;
	for (char *p = copy, *next; p != NULL; p = next) {
		next = strchr(p, ',');
		if (next != NULL)
			*next++ = '\0';
		if (set_address(&ignored, p, why) < 0)
			return -1;
	}
	return 0;
}

static int set_name(char **out, const char *text, char *why)
{
	if (!netboot_is_name(text))
		return netboot_fail(why,
				    "\"%.100s\" is not a name (wanted letters, digits, \"-\" and "
				    "\"_\", %d at most%s)",
				    text, NETBOOT_NAME_MAX, comment_hint(text));
	return store(out, text, why);
}

/* Interfaces and domains have dots; dnsmasq knows "eth*". */
static int set_dotted_name(char **out, const char *text, char *why)
{
	for (const char *p = text; *p != '\0'; p++)
		if (!isalnum((unsigned char)*p) && strchr("-_.@", *p) == NULL)
			return netboot_fail(
				why,
				"\"%.100s\" is not a name (wanted letters, digits, \"-\", "
				"\"_\" and \".\"%s)",
				text, comment_hint(text));
	return store(out, text, why);
}

static int set_path(char **out, const char *text, char *why)
{
	if (text[0] != '/')
		return netboot_fail(
			why,
			"\"%.200s\" is not an absolute path (wanted one that begins with "
			"\"/\")",
			text);
	if (strlen(text) >= PATH_MAX)
		return netboot_fail(why, "longer than %d bytes", PATH_MAX - 1);
	return store(out, text, why);
}

/* A number and s, m, h, d or w, or "infinite": as dnsmasq reads it, but never below its two
 * minutes. */
static bool is_lease(const char *text)
{
	static const struct {
		char unit;
		uint64_t seconds;
	} units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 }, { 'w', 604800 } };
	size_t digits = strspn(text, "0123456789");
	char number[16];
	uint64_t n, factor = 1;

	if (strcmp(text, "infinite") == 0)
		return true;
	if (digits == 0 || digits >= sizeof(number))
		return false;
	memcpy(number, text, digits);
	number[digits] = '\0';
	if (text[digits] != '\0') {
		factor = 0;
		for (size_t i = 0; i < ARRAY_SIZE(units); i++)
			if (text[digits] == units[i].unit && text[digits + 1] == '\0')
				factor = units[i].seconds;
	}
	return factor > 0 && parse_u64(number, 4000000, &n) == 0 && n * factor >= 120;
}

static int set_range(struct netboot_config *c, const char *text, char *why)
{
	char first[64], last[64], lease[64] = "12h", too_much;
	int n = sscanf(text, "%63[0-9.] , %63[0-9.] , %63[0-9a-z] %c", first, last, lease,
		       &too_much);

	if (n != 2 && n != 3)
		return netboot_fail(why,
				    "\"%.100s\": wanted FIRST,LAST or FIRST,LAST,LEASE, "
				    "10.0.0.100,10.0.0.200,12h say%s",
				    text, comment_hint(text));
	if (n == 2 && strchr(strchr(text, ',') + 1, ',') != NULL)
		return netboot_fail(
			why, "\"%.100s\": wanted FIRST,LAST,LEASE with a lease like 12h", text);
	if (set_address(&c->first, first, why) < 0 || set_address(&c->last, last, why) < 0)
		return -1;
	if (ntohl(c->first.s_addr) > ntohl(c->last.s_addr))
		return netboot_fail(why, "%s is above %s (write the lower address first)", first,
				    last);
	if (!is_lease(lease))
		return netboot_fail(
			why,
			"the lease time \"%s\" (wanted 30m, 12h, 7d or infinite, say; 2m at "
			"least)",
			lease);
	return store(&c->lease, lease, why);
}

/* One of a few words, whose number is its place. */
static int pick(const char *text, const char *const *words, size_t n, char *why)
{
	size_t used = 0;
	char list[128] = "";

	for (size_t i = 0; i < n; i++) {
		if (strcmp(text, words[i]) == 0)
			return (int)i;
		used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s",
					 i > 0 ? ", " : "", words[i]);
	}
	return netboot_fail(why, "\"%.100s\" is not known (wanted one of: %s%s)", text, list,
			    comment_hint(text));
}

static int set_dhcp(struct netboot_config *c, const char *text, char *why)
{
	static const char *const words[] = { "static", "proxy", "none" };
	static const enum netboot_dhcp values[] = { NETBOOT_DHCP_STATIC, NETBOOT_DHCP_PROXY,
						    NETBOOT_DHCP_NONE };
	int i = pick(text, words, ARRAY_SIZE(words), why);

	if (i >= 0)
		c->dhcp = values[i];
	return i < 0 ? -1 : 0;
}

static int set_bios(struct netboot_config *c, const char *text, char *why)
{
	static const char *const words[] = { "pxelinux", "ipxe", "none" };
	static const enum netboot_loader values[] = { NETBOOT_LOADER_PXELINUX, NETBOOT_LOADER_IPXE,
						      NETBOOT_LOADER_NONE };
	int i = pick(text, words, ARRAY_SIZE(words), why);

	if (i >= 0)
		c->bios = values[i];
	return i < 0 ? -1 : 0;
}

static int set_uefi(struct netboot_config *c, const char *text, char *why)
{
	static const char *const words[] = { "grub", "ipxe", "none" };
	static const enum netboot_loader values[] = { NETBOOT_LOADER_GRUB, NETBOOT_LOADER_IPXE,
						      NETBOOT_LOADER_NONE };
	int i = pick(text, words, ARRAY_SIZE(words), why);

	if (i >= 0)
		c->uefi = values[i];
	return i < 0 ? -1 : 0;
}

static int set_http(struct netboot_config *c, const char *text, char *why)
{
	uint64_t port;

	if (strcmp(text, "no") == 0)
		c->http_port = 0;
	else if (strcmp(text, "yes") == 0)
		c->http_port = 80;
	else if (parse_u64(text, 65535, &port) == 0 && port > 0)
		c->http_port = (unsigned)port;
	else
		return netboot_fail(why, "\"%.100s\": wanted no, yes (port 80) or a port%s", text,
				    comment_hint(text));
	return 0;
}

int netboot_set_server(struct netboot_config *c, const char *key, const char *text, char *why)
{
	static const char *const programs[NETBOOT_PROGRAMS] = {
		[NETBOOT_PXELINUX] = "pxelinux",   [NETBOOT_LDLINUX] = "ldlinux",
		[NETBOOT_SHIM] = "shim",           [NETBOOT_GRUB] = "grub",
		[NETBOOT_GRUB_IA32] = "grub-ia32", [NETBOOT_IPXE_BIOS] = "ipxe-bios",
		[NETBOOT_IPXE_UEFI] = "ipxe-uefi",
	};

	if (strcmp(key, "server") == 0)
		return set_address(&c->server, text, why);
	if (strcmp(key, "interface") == 0)
		return set_dotted_name(&c->interface, text, why);
	if (strcmp(key, "range") == 0)
		return set_range(c, text, why);
	if (strcmp(key, "dhcp") == 0)
		return set_dhcp(c, text, why);
	if (strcmp(key, "router") == 0)
		return set_addresses(&c->router, text, why);
	if (strcmp(key, "dns") == 0)
		return set_addresses(&c->dns, text, why);
	if (strcmp(key, "ntp") == 0)
		return set_addresses(&c->ntp, text, why);
	if (strcmp(key, "domain") == 0)
		return set_dotted_name(&c->domain, text, why);
	if (strcmp(key, "http") == 0)
		return set_http(c, text, why);
	if (strcmp(key, "bios") == 0)
		return set_bios(c, text, why);
	if (strcmp(key, "uefi") == 0)
		return set_uefi(c, text, why);
	if (strcmp(key, "default") == 0)
		return set_name(&c->default_name, text, why);
	for (size_t i = 0; i < NETBOOT_PROGRAMS; i++)
		if (strcmp(key, programs[i]) == 0)
			return set_path(&c->programs[i], text, why);
	return netboot_fail(
		why,
		"[netboot] has no \"%.60s\" (it has server, interface, range, dhcp, router, "
		"dns, ntp, domain, default, http, bios, uefi, pxelinux, ldlinux, shim, grub, "
		"grub-ia32, ipxe-bios and ipxe-uefi)",
		key);
}

/* ---- entries and clients ------------------------------------------------------------------ */

static int set_words(char **out, const char *text, int (*check)(const char *text, char *why),
		     char *why)
{
	if (check(text, why) < 0)
		return -1;
	return store(out, text, why);
}

static int check_root(const char *text, char *why)
{
	bool is_dhcp;

	return words_check_root(text, &is_dhcp, why);
}

int netboot_set_entry(struct netboot_entry *e, const char *key, const char *text, char *why)
{
	_Static_assert((int)NETBOOT_WHY_MAX >= (int)WORDS_WHY_MAX,
		       "the words of netboot-words.c must fit");

	if (strcmp(key, "kernel") == 0)
		return set_path(&e->kernel, text, why);
	if (strcmp(key, "initramfs") == 0) {
		if (e->n_initramfs == NETBOOT_INITRAMFS_MAX)
			return netboot_fail(why,
					    "more than %d of them (put them together with cat)",
					    NETBOOT_INITRAMFS_MAX);
		if (set_path(&e->initramfs[e->n_initramfs], text, why) < 0)
			return -1;
		e->n_initramfs++;
		return 0;
	}
	if (strcmp(key, "root") == 0)
		return set_words(&e->root, text, check_root, why);
	if (strcmp(key, "root-path") == 0)
		return set_words(&e->root_path, text, words_check_root_path, why);
	if (strcmp(key, "rpmdb") == 0)
		return set_words(&e->rpmdb, text, words_check_rpmdb, why);
	if (strcmp(key, "append") == 0)
		return set_words(&e->append, text, words_check_append, why);
	return netboot_fail(
		why,
		"[entry] has no \"%.60s\" (it has kernel, initramfs, root, root-path, rpmdb "
		"and append)",
		key);
}

int netboot_set_client(struct netboot_client *k, const char *key, const char *text, char *why)
{
	if (strcmp(key, "name") == 0) {
		if (strchr(text, '_') != NULL) /* RFC 952 */
			return netboot_fail(
				why,
				"\"%.100s\" is not a host name (wanted letters, digits and "
				"\"-\")",
				text);
		return set_name(&k->name, text, why);
	}
	if (strcmp(key, "address") == 0) {
		k->has_address = true;
		return set_address(&k->address, text, why);
	}
	if (strcmp(key, "entry") == 0)
		return set_name(&k->entry_name, text, why);
	if (strcmp(key, "append") == 0)
		return set_words(&k->append, text, words_check_append, why);
	return netboot_fail(
		why, "[client] has no \"%.60s\" (it has name, address, entry and append)", key);
}
