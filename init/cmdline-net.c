/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ip=, vlan=, BOOTIF= and nameserver= of the command line, see cmdline.h. ip= is the kernel's own
 * form (Documentation/admin-guide/nfs/nfsroot.rst), read by us because vendor kernels have no
 * CONFIG_IP_PNP; or dracut's (dracut.cmdline(7)), which begins with the card. IPv4 only: what is
 * asked for and not there is said, never guessed at.
 */
#include "cmdline-internal.h"

#include "base/parse.h"

#include <net/if.h>
#include <string.h>

enum {
	IP_CLIENT,
	IP_SERVER,
	IP_GATEWAY,
	IP_MASK,
	IP_HOST,
	IP_DEVICE,
	IP_AUTOCONF,
	IP_DNS0, /* dracut: or the MTU */
	IP_DNS1, /* dracut: behind the MTU, a hardware address with colons of its own */
	IP_NTP,
	IP_FIELDS
};

enum way { WAY_DHCP, WAY_NONE, WAY_UNSUPPORTED, WAY_UNKNOWN };

static enum way way_of(const char *text)
{
	static const struct {
		const char *word;
		enum way way;
	} words[] = {
		{ "dhcp", WAY_DHCP },
		{ "on", WAY_DHCP },
		{ "any", WAY_DHCP },
		{ "single-dhcp", WAY_DHCP },
		{ "none", WAY_NONE },
		{ "off", WAY_NONE },
		{ "bootp", WAY_UNSUPPORTED },
		{ "rarp", WAY_UNSUPPORTED },
		{ "both", WAY_UNSUPPORTED },
		{ "ibft", WAY_UNSUPPORTED },
		{ "dhcp6", WAY_UNSUPPORTED },
		{ "auto6", WAY_UNSUPPORTED },
		{ "either6", WAY_UNSUPPORTED },
		{ "link6", WAY_UNSUPPORTED },
		{ "link-local", WAY_UNSUPPORTED },
	};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strcmp(text, words[i].word) == 0)
			return words[i].way;
	return WAY_UNKNOWN;
}

static void refuse_way(struct cmdline *c, const char *text)
{
	if (way_of(text) == WAY_UNSUPPORTED)
		cmdline_problem(c,
				"ip=: \"%s\" is not supported by this version (IPv4 by dhcp or by "
				"a fixed address is)",
				text);
	else
		cmdline_problem(c, "ip=: \"%s\" is not a way to get an address (dhcp, none)", text);
}

static bool is_address(const char *text)
{
	uint32_t any;

	return parse_ipv4(text, &any) == 0;
}

/* udev's enx525400123456, which does not exist here yet, but tells the address. */
static bool parse_udev_name(const char *name, uint8_t out[static 6])
{
	uint8_t mac[6];

	if (strncmp(name, "enx", 3) != 0 || strlen(name) != 15)
		return false;
	for (size_t i = 0; i < 6; i++) {
		int high = parse_hex_digit(name[3 + 2 * i]), low = parse_hex_digit(name[4 + 2 * i]);

		if (high < 0 || low < 0)
			return false;
		mac[i] = (uint8_t)(high << 4 | low);
	}
	memcpy(out, mac, 6);
	return true;
}

static bool is_device_name(const char *text)
{
	return strlen(text) < IF_NAMESIZE && strcmp(text, ".") != 0 && strcmp(text, "..") != 0 &&
	       text[strcspn(text, "/ \t")] == '\0';
}

/* A card by name or by address. False: a problem was left. */
static bool parse_device(struct cmdline *c, struct cmdline_net *n, const char *text)
{
	if (*text == '\0')
		return true;
	if (parse_mac(text, n->mac) == 0 || parse_udev_name(text, n->mac)) {
		n->has_mac = true;
		return true;
	}
	if (!is_device_name(text)) {
		cmdline_problem(c, "ip=: \"%s\" is not the name of a network card", text);
		return false;
	}
	n->device = text;
	return true;
}

/* "255.255.255.0" or "24"; without one, the class decides, as in the kernel. */
static bool parse_mask(const char *mask, const char *address, unsigned int *prefix)
{
	uint32_t bits = 0;
	uint64_t number;

	if (*mask == '\0') {
		if (parse_ipv4(address, &bits) != 0)
			return false;
		*prefix = bits >> 24 < 128 ? 8 : bits >> 24 < 192 ? 16 : 24;
		return true;
	}
	if (parse_u64(mask, 32, &number) == 0) {
		*prefix = (unsigned int)number;
		return true;
	}
	if (parse_ipv4(mask, &bits) != 0 || (~bits & (~bits + 1)) != 0)
		return false; /* no mask, or one with a hole */
	*prefix = (unsigned int)__builtin_popcount(bits);
	return true;
}

/* The field's address, if it has one. False: a problem was left. */
static bool take_address(struct cmdline *c, const char *field, const char *what, const char **out)
{
	if (*field == '\0')
		return true;
	if (!is_address(field)) {
		cmdline_problem(c, "ip=: \"%s\" (%s) is not an IPv4 address", field, what);
		return false;
	}
	*out = field;
	return true;
}

static bool parse_mtu(struct cmdline *c, struct cmdline_net *n, const char *text)
{
	uint64_t number;

	if (*text == '\0')
		return true;
	if (parse_u64(text, 65535, &number) != 0 || number < 68) {
		cmdline_problem(c, "ip=: \"%s\" is not an MTU", text);
		return false;
	}
	n->mtu = (unsigned int)number;
	return true;
}

static bool parse_new_mac(struct cmdline *c, struct cmdline_net *n, const char *text)
{
	if (*text == '\0')
		return true;
	if (parse_mac(text, n->new_mac) != 0 || (n->new_mac[0] & 1) != 0) {
		cmdline_problem(c, "ip=: \"%s\" is not a hardware address that a card can have",
				text);
		return false;
	}
	n->has_new_mac = true;
	return true;
}

/* What stands behind the way: name servers and a time server, or dracut's MTU and address. */
static bool parse_tail(struct cmdline *c, struct cmdline_net *n, char *const field[IP_FIELDS])
{
	uint64_t number;

	if (parse_u64(field[IP_DNS0], UINT32_MAX, &number) == 0 ||
	    parse_mac(field[IP_DNS1], n->new_mac) == 0)
		return parse_mtu(c, n, field[IP_DNS0]) && parse_new_mac(c, n, field[IP_DNS1]);
	for (int i = IP_DNS0; i <= IP_DNS1; i++) {
		const char *dns = NULL;

		if (!take_address(c, field[i], "name server", &dns))
			return false;
		if (dns != NULL)
			n->dns[n->dns_count++] = dns;
	}
	return take_address(c, field[IP_NTP], "time server", &n->ntp);
}

/* Which is what IPAPPEND 1 gives: not for ever, but what another program had a lease for. */
static bool is_seed(char *const field[IP_FIELDS], size_t count)
{
	return count == 4 && *field[IP_SERVER] != '\0';
}

/* The kernel's form. False: a problem was left. */
static bool parse_fields(struct cmdline *c, struct cmdline_net *n, char *const field[IP_FIELDS],
			 size_t count)
{
	const char *how = field[IP_AUTOCONF];
	enum way way = *how != '\0' ? way_of(how) : WAY_NONE;
	bool has_client = *field[IP_CLIENT] != '\0' && strcmp(field[IP_CLIENT], "0.0.0.0") != 0;

	if (way != WAY_DHCP && way != WAY_NONE) {
		refuse_way(c, how);
		return false;
	}
	if (*field[IP_HOST] != '\0')
		n->host = field[IP_HOST];
	if (!parse_device(c, n, field[IP_DEVICE]) ||
	    !take_address(c, has_client ? field[IP_CLIENT] : "", "client", &n->address) ||
	    !take_address(c, field[IP_SERVER], "server", &n->server) || !parse_tail(c, n, field))
		return false;
	if (!has_client && *how != '\0' && way == WAY_NONE) {
		cmdline_problem(c, "ip=: no address, and \"%s\" forbids asking for one", how);
		return false;
	}
	if (!has_client || way == WAY_DHCP || is_seed(field, count)) {
		n->how = CMDLINE_IP_DHCP;
		return true;
	}
	n->how = CMDLINE_IP_STATIC;
	if (!parse_mask(field[IP_MASK], n->address, &n->prefix)) {
		cmdline_problem(c, "ip=: \"%s\" is not a netmask", field[IP_MASK]);
		return false;
	}
	return take_address(c, field[IP_GATEWAY], "gateway", &n->gateway);
}

/*
 * At most IP_FIELDS fields, cut at colons; of the last ones, a hardware address keeps its own.
 * Returns how many, or 0: too many.
 */
static size_t split(char *value, char *field[IP_FIELDS], size_t mac_at)
{
	static char empty[] = "";
	size_t count = 0;

	for (size_t i = 0; i < IP_FIELDS; i++)
		field[i] = empty;
	for (char *next = value; next != NULL;) {
		uint8_t mac[6];
		char *at = next;

		if (count == IP_FIELDS)
			return 0;
		if (count == mac_at && parse_mac(at, mac) == 0) {
			next = NULL;
		} else {
			next = strchr(at, ':');
			if (next != NULL)
				*next++ = '\0';
		}
		field[count++] = at;
	}
	return count;
}

/* dracut's ip=<card>:<way>[:<mtu>[:<address>]]: the second field says how, the first is a card. */
static bool is_card_form(const char *value)
{
	char word[16];
	const char *second = strchr(value, ':');
	size_t size;

	if (second == NULL)
		return false;
	second++;
	size = strcspn(second, ":");
	if (size == 0 || size >= sizeof(word))
		return false;
	memcpy(word, second, size);
	word[size] = '\0';
	return way_of(word) != WAY_UNKNOWN;
}

static bool parse_card_form(struct cmdline *c, struct cmdline_net *n, char *value)
{
	enum { CARD, WAY, MTU, MAC, FIELDS };
	char *field[IP_FIELDS];
	size_t count = split(value, field, MAC);

	if (count == 0 || count > FIELDS) {
		cmdline_problem(c, "ip=%s:%s: wanted ip=<card>:dhcp[:<mtu>[:<hardware address>]]",
				field[CARD], field[WAY]);
		return false;
	}
	if (way_of(field[WAY]) != WAY_DHCP && way_of(field[WAY]) != WAY_NONE) {
		refuse_way(c, field[WAY]);
		return false;
	}
	n->how = way_of(field[WAY]) == WAY_DHCP ? CMDLINE_IP_DHCP : CMDLINE_IP_NONE;
	return parse_device(c, n, field[CARD]) && parse_mtu(c, n, field[MTU]) &&
	       parse_new_mac(c, n, field[MAC]);
}

static bool parse_one(struct cmdline *c, struct cmdline_net *n, char *value)
{
	char *field[IP_FIELDS];
	size_t count;

	if (value == NULL || *value == '\0')
		return true;
	if (strchr(value, '[') != NULL) {
		cmdline_problem(c, "ip=%s: IPv6 is not supported by this version", value);
		return false;
	}
	if (is_card_form(value))
		return parse_card_form(c, n, value);
	count = split(value, field, IP_DNS1);
	if (count == 0) {
		cmdline_problem(c, "ip=: more than %d fields", (int)IP_FIELDS);
		return false;
	}
	if (count == 1 && !is_address(field[0])) {
		enum way way = way_of(field[0]);

		if (way != WAY_DHCP && way != WAY_NONE) {
			if (way == WAY_UNKNOWN)
				cmdline_problem(c,
						"ip=%s: neither an IPv4 address nor dhcp nor none",
						field[0]);
			else
				refuse_way(c, field[0]);
			return false;
		}
		n->how = way == WAY_DHCP ? CMDLINE_IP_DHCP : CMDLINE_IP_NONE;
		return true;
	}
	return parse_fields(c, n, field, count);
}

static bool is_same_card(const struct cmdline_net *a, const struct cmdline_net *b)
{
	if (a->has_mac || b->has_mac)
		return a->has_mac && b->has_mac && memcmp(a->mac, b->mac, 6) == 0;
	if (a->device == NULL || b->device == NULL)
		return a->device == b->device;
	return strcmp(a->device, b->device) == 0;
}

void cmdline_parse_ip(struct cmdline *c, char *value)
{
	struct cmdline_net n = { .how = CMDLINE_IP_DHCP };
	size_t i = 0;

	if (!parse_one(c, &n, value))
		return;
	/* The last one for a card counts; of those that name no card, the last one at all. */
	while (i < c->nets_count && !is_same_card(&c->nets[i], &n))
		i++;
	if (i == CMDLINE_NETS_MAX) {
		cmdline_problem(c, "ip=: for more than %d cards", CMDLINE_NETS_MAX);
		return;
	}
	c->nets[i] = n;
	if (i == c->nets_count)
		c->nets_count++;
}

const char *cmdline_ip_server(const struct cmdline *c)
{
	for (size_t i = 0; i < c->nets_count; i++)
		if (c->nets[i].server != NULL)
			return c->nets[i].server;
	return NULL;
}

void cmdline_parse_bootif(struct cmdline *c, const char *value)
{
	const char *p = value != NULL ? value : "";

	/* PXELINUX puts the hardware type first; 01 is Ethernet */
	if (strlen(p) == 20 && (strncmp(p, "01-", 3) == 0 || strncmp(p, "01:", 3) == 0))
		p += 3;
	c->has_bootif = parse_mac(p, c->bootif) == 0;
	if (!c->has_bootif)
		cmdline_problem(c, "BOOTIF=%s: wanted 01-aa-bb-cc-dd-ee-ff", value ? value : "");
}

/* dracut's names: vlan5, vlan0005, eth0.5, eth0.0005. The number at the end is the VLAN. */
static bool vlan_id_of(const char *name, unsigned int *id)
{
	size_t size = strlen(name), digits = 0;
	uint64_t number;

	while (digits < size && name[size - digits - 1] >= '0' && name[size - digits - 1] <= '9')
		digits++;
	if (digits == 0 || digits == size || parse_u64(name + size - digits, 4094, &number) != 0 ||
	    number == 0)
		return false;
	*id = (unsigned int)number;
	return true;
}

void cmdline_parse_vlan(struct cmdline *c, char *value)
{
	struct cmdline_vlan v = { .name = value };
	char *card = value != NULL ? strchr(value, ':') : NULL;

	if (card == NULL || card[1] == '\0' || card == value) {
		cmdline_problem(c, "vlan=%s: wanted vlan=<name>:<card>", value ? value : "");
		return;
	}
	*card++ = '\0';
	if (!is_device_name(v.name) || !vlan_id_of(v.name, &v.id)) {
		cmdline_problem(
			c,
			"vlan=%s:%s: the name must end in the number of the VLAN, 1 to 4094 "
			"(vlan5, eth0.5)",
			v.name, card);
		return;
	}
	if (c->vlan.name != NULL && strcmp(c->vlan.name, v.name) != 0) {
		cmdline_problem(c, "vlan=%s:%s: a second VLAN is not supported by this version",
				v.name, card);
		return;
	}
	if (parse_mac(card, v.mac) != 0 && !parse_udev_name(card, v.mac)) {
		if (!is_device_name(card)) {
			cmdline_problem(c, "vlan=%s:%s: \"%s\" is not the name of a network card",
					v.name, card, card);
			return;
		}
		v.card = card;
	}
	c->vlan = v;
}

void cmdline_parse_nameserver(struct cmdline *c, const char *value)
{
	if (value == NULL || !is_address(value))
		cmdline_problem(c, "nameserver=%s: not an IPv4 address", value ? value : "");
	else if (c->nameservers_count == CMDLINE_NAMESERVERS_MAX)
		cmdline_problem(c, "nameserver=%s: more than %d of them", value,
				CMDLINE_NAMESERVERS_MAX);
	else
		c->nameservers[c->nameservers_count++] = value;
}
