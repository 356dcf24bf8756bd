/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "nbdclient/uri.h"
#include "tests/unit/tap.h"

static struct uri uri;
static const char *why;

static int parse(const char *text)
{
	why = NULL;
	return uri_parse(&uri, text, &why);
}

TEST(host_and_export_have_the_default_port)
{
	CHECK_EQ(parse("nbd://server/root"), 0);
	CHECK_STR(uri.host, "server");
	CHECK_STR(uri.port, "10809");
	CHECK_STR(uri.export_name, "root");
	CHECK(!uri.is_unix);
}

TEST(port_and_nested_export_name)
{
	CHECK_EQ(parse("nbd://10.0.0.1:1234/clients/52-54-00-12-34-56/root"), 0);
	CHECK_STR(uri.port, "1234");
	CHECK_STR(uri.export_name, "clients/52-54-00-12-34-56/root");
}

TEST(ipv6_address_stands_in_brackets)
{
	char text[64];

	CHECK_EQ(parse("nbd://[fe80::1]:99/x"), 0);
	CHECK_STR(uri.host, "fe80::1");
	CHECK_STR(uri.port, "99");
	CHECK_STR(uri_server(&uri, text, sizeof(text)), "[fe80::1]:99");
	CHECK_EQ(parse("nbd://[::1]/x"), 0);
	CHECK_STR(uri.port, "10809");
}

TEST(no_path_and_an_empty_path_are_the_default_export)
{
	CHECK_EQ(parse("nbd://h"), 0);
	CHECK_STR(uri.export_name, "");
	CHECK_EQ(parse("nbd://h/"), 0);
	CHECK_STR(uri.export_name, "");
}

TEST(second_slash_belongs_to_the_name)
{
	CHECK_EQ(parse("nbd://h//x"), 0);
	CHECK_STR(uri.export_name, "/x");
}

TEST(percent_escapes_are_decoded)
{
	CHECK_EQ(parse("nbd://h/a%20b%2fc%C3%A4"), 0);
	CHECK_STR(uri.export_name, "a b/c\xc3\xa4");
}

TEST(unix_socket_comes_from_the_query)
{
	CHECK_EQ(parse("nbd+unix:///root?socket=/run/nbd%20x.sock"), 0);
	CHECK(uri.is_unix);
	CHECK_STR(uri.socket, "/run/nbd x.sock");
	CHECK_STR(uri.export_name, "root");
}

TEST(socket_path_of_107_bytes_fits_and_108_do_not)
{
	char text[300] = "nbd+unix:///?socket=";
	size_t head = strlen(text);

	memset(text + head, 'x', 107);
	text[head + 107] = '\0';
	CHECK_EQ(parse(text), 0);
	text[head + 107] = 'x';
	text[head + 108] = '\0';
	CHECK(parse(text) < 0);
}

TEST(host_of_255_bytes_fits_and_256_do_not)
{
	char text[300] = "nbd://";

	memset(text + 6, 'h', 255);
	memcpy(text + 6 + 255, "/x", 3);
	CHECK_EQ(parse(text), 0);
	memset(text + 6, 'h', 256);
	memcpy(text + 6 + 256, "/x", 3);
	CHECK(parse(text) < 0);
}

TEST(uri_of_1024_bytes_fits_and_1025_do_not)
{
	char text[1100] = "nbd://h/";

	memset(text + 8, 'x', 1016);
	text[1024] = '\0';
	CHECK_EQ(parse(text), 0);
	text[1024] = 'x';
	text[1025] = '\0';
	CHECK(parse(text) < 0);
}

TEST(malformed_uris_are_refused_with_a_reason)
{
	static const char *const bad[] = {
		"",
		"nbd",
		"nbd:",
		"nbd:/h/x",
		"http://h/x",
		"NBD://h/x",
		"nbd://",
		"nbd:///x",
		"nbd://:1/x",
		"nbd://h:/x",
		"nbd://h:0/x",
		"nbd://h:65536/x",
		"nbd://h:12x/x",
		"nbd://h:123456/x",
		"nbd://[::1/x",
		"nbd://[::1]x/x",
		"nbd://[]/x",
		"nbd://u@h/x",
		"nbd://h/x?socket=/y",
		"nbd://h/x#f",
		"nbd://h/%",
		"nbd://h/%2",
		"nbd://h/%zz",
		"nbd://h/%00",
		"nbd://h/a b",
		"nbd://h/a\nb",
		"nbd+unix:///x",
		"nbd+unix:///x?socket=",
		"nbd+unix://h/x?socket=/y",
		"nbd+unix:///x?path=/y",
		"nbds://h/x",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		printf("# %s\n", strchr(bad[i], '\n') ? "(with a newline)" : bad[i]);
		CHECK(parse(bad[i]) < 0);
		CHECK(why && why[0]);
	}
}

TEST(tls_is_refused_by_name)
{
	CHECK(parse("nbds://h/x") < 0);
	CHECK(strstr(why, "TLS"));
}
