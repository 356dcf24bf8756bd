/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See netboot-config.h. The lines, the sections, and what must fit together when all is read; the
 * values are in netboot-values.c. libinih, which nbdserve uses, is not used: it cuts section names,
 * takes an indented line for more of the value above and tells no line numbers, and without those
 * there is nothing left for it to do.
 */
#include "netboot-config.h"

#include "base/fd.h"
#include "base/parse.h"
#include "netboot-config-internal.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
	FILE_MAX_BYTES = 4 * 1024 * 1024,
	LINE_MAX_BYTES = 8 * 1024,
	KEY_MAX_BYTES = 32,
	KEYS_MAX = 32, /* of one section; more than there are */
};

struct reader {
	struct netboot_config *config;
	const char *name;
	unsigned line;
	enum { SECTION_NONE, SECTION_NETBOOT, SECTION_ENTRY, SECTION_CLIENT } section;
	bool has_netboot;
	char seen[KEYS_MAX][KEY_MAX_BYTES]; /* in this section: twice is a slip, not a wish */
	size_t n_seen;
	char *err;
};

static int fail_at(const struct reader *r, unsigned line, const char *fmt, ...) _printf_(3, 4);
static int fail_at(const struct reader *r, unsigned line, const char *fmt, ...)
{
	char why[NETBOOT_ERROR_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	if (line > 0)
		snprintf(r->err, NETBOOT_ERROR_MAX, "%.120s:%u: %.500s", r->name, line, why);
	else
		snprintf(r->err, NETBOOT_ERROR_MAX, "%.120s: %.500s", r->name, why);
	return -1;
}

/* ---- sections ----------------------------------------------------------------------------- */

static int begin_entry(struct reader *r, const char *name)
{
	struct netboot_config *c = r->config;
	struct netboot_entry *list;

	if (!netboot_is_name(name) || strcmp(name, "none") == 0)
		return fail_at(
			r, r->line,
			"[entry %.60s]: not a name for an entry (wanted letters, digits, \"-\" and "
			"\"_\", %d at most, and not \"none\")",
			name, NETBOOT_NAME_MAX);
	for (size_t i = 0; i < c->n_entries; i++)
		if (strcmp(c->entries[i].name, name) == 0)
			return fail_at(
				r, r->line,
				"[entry %s]: is there already, in line %u (give it another name)",
				name, c->entries[i].line);
	if (c->n_entries == NETBOOT_ENTRIES_MAX)
		return fail_at(r, r->line, "[entry %s]: more than %d entries", name,
			       NETBOOT_ENTRIES_MAX);
	list = realloc(c->entries, (c->n_entries + 1) * sizeof(*list));
	if (list == NULL)
		return fail_at(r, r->line, "out of memory");
	c->entries = list;
	list[c->n_entries] = (struct netboot_entry){ .name = strdup(name), .line = r->line };
	c->n_entries++;
	if (list[c->n_entries - 1].name == NULL)
		return fail_at(r, r->line, "out of memory");
	r->section = SECTION_ENTRY;
	return 0;
}

static int begin_client(struct reader *r, const char *name)
{
	struct netboot_config *c = r->config;
	struct netboot_client *list, k = { .line = r->line };

	if (netboot_parse_mac(name, k.mac) < 0)
		return fail_at(r, r->line,
			       "[client %.60s]: not the address of a network card (wanted [client "
			       "52:54:00:12:34:56], say)",
			       name);
	if (c->n_clients == NETBOOT_CLIENTS_MAX)
		return fail_at(r, r->line, "[client %s]: more than %d clients", name,
			       NETBOOT_CLIENTS_MAX);
	if ((c->n_clients & (c->n_clients + 1)) == 0) { /* 1, 3, 7, ...: grows */
		list = realloc(c->clients, 2 * (c->n_clients + 1) * sizeof(*list));
		if (list == NULL)
			return fail_at(r, r->line, "out of memory");
		c->clients = list;
	}
	c->clients[c->n_clients++] = k;
	r->section = SECTION_CLIENT;
	return 0;
}

static bool is_kind(const char *line, const char *kind, const char **name)
{
	size_t length = strlen(kind);

	if (strncmp(line, kind, length) != 0 || !isspace((unsigned char)line[length]))
		return false;
	*name = line + length + strspn(line + length, " \t");
	return true;
}

static int begin_section(struct reader *r, char *line)
{
	size_t length = strlen(line);
	const char *name;

	if (line[length - 1] != ']')
		return fail_at(r, r->line, "a section must end with \"]\", with nothing behind it");
	line[length - 1] = '\0';
	line = parse_trim(line + 1);
	r->n_seen = 0;
	if (strcmp(line, "netboot") == 0) {
		if (r->has_netboot)
			return fail_at(r, r->line, "[netboot] is there twice (make it one)");
		r->has_netboot = true;
		r->section = SECTION_NETBOOT;
		return 0;
	}
	if (is_kind(line, "entry", &name))
		return begin_entry(r, name);
	if (is_kind(line, "client", &name))
		return begin_client(r, name);
	return fail_at(r, r->line,
		       "there is no section [%.60s] (there are [netboot], [entry NAME] and [client "
		       "AA:BB:CC:DD:EE:FF])",
		       line);
}

static int note_once(struct reader *r, const char *key)
{
	/* Lists may be repeated, and are counted where they are kept. */
	if (strcmp(key, "initramfs") == 0 || strlen(key) >= KEY_MAX_BYTES)
		return 0;
	for (size_t i = 0; i < r->n_seen; i++)
		if (strcmp(r->seen[i], key) == 0)
			return fail_at(r, r->line,
				       "\"%s\" is given twice in this section (leave one)", key);
	if (r->n_seen < KEYS_MAX)
		snprintf(r->seen[r->n_seen++], KEY_MAX_BYTES, "%s", key);
	return 0;
}

static int read_setting(struct reader *r, char *line)
{
	struct netboot_config *c = r->config;
	char why[NETBOOT_WHY_MAX], *equals = strchr(line, '=');
	const char *key, *value;
	int ret = -1;

	if (equals == NULL)
		return fail_at(r, r->line, "\"%.60s\" is neither [section] nor key = value", line);
	*equals = '\0';
	key = parse_trim(line);
	value = parse_trim(equals + 1);
	if (*value == '\0')
		return fail_at(r, r->line,
			       "%.60s: has no value (leave the line out for the default)", key);
	if (r->section == SECTION_NONE)
		return fail_at(r, r->line,
			       "\"%.60s\" stands before the first section (begin with [netboot])",
			       key);
	if (note_once(r, key) < 0)
		return -1;
	switch (r->section) {
	case SECTION_NONE: break;
	case SECTION_NETBOOT: ret = netboot_set_server(c, key, value, why); break;
	case SECTION_ENTRY:
		ret = netboot_set_entry(&c->entries[c->n_entries - 1], key, value, why);
		break;
	case SECTION_CLIENT:
		ret = netboot_set_client(&c->clients[c->n_clients - 1], key, value, why);
		break;
	}
	return ret < 0 ? fail_at(r, r->line, "%.60s: %s", key, why) : 0;
}

static int read_lines(struct reader *r, const char *text, size_t size)
{
	char line[LINE_MAX_BYTES + 1];
	const char *end = text + size;

	while (text < end) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		size_t length = (size_t)((newline ? newline : end) - text);
		char *s;

		r->line++;
		if (length > LINE_MAX_BYTES)
			return fail_at(r, r->line, "the line is longer than %d bytes",
				       LINE_MAX_BYTES);
		memcpy(line, text, length);
		line[length] = '\0';
		text += length + (newline != NULL);
		s = parse_trim(line);
		if (*s == '\0' || *s == '#' || *s == ';')
			continue;
		if ((*s == '[' ? begin_section(r, s) : read_setting(r, s)) < 0)
			return -1;
	}
	return 0;
}

/* ---- what must fit together --------------------------------------------------------------- */

static const struct netboot_entry *find_entry(const struct netboot_config *c, const char *name)
{
	for (size_t i = 0; i < c->n_entries; i++)
		if (strcmp(c->entries[i].name, name) == 0)
			return &c->entries[i];
	return NULL;
}

static int finish_server(const struct reader *r)
{
	struct netboot_config *c = r->config;

	if (c->server.s_addr == 0)
		return fail_at(r, 0,
			       "[netboot] has no server = ADDRESS (the address of this machine, as "
			       "the clients "
			       "see it)");
	if (c->dhcp != NETBOOT_DHCP_UNSAID && c->lease != NULL)
		return fail_at(r, 0,
			       "[netboot] has both range and dhcp (range: dnsmasq gives the "
			       "addresses; dhcp: "
			       "somebody else does; leave one)");
	if (c->lease != NULL)
		c->dhcp = NETBOOT_DHCP_RANGE;
	if (c->dhcp == NETBOOT_DHCP_UNSAID)
		return fail_at(
			r, 0,
			"[netboot] does not say who gives the clients their addresses (range = "
			"FIRST,LAST: dnsmasq does; dhcp = proxy: another server does, and dnsmasq "
			"adds "
			"what to boot; dhcp = none: another server does both; dhcp = static: "
			"dnsmasq, "
			"to the [client] sections only)");
	if (c->dhcp != NETBOOT_DHCP_RANGE && c->dhcp != NETBOOT_DHCP_STATIC &&
	    (c->router || c->dns || c->ntp || c->domain))
		return fail_at(
			r, 0,
			"[netboot] router, dns, ntp and domain are told by the server that gives "
			"the addresses, and with dhcp = %s that is another one (leave them out, "
			"and say them there)",
			c->dhcp == NETBOOT_DHCP_PROXY ? "proxy" : "none");
	if (c->dhcp == NETBOOT_DHCP_RANGE && ntohl(c->server.s_addr) >= ntohl(c->first.s_addr) &&
	    ntohl(c->server.s_addr) <= ntohl(c->last.s_addr))
		return fail_at(
			r, 0,
			"[netboot] range: the server's own address lies in it (move the range)");
	if (c->bios == NETBOOT_LOADER_UNSAID)
		c->bios = NETBOOT_LOADER_PXELINUX;
	/* GRUB knows no proxy: it would ask the other server for its menu. */
	if (c->uefi == NETBOOT_LOADER_GRUB && c->dhcp == NETBOOT_DHCP_PROXY)
		return fail_at(
			r, 0,
			"[netboot] uefi = grub does not go with dhcp = proxy: GRUB asks the server "
			"that gave the address for its menu (uefi = ipxe; or dhcp = none, and tell "
			"the other server what to boot)");
	if (c->uefi == NETBOOT_LOADER_UNSAID)
		c->uefi = c->dhcp == NETBOOT_DHCP_PROXY ? NETBOOT_LOADER_IPXE : NETBOOT_LOADER_GRUB;
	if (c->bios == NETBOOT_LOADER_NONE && c->uefi == NETBOOT_LOADER_NONE)
		return fail_at(
			r, 0,
			"[netboot] bios = none and uefi = none: nothing is left to boot with");
	return 0;
}

static int finish_entry(const struct reader *r, struct netboot_entry *e)
{
	bool is_dhcp = e->root != NULL && strcmp(e->root, "dhcp") == 0;

	if (e->kernel == NULL)
		return fail_at(r, e->line, "[entry %s] has no kernel = PATH", e->name);
	if (e->n_initramfs == 0)
		return fail_at(
			r, e->line,
			"[entry %s] has no initramfs = PATH (make one with nbdroot initramfs)",
			e->name);
	if (e->root == NULL)
		return fail_at(r, e->line,
			       "[entry %s] has no root = ... (root = nbd://server/export, say)",
			       e->name);
	if (e->root_path != NULL && !is_dhcp)
		return fail_at(r, e->line,
			       "[entry %s]: root-path is told by DHCP, but root is not dhcp (say "
			       "root = dhcp)",
			       e->name);
	if (e->append == NULL)
		e->append = strdup("");
	return e->append == NULL ? fail_at(r, e->line, "out of memory") : 0;
}

static int finish_client(const struct reader *r, struct netboot_client *k)
{
	const struct netboot_config *c = r->config;

	k->entry = c->default_entry;
	if (k->entry_name != NULL && strcmp(k->entry_name, "none") == 0)
		k->entry = NULL;
	else if (k->entry_name != NULL) {
		k->entry = find_entry(c, k->entry_name);
		if (k->entry == NULL)
			return fail_at(r, k->line, "entry: there is no [entry %.60s]",
				       k->entry_name);
	}
	if (k->has_address && k->address.s_addr == c->server.s_addr)
		return fail_at(r, k->line, "address: that is the server's own address");
	if (k->append == NULL)
		k->append = strdup("");
	return k->append == NULL ? fail_at(r, k->line, "out of memory") : 0;
}

static int compare_macs(const void *a, const void *b)
{
	const struct netboot_client *x = a, *y = b;
	int r = memcmp(x->mac, y->mac, sizeof(x->mac));

	return r != 0 ? r : (x->line > y->line) - (x->line < y->line);
}

/* By what must not be there twice: addresses, or names. Then by line. */
static int compare_addresses(const void *a, const void *b)
{
	const struct netboot_client *x = a, *y = b;
	uint32_t p = x->has_address ? ntohl(x->address.s_addr) : 0;
	uint32_t q = y->has_address ? ntohl(y->address.s_addr) : 0;

	return p != q ? (p > q) - (p < q) : (x->line > y->line) - (x->line < y->line);
}

static int compare_names(const void *a, const void *b)
{
	const struct netboot_client *x = a, *y = b;
	int r = strcasecmp(x->name ? x->name : "", y->name ? y->name : "");

	return r != 0 ? r : (x->line > y->line) - (x->line < y->line);
}

/* Those that are alike are neighbours when the list is sorted by what is compared. */
static int check_twins(const struct reader *r, const struct netboot_client *list)
{
	for (size_t i = 1; i < r->config->n_clients; i++) {
		bool is_swapped = list[i - 1].line > list[i].line;
		const struct netboot_client *a = &list[is_swapped ? i : i - 1];
		const struct netboot_client *b = &list[is_swapped ? i - 1 : i];

		if (memcmp(a->mac, b->mac, sizeof(a->mac)) == 0)
			return fail_at(
				r, b->line,
				"[client]: this card has a section already, in line %u (leave one)",
				a->line);
		if (a->has_address && b->has_address && a->address.s_addr == b->address.s_addr)
			return fail_at(
				r, b->line,
				"address: the client in line %u has it already (give another one)",
				a->line);
		if (a->name && b->name && strcasecmp(a->name, b->name) == 0)
			return fail_at(
				r, b->line,
				"name: the client in line %u has it already (give another one)",
				a->line);
	}
	return 0;
}

static int check_clients(const struct reader *r)
{
	const struct netboot_config *c = r->config;
	_cleanup_free_ struct netboot_client *copy = malloc((c->n_clients + 1) * sizeof(*copy));

	if (copy == NULL)
		return fail_at(r, 0, "out of memory");
	if (c->n_clients == 0)
		return 0;
	if (check_twins(r, c->clients) < 0)
		return -1;
	memcpy(copy, c->clients, c->n_clients * sizeof(*copy));
	qsort(copy, c->n_clients, sizeof(*copy), compare_addresses);
	if (check_twins(r, copy) < 0)
		return -1;
	qsort(copy, c->n_clients, sizeof(*copy), compare_names);
	return check_twins(r, copy);
}

static int check_static(const struct reader *r)
{
	const struct netboot_config *c = r->config;

	if (c->dhcp != NETBOOT_DHCP_STATIC)
		return 0;
	for (size_t i = 0; i < c->n_clients; i++)
		if (c->clients[i].has_address)
			return 0;
	return fail_at(r, 0,
		       "[netboot] dhcp = static, and no [client] has an address: nobody would be "
		       "given one (give the clients an address, or say range)");
}

static int finish(const struct reader *r)
{
	struct netboot_config *c = r->config;

	if (finish_server(r) < 0)
		return -1;
	if (c->n_entries == 0)
		return fail_at(r, 0, "there is no [entry NAME], so nothing to boot");
	for (size_t i = 0; i < c->n_entries; i++)
		if (finish_entry(r, &c->entries[i]) < 0)
			return -1;
	c->default_entry = &c->entries[0];
	if (c->default_name != NULL && strcmp(c->default_name, "none") == 0)
		c->default_entry = NULL;
	else if (c->default_name != NULL) {
		c->default_entry = find_entry(c, c->default_name);
		if (c->default_entry == NULL)
			return fail_at(r, 0, "[netboot] default: there is no [entry %.60s]",
				       c->default_name);
	}
	if (c->n_clients > 0)
		qsort(c->clients, c->n_clients, sizeof(*c->clients), compare_macs);
	for (size_t i = 0; i < c->n_clients; i++)
		if (finish_client(r, &c->clients[i]) < 0)
			return -1;
	if (check_static(r) < 0)
		return -1;
	return check_clients(r);
}

int netboot_config_parse(struct netboot_config *c, const char *name, const char *text, size_t size,
			 char *err)
{
	static const char byte_order_mark[] = "\xef\xbb\xbf";
	struct reader r = { .config = c, .name = name, .err = err };

	if (size > 0 && memchr(text, '\0', size))
		return fail_at(&r, 0, "this is not a text file: it has a NUL byte");
	if (size >= 3 && memcmp(text, byte_order_mark, 3) == 0) {
		text += 3;
		size -= 3;
	}
	if (read_lines(&r, text, size) < 0)
		return -1;
	return finish(&r);
}

int netboot_config_load(struct netboot_config *c, const char *path, char *err)
{
	_cleanup_free_ char *text = malloc(FILE_MAX_BYTES);
	struct reader r = { .name = path, .err = err };
	int length;

	if (!text)
		return fail_at(&r, 0, "out of memory");
	length = fd_read_file(path, text, FILE_MAX_BYTES);
	if (length < 0)
		return fail_at(&r, 0, "cannot be read: %s", strerror(-length));
	return netboot_config_parse(c, path, text, (size_t)length, err);
}

void netboot_config_deinit(struct netboot_config *c)
{
	for (size_t i = 0; i < c->n_entries; i++) {
		struct netboot_entry *e = &c->entries[i];

		for (size_t k = 0; k < e->n_initramfs; k++)
			free(e->initramfs[k]);
		free(e->name);
		free(e->kernel);
		free(e->root);
		free(e->root_path);
		free(e->rpmdb);
		free(e->append);
	}
	for (size_t i = 0; i < c->n_clients; i++) {
		free(c->clients[i].name);
		free(c->clients[i].entry_name);
		free(c->clients[i].append);
	}
	for (size_t i = 0; i < NETBOOT_PROGRAMS; i++)
		free(c->programs[i]);
	free(c->entries);
	free(c->clients);
	free(c->interface);
	free(c->lease);
	free(c->router);
	free(c->dns);
	free(c->ntp);
	free(c->domain);
	free(c->default_name);
	*c = (struct netboot_config){ 0 };
}
