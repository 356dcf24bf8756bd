/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes as a DHCP server's answer. What is read can be written into a lease file and is the
 * same when that is read: so it is one line a key, printable, with an address that a machine can
 * have.
 */
#include "init/dhcp.c"
#include "init/lease.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool is_true)
{
	if (!is_true)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct dhcp_reply reply;
	static struct lease again;
	static char text[LEASE_TEXT_MAX];
	static uint8_t message[DHCP_REPLY_MAX];
	struct dhcp_request q = { .type = DHCP_DISCOVER, .xid = 0x12345678 };
	const struct lease *l = &reply.lease;

	if (size > sizeof(message))
		return 0;
	memcpy(message, data, size);
	/* So that not all of the time is spent on finding the head. */
	if (size >= AT_OPTIONS) {
		message[AT_OP] = 2;
		message[AT_HARDWARE] = 1;
		memcpy(message + AT_XID, "\x12\x34\x56\x78", 4);
		memset(message + AT_MAC, 0, 6);
		memcpy(message + AT_COOKIE, "\x63\x82\x53\x63", 4);
	}
	if (dhcp_read(&q, message, size, &reply) != 0 || reply.type == DHCP_NAK)
		return 0;
	must(is_host(reply.address) && l->prefix >= 1 && l->prefix <= 32);
	must(lease_format(l, text, sizeof(text)) == 0 && lease_parse(text, &again) == 0);
	must(strcmp(l->address, again.address) == 0 && l->prefix == again.prefix);
	must(strcmp(l->routes, again.routes) == 0 && strcmp(l->dns, again.dns) == 0);
	must(strcmp(l->search, again.search) == 0 && strcmp(l->domain, again.domain) == 0);
	must(strcmp(l->hostname, again.hostname) == 0 && strcmp(l->ntp, again.ntp) == 0);
	must(strcmp(l->root_path, again.root_path) == 0);
	must(strcmp(l->server, again.server) == 0);
	return 0;
}
