/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ip= and BOOTIF= of the command line, see cmdline.h. ip= is the kernel's own form
 * (Documentation/admin-guide/nfs/nfsroot.rst), read by us because vendor kernels have no
 * CONFIG_IP_PNP. IPv4 only.
 */
#include "cmdline-internal.h"

#include "base/parse.h"

#include <arpa/inet.h>
#include <string.h>

enum {
	IP_CLIENT,
	IP_SERVER,
	IP_GATEWAY,
	IP_MASK,
	IP_HOST,
	IP_DEVICE,
	IP_AUTOCONF,
	IP_DNS0,
	IP_DNS1,
	IP_NTP,
	IP_FIELDS
};

static bool is_dhcp_word(const char *text)
{
	return strcmp(text, "dhcp") == 0 || strcmp(text, "on") == 0 || strcmp(text, "any") == 0;
}

static bool is_address(const char *text)
{
	struct in_addr a;

	return inet_pton(AF_INET, text, &a) == 1;
}

/* "255.255.255.0" or "24"; without one, the class decides, as in the kernel. */
static bool parse_mask(const char *mask, const char *address, unsigned int *prefix)
{
	struct in_addr a;
	uint64_t number;

	if (*mask == '\0') {
		uint8_t first;

		inet_pton(AF_INET, address, &a);
		first = (uint8_t)(ntohl(a.s_addr) >> 24);
		*prefix = first < 128 ? 8 : first < 192 ? 16 : 24;
		return true;
	}
	if (parse_u64(mask, 32, &number) == 0) {
		*prefix = (unsigned int)number;
		return true;
	}
	if (inet_pton(AF_INET, mask, &a) != 1)
		return false;

	uint32_t bits = ntohl(a.s_addr);

	if ((~bits & (~bits + 1)) != 0)
		return false; /* a hole */
	*prefix = (unsigned int)__builtin_popcount(bits);
	return true;
}

static void parse_static(struct cmdline *c, char *const field[IP_FIELDS])
{
	const char *address = field[IP_CLIENT];

	if (!is_address(address)) {
		cmdline_problem(c, "ip=: \"%s\" is not an IPv4 address", address);
		return;
	}
	if (!parse_mask(field[IP_MASK], address, &c->ip_prefix)) {
		cmdline_problem(c, "ip=: \"%s\" is not a netmask", field[IP_MASK]);
		return;
	}
	if (*field[IP_GATEWAY] != '\0') {
		if (!is_address(field[IP_GATEWAY])) {
			cmdline_problem(c, "ip=: \"%s\" (gateway) is not an IPv4 address",
					field[IP_GATEWAY]);
			return;
		}
		c->ip_gateway = field[IP_GATEWAY];
	}
	for (int i = IP_DNS0; i <= IP_DNS1; i++) {
		if (*field[i] == '\0')
			continue;
		if (!is_address(field[i])) {
			cmdline_problem(c, "ip=: \"%s\" (name server) is not an IPv4 address",
					field[i]);
			return;
		}
		c->dns[c->dns_count++] = field[i];
	}
	c->ip = CMDLINE_IP_STATIC;
	c->ip_address = address;
}

void cmdline_parse_ip(struct cmdline *c, char *value)
{
	static char empty[] = "";
	char *field[IP_FIELDS];
	size_t count = 0;

	for (size_t i = 0; i < IP_FIELDS; i++)
		field[i] = empty;
	c->ip_address = c->ip_gateway = c->ip_host = c->ip_interface = c->ip_server = NULL;
	c->dns_count = 0;
	c->ip = CMDLINE_IP_DHCP;
	if (value == NULL || *value == '\0')
		return;

	if (*value == '[') {
		cmdline_problem(c, "ip=%s: IPv6 is not supported by this version", value);
		return;
	}
	for (char *next = value; next != NULL;) {
		char *at = next;

		if (count == IP_FIELDS) {
			cmdline_problem(c, "ip=: more than %d fields", (int)IP_FIELDS);
			return;
		}
		next = strchr(at, ':');
		if (next != NULL)
			*next++ = '\0';
		field[count++] = at;
	}

	if (count == 1 && is_dhcp_word(field[0]))
		return;
	if (count == 1 && (strcmp(field[0], "none") == 0 || strcmp(field[0], "off") == 0)) {
		c->ip = CMDLINE_IP_NONE;
		return;
	}
	if (count == 2 && is_dhcp_word(field[1])) { /* dracut's ip=<interface>:dhcp */
		c->ip_interface = *field[0] != '\0' ? field[0] : NULL;
		return;
	}

	if (*field[IP_SERVER] != '\0') {
		if (!is_address(field[IP_SERVER])) {
			cmdline_problem(c, "ip=: \"%s\" (server) is not an IPv4 address",
					field[IP_SERVER]);
			return;
		}
		c->ip_server = field[IP_SERVER];
	}
	if (*field[IP_HOST] != '\0')
		c->ip_host = field[IP_HOST];
	if (*field[IP_DEVICE] != '\0')
		c->ip_interface = field[IP_DEVICE];
	if (is_dhcp_word(field[IP_AUTOCONF]) && *field[IP_CLIENT] == '\0')
		return;

	const char *how = field[IP_AUTOCONF];

	if (*how != '\0' && !is_dhcp_word(how) && strcmp(how, "none") != 0 &&
	    strcmp(how, "off") != 0) {
		cmdline_problem(c, "ip=: \"%s\" is not a way to get an address (dhcp, none)", how);
		return;
	}
	if (*field[IP_CLIENT] != '\0')
		parse_static(c, field);
	else if (strcmp(how, "none") == 0 || strcmp(how, "off") == 0)
		cmdline_problem(c, "ip=: no address, and \"%s\" forbids asking for one", how);
}

void cmdline_parse_bootif(struct cmdline *c, const char *value)
{
	size_t size = value != NULL ? strlen(value) : 0;
	const char *p = value;

	c->has_bootif = false;
	if (size == 20) { /* PXELINUX puts the hardware type first; 01 is Ethernet */
		if (strncmp(p, "01", 2) != 0)
			goto bad;
		p += 3;
		size -= 3;
	}
	if (size != 17)
		goto bad;
	for (size_t i = 0; i < 6; i++) {
		int high = parse_hex_digit(p[3 * i]), low = parse_hex_digit(p[3 * i + 1]);
		char mark = p[3 * i + 2];

		if (high < 0 || low < 0 || (i < 5 && mark != '-' && mark != ':'))
			goto bad;
		c->bootif[i] = (uint8_t)(high << 4 | low);
	}
	c->has_bootif = true;
	return;
bad:
	cmdline_problem(c, "BOOTIF=%s: wanted 01-aa-bb-cc-dd-ee-ff", value ? value : "");
}
