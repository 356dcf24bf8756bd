/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The lease file: what a DHCP server may have put there ends as a lease, or as none. */
#include "init/lease.h"

#include "tests/unit/tap.h"

static struct lease l;

static int parse(const char *text)
{
	memset(&l, 'x', sizeof(l));
	return lease_parse(text, &l);
}

TEST(every_line_of_udhcpc_script_is_read)
{
	CHECK_EQ(parse("address=192.0.2.17\nprefix=24\ngateway=192.0.2.1\n"
		       "routes=0.0.0.0/0 192.0.2.1\ndns=192.0.2.2 192.0.2.3\n"
		       "domain=example.net\nsearch=a.example b.example\nhostname=pc-17\n"
		       "ntp=192.0.2.4\nroot_path=nbd:192.0.2.5:root\nnext_server=192.0.2.6\n"
		       "server=192.0.2.7\nlease_s=600\n"),
		 0);
	CHECK_STR(l.address, "192.0.2.17");
	CHECK_EQ(l.prefix, 24);
	CHECK_STR(l.routes, "0.0.0.0/0 192.0.2.1");
	CHECK_STR(l.dns, "192.0.2.2 192.0.2.3");
	CHECK_STR(l.domain, "example.net");
	CHECK_STR(l.search, "a.example b.example");
	CHECK_STR(l.hostname, "pc-17");
	CHECK_STR(l.ntp, "192.0.2.4");
	CHECK_STR(l.root_path, "nbd:192.0.2.5:root");
	CHECK_STR(l.next_server, "192.0.2.6");
	CHECK_STR(l.server, "192.0.2.7");
}

TEST(what_is_not_there_is_empty)
{
	CHECK_EQ(parse("address=192.0.2.17\nprefix=32"), 0);
	CHECK_STR(l.root_path, "");
	CHECK_STR(l.hostname, "");
	CHECK_STR(l.next_server, "");
}

TEST(without_a_usable_address_it_is_no_lease)
{
	CHECK_EQ(parse(""), -ENODATA);
	CHECK_EQ(parse("prefix=24\n"), -ENODATA);
	CHECK_EQ(parse("address=\nprefix=24\n"), -ENODATA);
	CHECK_EQ(parse("address=0.0.0.0\nprefix=24\n"), -ENODATA);
	CHECK_EQ(parse("address=192.0.2.300\nprefix=24\n"), -ENODATA);
	CHECK_EQ(parse("address=$(reboot)\nprefix=24\n"), -ENODATA);
	CHECK_EQ(parse("address=192.0.2.1\n"), -ENODATA);
	CHECK_EQ(parse("address=192.0.2.1\nprefix=33\n"), -ENODATA);
	CHECK_EQ(parse("address=192.0.2.1\nprefix=-1\n"), -ENODATA);
	CHECK_EQ(parse("address=192.0.2.1\nprefix=24x\n"), -ENODATA);
	CHECK_EQ(parse("address=192.0.2.1\nprefix=4294967320\n"), -ENODATA);
}

/* A name of 64 bytes is the longest that the kernel takes. */
TEST(text_that_is_too_long_is_left_out_not_cut)
{
	char text[700] = "address=192.0.2.1\nprefix=24\nhostname=";
	size_t used = strlen(text);

	memset(text + used, 'a', 64);
	CHECK_EQ(parse(text), 0);
	CHECK_EQ(strlen(l.hostname), 64);
	text[used + 64] = 'a';
	CHECK_EQ(parse(text), 0);
	CHECK_STR(l.hostname, "");
}

TEST(control_characters_and_bytes_above_ascii_spoil_a_value)
{
	CHECK_EQ(parse("address=192.0.2.1\nprefix=24\nhostname=pc\x1b[2J\nroot_path=/\xc3\xa4\n"
		       "domain=a\tb\n"),
		 0);
	CHECK_STR(l.hostname, "");
	CHECK_STR(l.root_path, "");
	CHECK_STR(l.domain, "");
}

TEST(list_that_is_too_long_ends_behind_a_whole_word)
{
	char text[2048] = "address=192.0.2.1\nprefix=24\ndns=";
	size_t used = strlen(text);

	for (int i = 0; i < 60; i++)
		used += (size_t)sprintf(text + used, "%s192.0.2.%d", i > 0 ? " " : "", 100 + i);
	CHECK_EQ(parse(text), 0);
	CHECK(strlen(l.dns) < sizeof(l.dns));
	CHECK_EQ((strlen(l.dns) + 1) % strlen("192.0.2.100 "), 0);
}

TEST(routes_that_are_too_long_end_behind_a_whole_pair)
{
	char text[2048] = "address=192.0.2.1\nprefix=24\nroutes=";
	size_t used = strlen(text);

	for (int i = 0; i < 40; i++)
		used += (size_t)sprintf(text + used, "%s10.%d.0.0/16 192.0.2.1", i > 0 ? " " : "",
					100 + i);
	CHECK_EQ(parse(text), 0);
	CHECK_EQ((strlen(l.routes) + 1) % strlen("10.100.0.0/16 192.0.2.1 "), 0);
}

TEST(routes_are_read_in_pairs_and_one_without_a_length_is_to_a_host)
{
	const char *rest = "0.0.0.0/0 192.0.2.1 198.51.100.0/24 192.0.2.2  203.0.113.9 0.0.0.0";
	struct lease_route r;

	CHECK(lease_next_route(&rest, &r));
	CHECK_STR(r.to, "0.0.0.0");
	CHECK_EQ(r.prefix, 0);
	CHECK_STR(r.gateway, "192.0.2.1");
	CHECK(lease_next_route(&rest, &r));
	CHECK_STR(r.to, "198.51.100.0");
	CHECK_EQ(r.prefix, 24);
	CHECK(lease_next_route(&rest, &r));
	CHECK_STR(r.to, "203.0.113.9");
	CHECK_EQ(r.prefix, 32);
	CHECK_STR(r.gateway, "0.0.0.0");
	CHECK(!lease_next_route(&rest, &r));
}

TEST(route_without_a_gateway_or_with_what_is_no_address_ends_the_list)
{
	const char *half = "0.0.0.0/0", *none = "", *lengthy = "0.0.0.0/0 192.0.2.1192.0.2.1";
	struct lease_route r;

	CHECK(!lease_next_route(&half, &r));
	CHECK(!lease_next_route(&none, &r));
	CHECK(!lease_next_route(&lengthy, &r));
}

TEST(one_word_that_is_too_long_for_a_list_is_left_out)
{
	char text[2048] = "address=192.0.2.1\nprefix=24\nsearch=";

	memset(text + strlen(text), 'a', 300);
	CHECK_EQ(parse(text), 0);
	CHECK_STR(l.search, "");
}
