/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes as a lease file. What is read is printable ASCII with an address in it, and the same
 * after it was written and read again.
 */
#include "init/lease.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool is_true)
{
	if (!is_true)
		abort();
}

static void check_text(const char *text, size_t size)
{
	must(memchr(text, '\0', size) != NULL);
	for (; *text != '\0'; text++)
		must(*text >= 0x20 && *text <= 0x7e);
}

#define CHECK_TEXT(array) check_text(array, sizeof(array))

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char text[LEASE_TEXT_MAX];
	static struct lease lease, again;
	uint32_t ip;

	if (size >= sizeof(text))
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	if (lease_parse(text, &lease) != 0)
		return 0;
	CHECK_TEXT(lease.address);
	CHECK_TEXT(lease.routes);
	CHECK_TEXT(lease.dns);
	CHECK_TEXT(lease.search);
	CHECK_TEXT(lease.domain);
	CHECK_TEXT(lease.hostname);
	CHECK_TEXT(lease.ntp);
	CHECK_TEXT(lease.root_path);
	CHECK_TEXT(lease.next_server);
	CHECK_TEXT(lease.server);
	must(lease.prefix <= 32 && parse_ipv4(lease.address, &ip) == 0);

	must(lease_format(&lease, text, sizeof(text)) == 0);
	must(lease_parse(text, &again) == 0);
	must(strcmp(lease.routes, again.routes) == 0 && strcmp(lease.dns, again.dns) == 0 &&
	     strcmp(lease.root_path, again.root_path) == 0 && lease.prefix == again.prefix);
	return 0;
}
