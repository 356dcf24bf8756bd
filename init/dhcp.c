/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See dhcp.h. */
#include "dhcp.h"

#include <stdio.h>
#include <string.h>

/* The fixed part (RFC 2131, section 2), and where its fields are. */
enum {
	AT_OP = 0,
	AT_HARDWARE = 1,
	AT_HARDWARE_SIZE = 2,
	AT_XID = 4,
	AT_SECONDS = 8,
	AT_FLAGS = 10,
	AT_YOUR_ADDRESS = 16,
	AT_NEXT_SERVER = 20,
	AT_MAC = 28,
	AT_SERVER_NAME = 44,
	AT_FILE = 108,
	AT_COOKIE = 236,
	AT_OPTIONS = 240,
	SERVER_NAME_SIZE = 64,
	FILE_SIZE = 128,
	MESSAGE_MIN = 300, /* BOOTP's, which old relays insist on */
	COOKIE = 0x63825363,
	BROADCAST = 0x8000, /* we have no address yet to which an answer could come */
};

enum {
	OPT_PAD = 0,
	OPT_MASK = 1,
	OPT_ROUTERS = 3,
	OPT_DNS = 6,
	OPT_HOST_NAME = 12,
	OPT_DOMAIN = 15,
	OPT_ROOT_PATH = 17,
	OPT_MTU = 26,
	OPT_NTP = 42,
	OPT_WANTED = 50,
	OPT_LEASE = 51,
	OPT_OVERLOAD = 52,
	OPT_TYPE = 53,
	OPT_SERVER = 54,
	OPT_LIST = 55,
	OPT_MAX_SIZE = 57,
	OPT_VENDOR = 60,
	OPT_CLIENT_ID = 61,
	OPT_SEARCH = 119,
	OPT_ROUTES = 121,
	OPT_END = 255,
};

enum {
	OPTION_MAX = 1024, /* of all pieces of one option (RFC 3396) */
	DEFAULT_PREFIX = 24,
	MTU_MIN = 576,
	NAME_MAX_SIZE = 255, /* of a domain name */
};

/* ---- writing -------------------------------------------------------------------------------- */

static void put_u16(uint8_t *p, unsigned int v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void put_u32(uint8_t *p, uint32_t v)
{
	put_u16(p, v >> 16);
	put_u16(p + 2, v & 0xffff);
}

static uint32_t get_u32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static size_t put_option(uint8_t *out, size_t used, uint8_t code, const void *data, size_t size)
{
	if (size > 255 || used + 2 + size + 1 > DHCP_MESSAGE_MAX)
		return used;
	out[used] = code;
	out[used + 1] = (uint8_t)size;
	memcpy(out + used + 2, data, size);
	return used + 2 + size;
}

size_t dhcp_write(const struct dhcp_request *q, uint8_t out[static DHCP_MESSAGE_MAX])
{
	static const uint8_t list[] = { OPT_MASK,      OPT_ROUTERS, OPT_DNS,   OPT_HOST_NAME,
					OPT_DOMAIN,    OPT_MTU,     OPT_NTP,   OPT_LEASE,
					OPT_ROOT_PATH, OPT_SEARCH,  OPT_ROUTES };
	static const char vendor[] = DHCP_VENDOR;
	uint8_t type = (uint8_t)q->type, id[7] = { 1 }, number[4];
	size_t used = AT_OPTIONS;

	memset(out, 0, DHCP_MESSAGE_MAX);
	out[AT_OP] = 1;
	out[AT_HARDWARE] = 1; /* Ethernet */
	out[AT_HARDWARE_SIZE] = 6;
	put_u32(out + AT_XID, q->xid);
	put_u16(out + AT_SECONDS, q->seconds);
	put_u16(out + AT_FLAGS, BROADCAST);
	memcpy(out + AT_MAC, q->mac, 6);
	put_u32(out + AT_COOKIE, COOKIE);

	used = put_option(out, used, OPT_TYPE, &type, 1);
	memcpy(id + 1, q->mac, 6);
	used = put_option(out, used, OPT_CLIENT_ID, id, sizeof(id));
	if (q->wanted != 0) {
		put_u32(number, q->wanted);
		used = put_option(out, used, OPT_WANTED, number, 4);
	}
	if (q->server != 0) {
		put_u32(number, q->server);
		used = put_option(out, used, OPT_SERVER, number, 4);
	}
	put_u16(number, DHCP_MESSAGE_MAX); /* more would not be udhcpc's lease */
	used = put_option(out, used, OPT_MAX_SIZE, number, 2);
	used = put_option(out, used, OPT_VENDOR, vendor, sizeof(vendor) - 1);
	if (q->host != NULL)
		used = put_option(out, used, OPT_HOST_NAME, q->host, strlen(q->host));
	used = put_option(out, used, OPT_LIST, list, sizeof(list));
	out[used++] = OPT_END;
	return used < MESSAGE_MIN ? MESSAGE_MIN : used;
}

/* ---- reading -------------------------------------------------------------------------------- */

/* One option, put together from its pieces. */
struct option {
	size_t size;
	uint8_t data[OPTION_MAX];
};

/* Adds the pieces that are in this area. False: the area is malformed. */
static bool collect(struct option *o, uint8_t code, const uint8_t *area, size_t size)
{
	for (size_t i = 0; i < size && area[i] != OPT_END;) {
		size_t length;

		if (area[i] == OPT_PAD) {
			i++;
			continue;
		}
		if (size - i < 2 || size - i - 2 < area[i + 1])
			return false;
		length = area[i + 1];
		if (area[i] == code && length <= sizeof(o->data) - o->size) {
			memcpy(o->data + o->size, area + i + 2, length);
			o->size += length;
		}
		i += 2 + length;
	}
	return true;
}

struct message {
	const uint8_t *data;
	size_t size;
	unsigned int overload; /* bit 0: options in "file" too; bit 1: in "sname" (option 52) */
};

static void get_option(const struct message *m, uint8_t code, struct option *o)
{
	o->size = 0;
	(void)collect(o, code, m->data + AT_OPTIONS, m->size - AT_OPTIONS);
	if ((m->overload & 1) != 0)
		(void)collect(o, code, m->data + AT_FILE, FILE_SIZE);
	if ((m->overload & 2) != 0)
		(void)collect(o, code, m->data + AT_SERVER_NAME, SERVER_NAME_SIZE);
}

/* The first address of an option; 0: none. */
static uint32_t get_address(const struct message *m, uint8_t code)
{
	struct option o;

	get_option(m, code, &o);
	return o.size >= 4 ? get_u32(o.data) : 0;
}

static void format_address(uint32_t a, char out[static 16])
{
	snprintf(out, 16, "%u.%u.%u.%u", a >> 24, a >> 16 & 255, a >> 8 & 255, a & 255);
}

/* Whether a machine, or a gateway, can have it. */
static bool is_host(uint32_t a)
{
	return a >> 24 != 0 && a >> 24 != 127 && a >> 24 < 224;
}

/* Adds a word to a list; false when it does not fit. */
static bool add_word(char *list, size_t size, const char *word)
{
	size_t used = strlen(list);

	if (used + (used > 0) + strlen(word) >= size)
		return false;
	snprintf(list + used, size - used, "%s%s", used > 0 ? " " : "", word);
	return true;
}

static void leave_out(struct dhcp_reply *r, const char *what)
{
	size_t used = strlen(r->left_out);

	snprintf(r->left_out + used, sizeof(r->left_out) - used, "%s%s", used > 0 ? ", " : "",
		 what);
}

static void read_addresses(const struct message *m, uint8_t code, char *out, size_t size)
{
	struct option o;
	char word[16];

	*out = '\0';
	get_option(m, code, &o);
	for (size_t i = 0; i + 4 <= o.size; i += 4) {
		uint32_t a = get_u32(o.data + i);

		format_address(a, word);
		if (is_host(a) && !add_word(out, size, word))
			break;
	}
}

static bool is_name_character(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '_' || c == '.';
}

/* Text; servers may put a NUL behind it. is_name: of a host or domain. */
static void read_text(const struct message *m, uint8_t code, bool is_name, const char *what,
		      char *out, size_t size, struct dhcp_reply *r)
{
	struct option o;

	*out = '\0';
	get_option(m, code, &o);
	while (o.size > 0 && o.data[o.size - 1] == '\0')
		o.size--;
	for (size_t i = 0; i < o.size; i++) {
		bool is_good = is_name ? is_name_character(o.data[i]) && (i > 0 || o.data[0] != '-')
				       : o.data[i] >= 0x20 && o.data[i] <= 0x7e;

		if (!is_good) {
			leave_out(r, what);
			return;
		}
	}
	if (o.size >= size) {
		leave_out(r, what);
		return;
	}
	memcpy(out, o.data, o.size);
	out[o.size] = '\0';
}

/*
 * One domain name at *at (RFC 1035, section 4.1.4), and moves *at behind it. A pointer must lead
 * backwards, so that there is an end.
 */
static bool read_name(const struct option *o, size_t *at, char out[static NAME_MAX_SIZE + 1])
{
	size_t i = *at, limit = *at, used = 0;
	bool has_jumped = false;

	*out = '\0';
	for (;;) {
		size_t label;

		if (i >= o->size)
			return false;
		label = o->data[i];
		if (label >= 0xc0) {
			size_t to;

			if (i + 2 > o->size)
				return false;
			to = (label & 0x3f) << 8 | o->data[i + 1];
			if (!has_jumped)
				*at = i + 2;
			if (to >= limit)
				return false;
			has_jumped = true;
			i = limit = to;
			continue;
		}
		i++;
		if (label == 0)
			break;
		if (label > 63 || label > o->size - i || used + 1 + label > NAME_MAX_SIZE)
			return false;
		if (used > 0)
			out[used++] = '.';
		for (size_t k = 0; k < label; k++, i++) {
			if (!is_name_character(o->data[i]) || o->data[i] == '.')
				return false;
			out[used++] = (char)o->data[i];
		}
		out[used] = '\0';
	}
	if (!has_jumped)
		*at = i;
	return used > 0;
}

static void read_search(const struct message *m, struct dhcp_reply *r)
{
	char *out = r->lease.search, name[NAME_MAX_SIZE + 1];
	struct option o;

	get_option(m, OPT_SEARCH, &o);
	for (size_t at = 0; at < o.size;) {
		if (!read_name(&o, &at, name)) {
			leave_out(r, "search list");
			*out = '\0';
			break;
		}
		if (!add_word(out, sizeof(r->lease.search), name))
			break;
	}
	if (*out == '\0')
		(void)add_word(out, sizeof(r->lease.search), r->lease.domain);
}

static bool add_route(struct dhcp_reply *r, uint32_t to, unsigned int prefix, uint32_t gateway)
{
	char destination[16], by[16], pair[48];

	format_address(to, destination);
	format_address(gateway, by);
	snprintf(pair, sizeof(pair), "%s/%u %s", destination, prefix, by);
	return add_word(r->lease.routes, sizeof(r->lease.routes), pair);
}

/* Option 121 replaces option 3 (RFC 3442); gateway 0.0.0.0 is a network on the link. */
static void read_routes(const struct message *m, struct dhcp_reply *r)
{
	struct option o;
	uint32_t router;

	get_option(m, OPT_ROUTES, &o);
	for (size_t i = 0; i < o.size;) {
		unsigned int prefix = o.data[i++];
		size_t bytes = (prefix + 7) / 8;
		uint8_t to[4] = { 0 };
		uint32_t mask, gateway;

		if (prefix > 32 || o.size - i < bytes + 4) {
			leave_out(r, "classless routes");
			r->lease.routes[0] = '\0';
			break;
		}
		memcpy(to, o.data + i, bytes);
		i += bytes;
		gateway = get_u32(o.data + i);
		i += 4;
		mask = prefix == 0 ? 0 : UINT32_MAX << (32 - prefix);
		if (gateway != 0 && !is_host(gateway))
			continue;
		if (!add_route(r, get_u32(to) & mask, prefix, gateway))
			break;
	}
	router = get_address(m, OPT_ROUTERS);
	if (r->lease.routes[0] != '\0' || !is_host(router))
		return;
	/* A point-to-point lease: the gateway is outside of the network, but on the link. */
	if (r->lease.prefix == 32)
		add_route(r, router, 32, 0);
	add_route(r, 0, 0, router);
}

static unsigned int read_prefix(const struct message *m)
{
	uint32_t mask = get_address(m, OPT_MASK);

	if (mask == 0 || (~mask & (~mask + 1)) != 0) /* none, or with a hole */
		return DEFAULT_PREFIX;
	return (unsigned int)__builtin_popcount(mask);
}

static void read_lease(const struct message *m, struct dhcp_reply *r)
{
	struct lease *l = &r->lease;
	struct option o;
	uint32_t next = get_u32(m->data + AT_NEXT_SERVER);

	l->prefix = read_prefix(m);
	format_address(r->address, l->address);
	if (is_host(r->server))
		format_address(r->server, l->server);
	if (is_host(next))
		format_address(next, l->next_server);
	read_addresses(m, OPT_DNS, l->dns, sizeof(l->dns));
	read_addresses(m, OPT_NTP, l->ntp, sizeof(l->ntp));
	read_text(m, OPT_HOST_NAME, true, "host name", l->hostname, sizeof(l->hostname), r);
	read_text(m, OPT_DOMAIN, true, "domain", l->domain, sizeof(l->domain), r);
	read_text(m, OPT_ROOT_PATH, false, "root path", l->root_path, sizeof(l->root_path), r);
	read_search(m, r);
	read_routes(m, r);
	r->lease_s = get_address(m, OPT_LEASE);
	get_option(m, OPT_MTU, &o);
	if (o.size == 2 && (o.data[0] << 8 | o.data[1]) >= MTU_MIN)
		r->mtu = (unsigned int)(o.data[0] << 8 | o.data[1]);
}

int dhcp_read(const struct dhcp_request *q, const uint8_t *data, size_t size,
	      struct dhcp_reply *out)
{
	struct message m = { .data = data, .size = size };
	struct option o = { 0 };
	struct dhcp_reply r = { 0 };

	if (size < AT_OPTIONS || data[AT_OP] != 2 || data[AT_HARDWARE] != 1 ||
	    get_u32(data + AT_XID) != q->xid || memcmp(data + AT_MAC, q->mac, 6) != 0 ||
	    get_u32(data + AT_COOKIE) != COOKIE)
		return DHCP_E_NOT_OURS;
	if (!collect(&o, OPT_TYPE, data + AT_OPTIONS, size - AT_OPTIONS) || o.size != 1)
		return DHCP_E_NOT_OURS;
	switch (o.data[0]) {
	case DHCP_OFFER: r.type = DHCP_OFFER; break;
	case DHCP_ACK: r.type = DHCP_ACK; break;
	case DHCP_NAK: r.type = DHCP_NAK; break;
	default: return DHCP_E_NOT_OURS;
	}
	get_option(&m, OPT_OVERLOAD, &o);
	m.overload = o.size == 1 ? o.data[0] : 0;
	r.server = get_address(&m, OPT_SERVER);
	r.address = get_u32(data + AT_YOUR_ADDRESS);
	/* proxyDHCP offers no address; who does not say who it is cannot be answered. */
	if (r.server == 0 || (r.type != DHCP_NAK && !is_host(r.address)))
		return DHCP_E_NOT_OURS;
	if (r.type != DHCP_NAK)
		read_lease(&m, &r);
	*out = r;
	return 0;
}
