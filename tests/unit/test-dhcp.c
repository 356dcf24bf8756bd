/* SPDX-License-Identifier: GPL-2.0-or-later */
/* DHCP messages: what we send, and what we make of what any server may send. */
#include "init/dhcp.h"

#include "tests/unit/tap.h"

static const uint8_t mac[6] = { 0x02, 0, 0, 0, 0, 0x17 };
static struct dhcp_request q;
static struct dhcp_reply r;
static uint8_t message[1500];
static size_t used;

/* An answer to q: from 192.0.2.1, for 192.0.2.17. Options are put behind. */
static void begin(uint8_t type)
{
	static const uint8_t server[6] = { 54, 4, 192, 0, 2, 1 };

	q = (struct dhcp_request){ .type = DHCP_DISCOVER, .xid = 0x12345678 };
	memcpy(q.mac, mac, 6);
	memset(message, 0, sizeof(message));
	message[0] = 2;
	message[1] = 1;
	message[2] = 6;
	memcpy(message + 4, "\x12\x34\x56\x78", 4);
	memcpy(message + 16, "\xc0\0\2\x11", 4);
	memcpy(message + 28, mac, 6);
	memcpy(message + 236, "\x63\x82\x53\x63", 4);
	used = 240;
	memcpy(message + used, (const uint8_t[]){ 53, 1, type }, 3);
	used += 3;
	memcpy(message + used, server, sizeof(server));
	used += sizeof(server);
}

static void add(uint8_t code, const void *data, size_t size)
{
	message[used] = code;
	message[used + 1] = (uint8_t)size;
	memcpy(message + used + 2, data, size);
	used += 2 + size;
}

static void add_text(uint8_t code, const char *text)
{
	add(code, text, strlen(text));
}

static int read_it(void)
{
	message[used] = 255;
	memset(&r, 'x', sizeof(r));
	return dhcp_read(&q, message, used + 1, &r);
}

/* The option's place in a message of ours, or NULL. */
static const uint8_t *find(const uint8_t *m, size_t size, uint8_t code)
{
	for (size_t i = 240; i + 1 < size && m[i] != 255; i += 2 + m[i + 1])
		if (m[i] == code)
			return m + i;
	return NULL;
}

TEST(our_client_identifier_is_the_same_as_udhcpcs_and_the_firmwares)
{
	uint8_t out[DHCP_MESSAGE_MAX];
	size_t size;

	begin(DHCP_OFFER);
	size = dhcp_write(&q, out);
	CHECK(find(out, size, 61) != NULL);
	CHECK(memcmp(find(out, size, 61), "\x3d\7\1\2\0\0\0\0\x17", 9) == 0);
	CHECK(memcmp(find(out, size, 60), "\x3c\7nbdroot", 9) == 0);
	CHECK_EQ(find(out, size, 53)[2], DHCP_DISCOVER);
	CHECK(find(out, size, 50) == NULL);
	CHECK(find(out, size, 12) == NULL);
	CHECK(size >= 300 && size <= DHCP_MESSAGE_MAX);
	CHECK_EQ(out[10], 0x80); /* broadcast */
}

TEST(a_request_names_address_server_and_host)
{
	uint8_t out[DHCP_MESSAGE_MAX];
	size_t size;

	begin(DHCP_OFFER);
	q.type = DHCP_REQUEST;
	q.wanted = 0xc0000211;
	q.server = 0xc0000201;
	q.host = "pc-17";
	size = dhcp_write(&q, out);
	CHECK(memcmp(find(out, size, 50), "\x32\4\xc0\0\2\x11", 6) == 0);
	CHECK(memcmp(find(out, size, 54), "\x36\4\xc0\0\2\1", 6) == 0);
	CHECK(memcmp(find(out, size, 12), "\x0c\5pc-17", 7) == 0);
}

TEST(a_host_name_that_does_not_fit_is_not_sent)
{
	static char name[1000];
	uint8_t out[DHCP_MESSAGE_MAX];
	size_t size;

	begin(DHCP_OFFER);
	memset(name, 'a', sizeof(name) - 1);
	q.host = name;
	size = dhcp_write(&q, out);
	CHECK(find(out, size, 12) == NULL);
	CHECK(find(out, size, 55) != NULL);
}

TEST(an_offer_is_read_whole)
{
	begin(DHCP_OFFER);
	memcpy(message + 20, "\xc0\0\2\6", 4);
	add(1, "\xff\xff\xff\x80", 4);
	add(3, "\xc0\0\2\1\xc0\0\2\2", 8);
	add(6, "\xc0\0\2\3\xc0\0\2\4", 8);
	add_text(12, "pc-17");
	add_text(15, "example.net");
	add_text(17, "nbd:192.0.2.5:root");
	add(26, "\x05\x78", 2);
	add(42, "\xc0\0\2\5", 4);
	add(51, "\0\0\2\x58", 4);
	CHECK_EQ(read_it(), 0);
	CHECK_EQ(r.type, DHCP_OFFER);
	CHECK_EQ(r.address, 0xc0000211);
	CHECK_EQ(r.server, 0xc0000201);
	CHECK_EQ(r.lease_s, 600);
	CHECK_EQ(r.mtu, 1400);
	CHECK_STR(r.lease.address, "192.0.2.17");
	CHECK_EQ(r.lease.prefix, 25);
	CHECK_STR(r.lease.routes, "0.0.0.0/0 192.0.2.1");
	CHECK_STR(r.lease.dns, "192.0.2.3 192.0.2.4");
	CHECK_STR(r.lease.hostname, "pc-17");
	CHECK_STR(r.lease.domain, "example.net");
	CHECK_STR(r.lease.search, "example.net");
	CHECK_STR(r.lease.root_path, "nbd:192.0.2.5:root");
	CHECK_STR(r.lease.ntp, "192.0.2.5");
	CHECK_STR(r.lease.next_server, "192.0.2.6");
	CHECK_STR(r.lease.server, "192.0.2.1");
	CHECK_STR(r.left_out, "");
}

TEST(what_is_not_for_us_is_ignored)
{
	static const struct {
		size_t at;
		uint8_t value;
	} other[] = { { 0, 1 },   { 1, 6 },   { 7, 0x79 }, { 33, 0x18 },
		      { 239, 0 }, { 242, 4 }, { 16, 0 } };

	for (size_t i = 0; i < ARRAY_SIZE(other); i++) {
		begin(DHCP_OFFER);
		message[other[i].at] = other[i].value;
		CHECK_EQ(read_it(), DHCP_E_NOT_OURS);
	}
	begin(DHCP_OFFER);
	CHECK_EQ(dhcp_read(&q, message, 239, &r), DHCP_E_NOT_OURS);
	CHECK_EQ(dhcp_read(&q, message, 0, &r), DHCP_E_NOT_OURS);
}

TEST(addresses_that_no_machine_can_have_are_no_offer)
{
	static const uint8_t bad[] = { 0, 127, 224, 240, 255 };

	for (size_t i = 0; i < sizeof(bad); i++) {
		begin(DHCP_OFFER);
		message[16] = bad[i];
		CHECK_EQ(read_it(), DHCP_E_NOT_OURS);
	}
}

TEST(an_option_longer_than_the_message_ends_it)
{
	begin(DHCP_OFFER);
	message[used++] = 12;
	message[used++] = 200;
	CHECK_EQ(read_it(), DHCP_E_NOT_OURS);
}

TEST(strings_with_bytes_that_none_may_have_are_left_out_by_name)
{
	begin(DHCP_ACK);
	add_text(12, "pc;reboot");
	add_text(15, "a b");
	add_text(17, "/x\naddress=1.2.3.4");
	CHECK_EQ(read_it(), 0);
	CHECK_STR(r.lease.hostname, "");
	CHECK_STR(r.lease.domain, "");
	CHECK_STR(r.lease.root_path, "");
	CHECK_STR(r.left_out, "host name, domain, root path");
	begin(DHCP_ACK);
	add_text(12, "-rf");
	CHECK_EQ(read_it(), 0);
	CHECK_STR(r.lease.hostname, "");
}

TEST(a_nul_behind_a_string_is_no_part_of_it)
{
	begin(DHCP_ACK);
	add(12, "pc-17\0", 6);
	add(17, "/x\0\0", 4);
	CHECK_EQ(read_it(), 0);
	CHECK_STR(r.lease.hostname, "pc-17");
	CHECK_STR(r.lease.root_path, "/x");
}

TEST(a_long_option_comes_in_pieces_and_has_a_limit)
{
	char part[256];

	memset(part, 'a', sizeof(part));
	begin(DHCP_ACK);
	add(17, part, 255);
	add(12, "pc", 2);
	add(17, part, 255);
	CHECK_EQ(read_it(), 0);
	CHECK_EQ(strlen(r.lease.root_path), 510);
	CHECK_STR(r.lease.hostname, "pc");
	add(17, part, 2);
	CHECK_EQ(read_it(), 0);
	CHECK_STR(r.lease.root_path, "");
	CHECK_STR(r.left_out, "root path");
}

TEST(options_may_lie_in_the_fields_for_file_and_server_name)
{
	begin(DHCP_ACK);
	memcpy(message + 108, "\x11\2/x\xff", 5);
	memcpy(message + 44, "\x0c\2pc\xff", 5);
	CHECK_EQ(read_it(), 0);
	CHECK_STR(r.lease.root_path, "");
	add(52, "\3", 1);
	CHECK_EQ(read_it(), 0);
	CHECK_STR(r.lease.root_path, "/x");
	CHECK_STR(r.lease.hostname, "pc");
}

TEST(classless_routes_replace_the_router)
{
	begin(DHCP_ACK);
	add(1, "\xff\xff\xff\0", 4);
	add(3, "\xc0\0\2\1", 4);
	add(121, "\x10\x0a\1\xc0\0\2\2\0\xc0\0\2\3\x18\xc0\0\3\0\0\0\0", 20);
	CHECK_EQ(read_it(), 0);
	CHECK_STR(r.lease.routes, "10.1.0.0/16 192.0.2.2 0.0.0.0/0 192.0.2.3 192.0.3.0/24 0.0.0.0");
}

TEST(classless_routes_that_are_malformed_leave_the_router)
{
	begin(DHCP_ACK);
	add(3, "\xc0\0\2\1", 4);
	add(121, "\x21\x0a\1\2\3\xc0\0\2\2", 9);
	CHECK_EQ(read_it(), 0);
	CHECK_STR(r.lease.routes, "0.0.0.0/0 192.0.2.1");
	CHECK_STR(r.left_out, "classless routes");
}

TEST(a_router_outside_of_a_point_to_point_lease_is_on_the_link)
{
	begin(DHCP_ACK);
	add(1, "\xff\xff\xff\xff", 4);
	add(3, "\xc0\0\2\1", 4);
	CHECK_EQ(read_it(), 0);
	CHECK_STR(r.lease.routes, "192.0.2.1/32 0.0.0.0 0.0.0.0/0 192.0.2.1");
}

TEST(a_mask_with_a_hole_is_none)
{
	begin(DHCP_ACK);
	add(1, "\xff\0\xff\0", 4);
	CHECK_EQ(read_it(), 0);
	CHECK_EQ(r.lease.prefix, 24);
}

TEST(a_search_list_is_unpacked)
{
	begin(DHCP_ACK);
	/* a.example.net, b.example.net: RFC 3397's own way to save bytes */
	add(119, "\1a\7example\3net\0\1b\xc0\2", 19);
	CHECK_EQ(read_it(), 0);
	CHECK_STR(r.lease.search, "a.example.net b.example.net");
}

TEST(a_search_list_that_points_at_itself_has_an_end)
{
	begin(DHCP_ACK);
	add(119, "\1a\xc0\0", 4);
	CHECK_EQ(read_it(), 0);
	CHECK_STR(r.lease.search, "");
	CHECK_STR(r.left_out, "search list");
	begin(DHCP_ACK);
	add(119, "\xc0\5", 2);
	CHECK_EQ(read_it(), 0);
	CHECK_STR(r.left_out, "search list");
	begin(DHCP_ACK);
	add(119,
	    "\x3f"
	    "a",
	    2);
	CHECK_EQ(read_it(), 0);
	CHECK_STR(r.left_out, "search list");
}

TEST(more_name_servers_than_there_is_room_end_behind_a_whole_one)
{
	uint8_t many[252];

	for (size_t i = 0; i < sizeof(many); i++)
		many[i] = 200;
	begin(DHCP_ACK);
	add(6, many, sizeof(many));
	CHECK_EQ(read_it(), 0);
	CHECK(strlen(r.lease.dns) < sizeof(r.lease.dns));
	CHECK_EQ((strlen(r.lease.dns) + 1) % strlen("200.200.200.200 "), 0);
}

TEST(a_refusal_needs_no_address)
{
	begin(DHCP_NAK);
	memset(message + 16, 0, 4);
	CHECK_EQ(read_it(), 0);
	CHECK_EQ(r.type, DHCP_NAK);
}
