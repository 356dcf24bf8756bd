/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What nbdserve understands of its command line and of its INI file, and what it refuses. */
#include "tests/unit/tap.h"

#include "server-tools/nbdserve/config.h"

static char err[CONFIG_ERROR_MAX];

static int parse(struct config *c, const char *text)
{
	*c = (struct config){ 0 };
	err[0] = '\0';
	return config_parse(c, "test.ini", text, strlen(text), err);
}

/* Whether the text is refused, with these words. */
static int is_refused(const char *text, const char *words)
{
	struct config c;
	int r = parse(&c, text);

	config_deinit(&c);
	if (r == 0 || !strstr(err, words))
		printf("# %d, \"%s\"\n", r, err);
	return r < 0 && strstr(err, words) != NULL;
}

static int is_export_refused(const char *text, const char *words)
{
	struct config c = { 0 };
	int r = config_add_export(&c, text, err);

	config_deinit(&c);
	if (r == 0 || !strstr(err, words))
		printf("# %d, \"%s\"\n", r, err);
	return r < 0 && strstr(err, words) != NULL;
}

TEST(export_argument_is_name_path_and_options)
{
	struct config c = { 0 };

	CHECK_EQ(
		config_add_export(
			&c, "root=/srv/a=b.img,ro,durability=flush,allow=10.0.0.0/8+fd00::/8", err),
		0);
	CHECK_EQ(c.n_list, 1);
	CHECK_STR(c.list[0].name, "root");
	CHECK_STR(c.list[0].path, "/srv/a=b.img");
	CHECK(c.list[0].is_read_only);
	CHECK_EQ(c.list[0].durability, CONFIG_DURABILITY_FLUSH);
	CHECK_EQ(c.list[0].n_allow, 2);
	CHECK_EQ(c.list[0].allow[1].prefix, 8);
	config_deinit(&c);
}

TEST(writable_and_durable_at_each_write_is_the_default)
{
	struct config c = { 0 };

	CHECK_EQ(config_add_export(&c, "=/srv/a.img", err), 0);
	CHECK_STR(c.list[0].name, "");
	CHECK(!c.list[0].is_read_only);
	CHECK_EQ(c.list[0].durability, CONFIG_DURABILITY_WRITE);
	CHECK_EQ(c.list[0].n_allow, 0);
	config_deinit(&c);
}

TEST(export_arguments_that_mean_nothing_are_refused_in_words)
{
	CHECK(is_export_refused("root", "is not NAME=PATH"));
	CHECK(is_export_refused("root=", "path of the image is empty"));
	CHECK(is_export_refused("root=/a,rw", "there is no export option \"rw\""));
	CHECK(is_export_refused("root=/a,", "there is no export option \"\""));
	CHECK(is_export_refused("root=/a,durability=never", "\"write\" or \"flush\""));
	CHECK(is_export_refused("root=/a,base=/golden", "not part of this version"));
	CHECK(is_export_refused("ro\not=/a", "control characters"));
	CHECK(is_export_refused("\xff=/a", "UTF-8"));
	CHECK(is_export_refused("\xc3=/a", "UTF-8"));
}

TEST(allow_rules_that_are_no_networks_are_refused)
{
	CHECK(is_export_refused("root=/a,allow=", "not an IP address"));
	CHECK(is_export_refused("root=/a,allow=client1", "not an IP address"));
	CHECK(is_export_refused("root=/a,allow=10.0.0.0/33", "from 0 to 32"));
	CHECK(is_export_refused("root=/a,allow=10.0.0.0/", "from 0 to 32"));
	CHECK(is_export_refused("root=/a,allow=10.0.0.5/8", "is it 10.0.0.0/8?"));
	CHECK(is_export_refused("root=/a,allow=10.0.0.0/8+", "not an IP address"));
	CHECK(is_export_refused("root=/a,allow=fd00::1/127", "is it fd00::/127?"));
}

static int matches(const char *rule, const char *address)
{
	struct cidr r, a;

	if (!cidr_parse(rule, &r, err, sizeof(err)) || !cidr_parse(address, &a, err, sizeof(err)))
		return -1;
	return cidr_matches(&r, &a.base);
}

TEST(networks_are_compared_bit_by_bit_not_as_text)
{
	CHECK_EQ(matches("10.0.0.0/8", "10.255.0.1"), 1);
	CHECK_EQ(matches("10.0.0.0/8", "11.0.0.0"), 0);
	CHECK_EQ(matches("10.0.0.1", "10.0.0.1"), 1);
	CHECK_EQ(matches("10.0.0.1", "10.0.0.10"), 0);
	CHECK_EQ(matches("192.168.4.0/22", "192.168.7.255"), 1);
	CHECK_EQ(matches("192.168.4.0/22", "192.168.8.0"), 0);
	CHECK_EQ(matches("0.0.0.0/0", "203.0.113.9"), 1);
	CHECK_EQ(matches("0.0.0.0/0", "::1"), 0);
	CHECK_EQ(matches("fd00::/127", "fd00::1"), 1);
	CHECK_EQ(matches("fd00::/127", "fd00::2"), 0);
	CHECK_EQ(matches("::/0", "10.0.0.1"), 0);
}

TEST(unix_socket_clients_match_no_network)
{
	struct cidr all;
	struct address local = { .family = ADDRESS_UNIX };

	CHECK(cidr_parse("0.0.0.0/0", &all, err, sizeof(err)));
	CHECK(!cidr_matches(&all, &local));
}

TEST(ini_file_gives_addresses_and_exports)
{
	struct config c;

	CHECK_EQ(parse(&c, "# a comment\n"
			   "[server]\n"
			   " listen = 192.0.2.1:10809\r\n"
			   "listen=[::1]\n"
			   "unix = /run/n.sock\n"
			   "\n"
			   "[export root]\n"
			   "path = /srv/with space, and comma.img\n"
			   "allow = 10.0.0.0/8\n"
			   "allow = 192.0.2.7\n"
			   "; another\n"
			   "[export \"a name\"]\n"
			   "path=/srv/b.img\n"
			   "ro = yes\n"
			   "[export]\n"
			   "path=/srv/c.img\n"
			   "durability = flush"),
		 0);
	CHECK_EQ(c.n_listens, 2);
	CHECK_STR(c.listens[0], "192.0.2.1:10809");
	CHECK_STR(c.unix_paths[0], "/run/n.sock");
	CHECK_EQ(c.n_list, 3);
	CHECK_STR(c.list[0].path, "/srv/with space, and comma.img");
	CHECK_EQ(c.list[0].n_allow, 2);
	CHECK(!c.list[0].is_read_only);
	CHECK_STR(c.list[1].name, "a name");
	CHECK(c.list[1].is_read_only);
	CHECK_STR(c.list[2].name, "");
	CHECK_EQ(c.list[2].durability, CONFIG_DURABILITY_FLUSH);
	CHECK_EQ(config_check(&c, err), 0);
	config_deinit(&c);
}

TEST(ini_mistakes_are_refused_with_file_and_line)
{
	CHECK(is_refused("[export root]\npath=/a\nalow=10.0.0.0/8\n", "test.ini, line 3: "));
	CHECK(is_refused("[export root]\npath=/a\nalow=10.0.0.0/8\n", "no export option \"alow\""));
	CHECK(is_refused("path=/a\n", "before the first section"));
	CHECK(is_refused("[sever]\n", "no section [sever]"));
	CHECK(is_refused("[exports a]\n", "no section [exports a]"));
	CHECK(is_refused("[server\n", "must end with"));
	CHECK(is_refused("[server]\nport=1\n", "[server] has no \"port\""));
	CHECK(is_refused("[server]\nlisten=1.2.3.4:x\n", "is not a port"));
	CHECK(is_refused("[export a]\nro\n", "neither [section] nor key = value"));
	CHECK(is_refused("[export a]\nro=maybe\n", "\"yes\" or \"no\""));
	CHECK(is_refused("[export a]\n[export b]\npath=/b\n",
			 "[export a], which ends here, has no path"));
	CHECK(is_refused("[export a]\nro=yes", "has no path"));
}

TEST(text_with_a_nul_byte_is_refused)
{
	struct config c = { 0 };

	CHECK_EQ(config_parse(&c, "test.ini", "[server]\0\n", 10, err), -1);
	CHECK(strstr(err, "NUL") != NULL);
	config_deinit(&c);
}

TEST(a_name_may_be_as_long_as_the_protocol_allows_and_no_longer)
{
	struct config c = { 0 };
	char text[4096 + 8];

	memset(text, 'n', sizeof(text));
	strcpy(text + 4096, "=/a");
	CHECK_EQ(config_add_export(&c, text, err), 0);
	CHECK_EQ(strlen(c.list[0].name), 4096);
	text[4096] = 'n';
	strcpy(text + 4097, "=/a");
	CHECK_EQ(config_add_export(&c, text, err), -1);
	CHECK(strstr(err, "longer than 4096") != NULL);
	config_deinit(&c);
}

TEST(no_export_at_all_and_the_same_name_twice_are_refused)
{
	struct config c = { 0 };

	CHECK_EQ(config_check(&c, err), -1);
	CHECK(strstr(err, "nothing to serve") != NULL);
	CHECK_EQ(config_add_export(&c, "root=/a", err), 0);
	CHECK_EQ(config_check(&c, err), 0);
	CHECK_EQ(config_add_export(&c, "root=/b", err), 0);
	CHECK_EQ(config_check(&c, err), -1);
	CHECK(strstr(err, "\"root\" (/a and /b)") != NULL);
	config_deinit(&c);
}

TEST(listen_addresses_are_taken_apart)
{
	static const struct {
		const char *text, *host, *port;
	} cases[] = {
		{ "10.0.0.1:99", "10.0.0.1", "99" },
		{ "10.0.0.1", "10.0.0.1", "10809" },
		{ ":99", "", "99" },
		{ "*:99", "", "99" },
		{ "", "", "10809" },
		{ "[fd00::1]:99", "fd00::1", "99" },
		{ "[fd00::1]", "fd00::1", "10809" },
		{ "fd00::1", "fd00::1", "10809" },
		{ "localhost:0", "localhost", "0" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char host[64], port[8];

		CHECK_EQ(config_split_listen(cases[i].text, host, sizeof(host), port, sizeof(port),
					     err),
			 0);
		CHECK_STR(host, cases[i].host);
		CHECK_STR(port, cases[i].port);
	}
}

TEST(listen_addresses_that_are_none_are_refused)
{
	static const char *const cases[] = {
		"10.0.0.1:", "10.0.0.1:65536", "10.0.0.1:x",
		"[fd00::1",  "[fd00::1]99",    "[fd00::1]:",
	};
	char host[16], port[8];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		CHECK_EQ(config_split_listen(cases[i], host, sizeof(host), port, sizeof(port), err),
			 -1);
	CHECK_EQ(config_split_listen("123456789012345:1", host, sizeof(host), port, sizeof(port),
				     err),
		 0);
	CHECK_EQ(config_split_listen("1234567890123456:1", host, sizeof(host), port, sizeof(port),
				     err),
		 -1);
}

TEST(unix_socket_paths_fit_the_kernel_s_structure)
{
	struct config c = { 0 };
	char path[110];

	memset(path, 'p', sizeof(path));
	path[107] = '\0';
	CHECK_EQ(config_add_unix(&c, path, err), 0);
	path[107] = 'p';
	path[108] = '\0';
	CHECK_EQ(config_add_unix(&c, path, err), -1);
	CHECK_EQ(config_add_unix(&c, "", err), -1);
	config_deinit(&c);
}
