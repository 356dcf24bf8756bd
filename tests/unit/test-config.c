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

TEST(server_settings_are_taken_from_the_file)
{
	struct config c;

	CHECK_EQ(parse(&c, "[server]\n"
			   "control = /run/nbdserve/control\n"
			   "metrics = [::1]:9100\n"
			   "engine = io_uring\n"
			   "threads = 64\n"
			   "memory = 64M\n"
			   "half-open = 100\n"
			   "per-address = 7\n"
			   "user = nbdserve\n"
			   "log-format = json\n"
			   "directory = /srv/a\n"
			   "directory = /srv/b\n"
			   "[export root]\n"
			   "path = /srv/root.img\n"
			   "on-full = error\n"),
		 0);
	CHECK_EQ(config_check(&c, err), 0);
	CHECK_STR(c.control, "/run/nbdserve/control");
	CHECK_STR(c.metrics, "[::1]:9100");
	CHECK_EQ(c.engine, CONFIG_ENGINE_IO_URING);
	CHECK_EQ(c.threads, 64);
	CHECK_EQ(c.memory, 64 << 20);
	CHECK_EQ(c.half_open_max, 100);
	CHECK_EQ(c.half_open_address_max, 50);
	CHECK_EQ(c.per_address_max, 7);
	CHECK_STR(c.user, "nbdserve");
	CHECK(c.is_log_json);
	CHECK_EQ(c.n_directories, 2);
	CHECK_STR(c.directories[1], "/srv/b");
	CHECK_EQ(c.list[0].on_full, CONFIG_ON_FULL_ERROR);
	config_deinit(&c);
}

TEST(what_is_not_set_has_its_default)
{
	struct config c;

	CHECK_EQ(parse(&c, "[export root]\npath = /a\n"), 0);
	CHECK_EQ(config_check(&c, err), 0);
	CHECK(!c.control && !c.metrics && !c.user && !c.is_log_json);
	CHECK_EQ(c.engine, CONFIG_ENGINE_AUTO);
	CHECK_EQ(c.threads, 0);
	CHECK_EQ(c.memory, 256 << 20);
	CHECK_EQ(c.half_open_max, 4096);
	CHECK_EQ(c.half_open_address_max, 2048);
	CHECK_EQ(c.per_address_max, 0);
	CHECK_EQ(c.list[0].on_full, CONFIG_ON_FULL_HOLD);
	config_deinit(&c);
}

TEST(server_settings_out_of_range_are_refused)
{
	CHECK(is_refused("[server]\nengine=uring\n", "\"auto\", \"io_uring\" or \"epoll\""));
	CHECK(is_refused("[server]\nthreads=65\n", "from 0 to 64"));
	CHECK(is_refused("[server]\nthreads=-1\n", "from 0 to 64"));
	CHECK(is_refused("[server]\nthreads=\n", "from 0 to 64"));
	CHECK(is_refused("[server]\nmemory=lots\n", "a size such as 256M"));
	CHECK(is_refused("[server]\nmemory=67108863\n", "at least 64M"));
	CHECK(is_refused("[server]\nhalf-open=0\n", "from 1 to"));
	CHECK(is_refused("[server]\nper-address=x\n", "from 0 to"));
	CHECK(is_refused("[server]\nmetrics=127.0.0.1\n", "has no port"));
	CHECK(is_refused("[server]\nmetrics=127.0.0.1:x\n", "is not a port"));
	CHECK(is_refused("[server]\ncontrol=\n", "1 to 107 bytes"));
	CHECK(is_refused("[server]\nuser=\n", "not the name of a user"));
	CHECK(is_refused("[server]\nuser=a b\n", "not the name of a user"));
	CHECK(is_refused("[server]\nlog-format=xml\n", "\"text\" or \"json\""));
	CHECK(is_refused("[server]\ndirectory=srv\n", "does not begin with \"/\""));
	CHECK(is_refused("[export a]\npath=/a\non-full=wait\n", "\"hold\" or \"error\""));
}

TEST(a_setting_given_twice_in_a_section_is_refused)
{
	struct config c;

	CHECK(is_refused("[server]\nthreads=1\nlisten=:1\nthreads=2\n", "line 4: \"threads\""));
	CHECK(is_refused("[server]\nthreads=1\n[export a]\npath=/a\n[server]\nthreads=2\n",
			 "line 6: \"threads\" is given twice"));
	CHECK(is_refused("[export a]\npath=/a\npath=/b\n", "\"path\" is given twice"));
	CHECK(is_refused("[export a]\npath=/a\nro=yes\nro=no\n", "\"ro\" is given twice"));
	CHECK_EQ(parse(&c, "[export a]\npath=/a\nro=yes\n[export b]\npath=/b\nro=no\n"), 0);
	config_deinit(&c);
}

TEST(the_section_s_name_may_be_longer_than_the_library_s_buffer)
{
	char text[4096 + 64];
	struct config c;
	int at = snprintf(text, sizeof(text), "[export \"");

	memset(text + at, 'n', 4096);
	strcpy(text + at + 4096, "\"]\npath=/a\n[export b]\npath=/b\n");
	CHECK_EQ(parse(&c, text), 0);
	CHECK_EQ(c.n_list, 2);
	CHECK_EQ(strlen(c.list[0].name), 4096);
	CHECK_STR(c.list[1].name, "b");
	config_deinit(&c);
}

/* Lines are limited; what is longer must not become two lines, of which the first is believed. */
TEST(a_line_longer_than_the_limit_is_refused_and_not_split)
{
	enum { LIMIT = 16 * 1024 };
	static char text[LIMIT + 64];

	for (int over = -1; over <= 1; over++) {
		int at = snprintf(text, sizeof(text), "[export a]\npath=/");
		size_t fill = LIMIT - strlen("path=/") + (size_t)over;
		struct config c;

		memset(text + at, 'p', fill);
		text[(size_t)at + fill] = '\0';
		if (over > 0) {
			CHECK(is_refused(text, "test.ini, line 2: the line is longer than 16384"));
			continue;
		}
		CHECK_EQ(parse(&c, text), 0);
		CHECK_EQ(strlen(c.list[0].path), fill + 1);
		config_deinit(&c);
	}
}

TEST(indentation_and_semicolons_and_a_byte_order_mark_mean_nothing)
{
	struct config c;

	CHECK_EQ(parse(&c, "\xef\xbb\xbf  [export a]\n"
			   "\tpath = /srv/a ;b#c.img\n"
			   "   ro = yes\n"
			   "\t; a comment\n"),
		 0);
	CHECK_EQ(c.n_list, 1);
	CHECK_STR(c.list[0].path, "/srv/a ;b#c.img");
	CHECK(c.list[0].is_read_only);
	config_deinit(&c);
}

TEST(the_text_is_not_read_beyond_its_size)
{
	static const char line[] = "[export a]\npath=/a\nnonsense";
	size_t size = strlen(line);
	char *exact = malloc(size); /* no NUL behind it: for the sanitizer to watch */
	struct config c = { 0 };

	memcpy(exact, line, size);
	CHECK_EQ(config_parse(&c, "test.ini", exact, size, err), -1);
	CHECK(strstr(err, "line 3: \"nonsense\" is neither") != NULL);
	config_deinit(&c);
	free(exact);
}

static int admits(const struct config_export *e, const char *address)
{
	struct cidr a;

	return cidr_parse(address, &a, err, sizeof(err)) && config_export_allows(e, &a.base);
}

TEST(the_server_s_rules_are_for_exports_without_their_own)
{
	struct address local = { .family = ADDRESS_UNIX };
	struct config c;

	CHECK_EQ(parse(&c, "[export first]\npath=/1\n"
			   "[server]\nallow=10.0.0.0/8\nallow=fd00::/8\n"
			   "[export own]\npath=/2\nallow=192.0.2.0/24\n"
			   "[export all]\npath=/3\nallow=all\n"
			   "[export none]\npath=/4\nallow=none\n"),
		 0);
	CHECK_EQ(config_check(&c, err), 0);
	CHECK(admits(&c.list[0], "10.1.2.3") && admits(&c.list[0], "fd00::1"));
	CHECK(!admits(&c.list[0], "192.0.2.1"));
	CHECK(admits(&c.list[1], "192.0.2.1") && !admits(&c.list[1], "10.1.2.3"));
	CHECK(admits(&c.list[2], "203.0.113.1") && admits(&c.list[2], "2001:db8::1"));
	CHECK(!admits(&c.list[3], "10.1.2.3") && !admits(&c.list[3], "::1"));
	for (size_t i = 0; i < c.n_list; i++)
		CHECK(config_export_allows(&c.list[i], &local));
	config_deinit(&c);
}

TEST(a_server_that_allows_none_denies_by_default)
{
	struct config c;

	CHECK_EQ(parse(&c, "[server]\nallow=none\n[export a]\npath=/1\n"
			   "[export b]\npath=/2\nallow=10.0.0.1\n"),
		 0);
	CHECK_EQ(config_check(&c, err), 0);
	CHECK(!admits(&c.list[0], "10.0.0.1"));
	CHECK(admits(&c.list[1], "10.0.0.1"));
	config_deinit(&c);

	CHECK_EQ(parse(&c, "[export a]\npath=/1\n"), 0);
	CHECK_EQ(config_check(&c, err), 0);
	CHECK(admits(&c.list[0], "203.0.113.1"));
	config_deinit(&c);
}

TEST(none_stands_alone)
{
	CHECK(is_refused("[server]\nallow=none\nallow=10.0.0.0/8\n", "line 3: allow: \"none\""));
	CHECK(is_refused("[server]\nallow=all\nallow=none\n", "cannot be combined"));
	CHECK(is_export_refused("a=/a,allow=10.0.0.1+none", "cannot be combined"));
	CHECK(is_export_refused("a=/a,allow=none+none", "cannot be combined"));
}

TEST(patterns_are_recognized_and_checked_with_file_and_line)
{
	struct config c;

	CHECK_EQ(parse(&c, "[export clients/{mac}/root]\npath=/srv/{mac}-root.img\n"
			   "[export golden]\npath=/srv/golden.img\n"),
		 0);
	CHECK(c.list[0].is_pattern && !c.list[1].is_pattern);
	CHECK_EQ(config_check(&c, err), 0);
	config_deinit(&c);
	CHECK(is_refused("[export {mac}]\npath=/srv/{ip}\n[server]\n",
			 "line 3: the path \"/srv/{ip}\" has {ip}"));
	CHECK(is_refused("[export {mac]\npath=/srv/a\n", "a brace that is not part"));
	CHECK(is_refused("[export a]\npath=/srv/{mac}\n", "which the name \"a\" does not have"));
	CHECK(is_export_refused("{mac}=/srv/a", "several names would be one writable image"));
	CHECK(is_export_refused("{mac}={mac},ro", "must begin with \"/\""));
}

TEST(only_the_rules_of_admission_may_differ_in_one_image)
{
	static const char *const texts[] = {
		"b=/a,allow=none", "b=/b", "b=/a,ro", "b=/a,durability=flush", "b=/a,on-full=error",
	};
	struct config c = { 0 };

	CHECK_EQ(config_add_export(&c, "a=/a", err), 0);
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		CHECK_EQ(config_add_export(&c, texts[i], err), 0);
		CHECK_EQ(config_export_same_image(&c.list[0], &c.list[i + 1]), i == 0);
	}
	config_deinit(&c);
}

TEST(a_thousand_exports_and_one_name_twice_among_them)
{
	struct config c = { 0 };
	char text[64];

	for (int i = 0; i < 1000; i++) {
		snprintf(text, sizeof(text), "client%d=/srv/%d", i * 7919 % 1000, i);
		CHECK_EQ(config_add_export(&c, text, err), 0);
	}
	CHECK_EQ(config_check(&c, err), 0);
	CHECK_EQ(config_add_export(&c, "client500=/srv/last", err), 0);
	CHECK_EQ(config_check(&c, err), -1);
	CHECK(strstr(err, "\"client500\" (/srv/") != NULL);
	CHECK(strstr(err, " and /srv/last)") != NULL);
	config_deinit(&c);
}
