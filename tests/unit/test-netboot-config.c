/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The configuration of nbdroot netboot: what is read, and that every slip is named with its line,
 * its reason and a remedy.
 */
#include "tests/unit/tap.h"

#include "server-tools/nbdroot/netboot-config.h"
#include "server-tools/nbdroot/netboot-words.h"

#define SERVER "[netboot]\nserver = 10.0.0.1\nrange = 10.0.0.100,10.0.0.200\n"
#define ENTRY "[entry one]\nkernel = /k\ninitramfs = /i\nroot = nbd://10.0.0.1/root-{mac}\n"

static struct netboot_config config;
static char err[NETBOOT_ERROR_MAX];

/* In a block of exactly its size, so that a sanitizer sees its end. */
static int parse(const char *text)
{
	size_t size = strlen(text);
	char *exact = malloc(size + (size == 0));
	int r;

	netboot_config_deinit(&config);
	memcpy(exact, text, size);
	r = netboot_config_parse(&config, "n.conf", exact, size, err);
	free(exact);
	return r;
}

static int is_refused(const char *text, const char *words)
{
	int r = parse(text);

	if (r == 0 || strncmp(err, "n.conf:", 7) != 0 || !strstr(err, words))
		printf("# %d, \"%s\"\n", r, r < 0 ? err : "");
	return r < 0 && strncmp(err, "n.conf:", 7) == 0 && strstr(err, words) != NULL;
}

TEST(a_whole_configuration_is_read)
{
	CHECK_EQ(parse("# a comment\n" SERVER
		       "  http = 8080\r\nbios=ipxe\nuefi = none\nrouter = 10.0.0.254\n"
		       "dns = 10.0.0.2, 10.0.0.3\nshim = /x/shim\n" ENTRY
		       "initramfs = /firmware\nrpmdb = nbd://10.0.0.1/{mac}/rpm\nappend = quiet "
		       "panic=30\n"
		       "[entry two]\nkernel = /k2\ninitramfs = /i2\nroot = dhcp\nroot-path = "
		       "srv:/r\n"
		       "[client 52:54:00:12:34:57]\nentry = two\n"
		       "[client 52-54-00-12-34-56]\nname = pc17\naddress = 10.0.0.17\nappend = "
		       "debug\n"),
		 0);
	CHECK_EQ(config.dhcp, NETBOOT_DHCP_RANGE);
	CHECK_STR(config.lease, "12h");
	CHECK_EQ(config.http_port, 8080);
	CHECK_EQ(config.bios, NETBOOT_LOADER_IPXE);
	CHECK_EQ(config.uefi, NETBOOT_LOADER_NONE);
	CHECK_STR(config.dns, "10.0.0.2,10.0.0.3");
	CHECK_STR(config.programs[NETBOOT_SHIM], "/x/shim");
	CHECK_EQ(config.n_entries, 2);
	CHECK_EQ(config.entries[0].n_initramfs, 2);
	CHECK_STR(config.entries[0].initramfs[1], "/firmware");
	CHECK_STR(config.entries[0].rpmdb, "nbd://10.0.0.1/{mac}/rpm");
	CHECK_STR(config.entries[1].append, "");
	CHECK(config.default_entry == &config.entries[0]);
	CHECK_EQ(config.n_clients, 2);
	CHECK_STR(config.clients[0].name, "pc17"); /* sorted by card */
	CHECK(config.clients[0].entry == &config.entries[0]);
	CHECK(config.clients[1].entry == &config.entries[1]);
}

TEST(what_is_not_said_has_a_default)
{
	CHECK_EQ(parse(SERVER ENTRY), 0);
	CHECK_EQ(config.bios, NETBOOT_LOADER_PXELINUX);
	CHECK_EQ(config.uefi, NETBOOT_LOADER_GRUB);
	CHECK_EQ(config.http_port, 0);
	CHECK(config.interface == NULL && config.router == NULL);
}

TEST(a_last_line_without_an_end_and_a_byte_order_mark_are_read)
{
	CHECK_EQ(parse("\xef\xbb\xbf" SERVER
		       "[entry one]\nkernel = /k\ninitramfs = /i\nroot = nbd://s/r"),
		 0);
	CHECK_STR(config.entries[0].root, "nbd://s/r");
}

TEST(a_slip_is_named_with_its_line)
{
	CHECK(is_refused("[netboot]\nserver = 10.0.0.1 ; mine\n",
			 "n.conf:2: server: \"10.0.0.1 ; mine\""));
	CHECK(strstr(err, "comments have lines of their own") != NULL);
	CHECK(is_refused("server = 10.0.0.1\n",
			 "n.conf:1: \"server\" stands before the first section"));
	CHECK(is_refused("[netboot]\nsever = 10.0.0.1\n",
			 "n.conf:2: sever: [netboot] has no \"sever\""));
	CHECK(is_refused("[netboot\n", "n.conf:1: a section must end with \"]\""));
	CHECK(is_refused("[netboots]\n", "there is no section [netboots]"));
	CHECK(is_refused("[netboot]\nserver\n", "\"server\" is neither [section] nor key = value"));
	CHECK(is_refused("[netboot]\nserver =\n", "server: has no value"));
	CHECK(is_refused(SERVER "server = 10.0.0.2\n", "n.conf:4: \"server\" is given twice"));
	CHECK(is_refused(SERVER ENTRY "[netboot]\n", "[netboot] is there twice"));
	CHECK(is_refused(SERVER "[entry a b]\n", "not a name for an entry"));
	CHECK(is_refused(SERVER "[entry none]\n", "not a name for an entry"));
	CHECK(is_refused(SERVER ENTRY ENTRY, "n.conf:8: [entry one]: is there already, in line 4"));
	CHECK(is_refused(SERVER "[client 52:54:00:12:34]\n", "not the address of a network card"));
	CHECK(is_refused(SERVER "[client 01:54:00:12:34:56]\n",
			 "not the address of a network card"));
	CHECK(is_refused(SERVER "[client 52:54-00:12:34:56]\n",
			 "not the address of a network card"));
}

TEST(a_line_that_is_too_long_is_refused_and_one_that_just_fits_is_read)
{
	char text[9000];
	int n = snprintf(text, sizeof(text), SERVER ENTRY);
	size_t line = 8192, key = strlen("append = ");

	strcpy(text + n, "append = ");
	memset(text + n + key, 'a', line - key);
	text[n + line] = '\0';
	CHECK_EQ(parse(text), 0);
	strcpy(text + n + line, "a");
	CHECK(is_refused(text, "n.conf:8: the line is longer than 8192 bytes"));
}

TEST(who_gives_the_addresses_must_be_said_once)
{
	CHECK(is_refused("[netboot]\nserver = 10.0.0.1\n" ENTRY,
			 "who gives the clients their addresses"));
	CHECK(is_refused(SERVER "dhcp = proxy\n" ENTRY, "both range and dhcp"));
	CHECK(is_refused("[netboot]\nrange = 10.0.0.1,10.0.0.2\n" ENTRY, "no server = ADDRESS"));
	CHECK_EQ(parse("[netboot]\nserver = 10.0.0.1\ndhcp = proxy\n" ENTRY), 0);
	CHECK_EQ(config.dhcp, NETBOOT_DHCP_PROXY);
}

#define OTHERS "[netboot]\nserver = 10.0.0.1\ndhcp = "

TEST(what_only_the_giver_of_addresses_can_tell_is_refused_of_another)
{
	static const char *const lines[] = { "router = 10.0.0.254\n", "dns = 10.0.0.2\n",
					     "ntp = 10.0.0.2\n", "domain = lab.example\n" };
	char text[512];

	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		snprintf(text, sizeof(text), OTHERS "proxy\n%s" ENTRY, lines[i]);
		CHECK(is_refused(text, "with dhcp = proxy that is another one"));
		snprintf(text, sizeof(text), OTHERS "none\n%s" ENTRY, lines[i]);
		CHECK(is_refused(text, "with dhcp = none that is another one"));
		snprintf(text, sizeof(text), SERVER "%s" ENTRY, lines[i]);
		CHECK_EQ(parse(text), 0);
	}
}

TEST(something_must_be_left_to_boot_with)
{
	CHECK(is_refused(SERVER "bios = none\nuefi = none\n" ENTRY,
			 "nothing is left to boot with"));
	CHECK(is_refused(SERVER "bios = none\nuefi = none\nhttp = yes\n" ENTRY,
			 "nothing is left to boot with"));
	CHECK_EQ(parse(SERVER "bios = none\nhttp = yes\n" ENTRY), 0);
}

TEST(static_addresses_must_be_somebodys)
{
	CHECK(is_refused(OTHERS "static\n" ENTRY "[client 52:54:00:12:34:56]\nname = a\n",
			 "no [client] has an address"));
	CHECK_EQ(parse(OTHERS "static\nrouter = 10.0.0.254\n" ENTRY
			      "[client 52:54:00:12:34:56]\naddress = 10.0.0.9\n"),
		 0);
}

TEST(grub_does_not_go_with_a_proxy)
{
	CHECK_EQ(parse("[netboot]\nserver = 10.0.0.1\ndhcp = proxy\n" ENTRY), 0);
	CHECK_EQ(config.uefi, NETBOOT_LOADER_IPXE);
	CHECK(is_refused("[netboot]\nserver = 10.0.0.1\nuefi = grub\ndhcp = proxy\n" ENTRY,
			 "does not go with dhcp = proxy"));
}

static int is_range_refused(const char *range, const char *words)
{
	char text[256];

	snprintf(text, sizeof(text), "[netboot]\nserver = 10.0.0.1\nrange = %s\n" ENTRY, range);
	return is_refused(text, words);
}

TEST(a_range_is_checked)
{
	CHECK(is_range_refused("10.0.0.100", "wanted FIRST,LAST"));
	CHECK(is_range_refused("10.0.0.200,10.0.0.100", "write the lower address first"));
	CHECK(is_range_refused("10.0.0.100,10.0.0.300", "\"10.0.0.300\" is not an IPv4 address"));
	CHECK(is_range_refused("10.0.0.1,10.0.0.9", "the server's own address lies in it"));
	CHECK(is_range_refused("10.0.0.2,10.0.0.9,1m", "the lease time \"1m\""));
	CHECK(is_range_refused("10.0.0.2,10.0.0.9,12y", "the lease time \"12y\""));
	CHECK(is_range_refused("10.0.0.2,10.0.0.9,", "wanted FIRST,LAST,LEASE"));
	CHECK(is_range_refused("10.0.0.2,10.0.0.9,12h,x", "wanted FIRST,LAST"));
	CHECK_EQ(parse("[netboot]\nserver = 10.0.0.1\nrange = 10.0.0.2 , 10.0.0.9 , 120\n" ENTRY),
		 0);
	CHECK_STR(config.lease, "120");
}

TEST(an_entry_must_be_whole)
{
	CHECK(is_refused(SERVER, "there is no [entry NAME]"));
	CHECK(is_refused(SERVER "[entry a]\n", "n.conf:4: [entry a] has no kernel"));
	CHECK(is_refused(SERVER "[entry a]\nkernel = /k\n", "has no initramfs"));
	CHECK(is_refused(SERVER "[entry a]\nkernel = /k\ninitramfs = /i\n", "has no root"));
	CHECK(is_refused(SERVER "[entry a]\nkernel = k\n",
			 "n.conf:5: kernel: \"k\" is not an absolute path"));
	CHECK(is_refused(SERVER ENTRY "root-path = s:/r\n", "root is not dhcp"));
	CHECK(is_refused(SERVER "default = two\n" ENTRY, "there is no [entry two]"));
}

TEST(clients_must_not_be_twins)
{
	CHECK(is_refused(SERVER ENTRY "[client 52:54:00:12:34:56]\n[client 52-54-00-12-34-56]\n",
			 "n.conf:9: [client]: this card has a section already, in line 8"));
	CHECK(is_refused(SERVER ENTRY "[client 52:54:00:12:34:57]\naddress = 10.0.0.9\n"
				      "[client 52:54:00:12:34:56]\naddress = 10.0.0.9\n",
			 "n.conf:10: address: the client in line 8 has it already"));
	CHECK(is_refused(SERVER ENTRY "[client 52:54:00:12:34:56]\nname = a\n"
				      "[client 52:54:00:12:34:57]\nname = A\n",
			 "n.conf:10: name: the client in line 8 has it already"));
	CHECK(is_refused(SERVER ENTRY "[client 52:54:00:12:34:56]\naddress = 10.0.0.1\n",
			 "the server's own address"));
	CHECK(is_refused(SERVER ENTRY "[client 52:54:00:12:34:56]\nentry = x\n",
			 "there is no [entry x]"));
}

TEST(unknown_machines_may_be_sent_to_their_disks)
{
	CHECK_EQ(parse(SERVER "default = none\n" ENTRY "[client 52:54:00:12:34:56]\nentry = one\n"),
		 0);
	CHECK(config.default_entry == NULL);
	CHECK(config.clients[0].entry == &config.entries[0]);
	CHECK_EQ(parse(SERVER ENTRY "[client 52:54:00:12:34:56]\nentry = none\n"), 0);
	CHECK(config.clients[0].entry == NULL);
}

/* ---- words of the kernel command line ----------------------------------------------------- */

static char why[WORDS_WHY_MAX];

static int is_bad(int r, const char *words)
{
	if (r == 0 || !strstr(why, words))
		printf("# %d, \"%s\"\n", r, r < 0 ? why : "");
	return r < 0 && strstr(why, words) != NULL;
}

static int root(const char *text)
{
	bool is_dhcp;

	return words_check_root(text, &is_dhcp, why);
}

TEST(roots_of_all_kinds_are_taken)
{
	static const char *const good[] = {
		"nbd://10.0.0.1/r",
		"nbds://s:10810/a/{mac}",
		"nbd:10.0.0.1:root:ext4:noatime",
		"nbd:[fd00::1]:10809",
		"nfs:/srv/r",
		"nfs4:10.0.0.1:/srv/r:ro",
		"/dev/nfs",
		"dhcp",
	};

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		CHECK_EQ(root(good[i]), 0);
}

TEST(a_root_that_cannot_be_is_refused)
{
	CHECK(is_bad(root("/dev/sda1"), "not a root on the network"));
	CHECK(is_bad(root("nbd://10.0.0.1"), "no export after the server"));
	CHECK(is_bad(root("nbd:///r"), "no server"));
	CHECK(is_bad(root("nbd+unix:///r?socket=/s"), "unix socket"));
	CHECK(is_bad(root("nbd:s"), "wanted nbd:<server>"));
	CHECK(is_bad(root("nbd:[fd00::1:x"), "wanted nbd:<server>"));
	CHECK(is_bad(root("nbd://s/{host}"), "\"{host}\" is not a placeholder"));
	CHECK(is_bad(root("nbd://s/}"), "is not a placeholder"));
	CHECK(is_bad(root("nbd://s/r ; the root"), "comments have lines of their own"));
	CHECK(is_bad(root("nbd://s/$x"), "'$' cannot stand"));
	CHECK(is_bad(root("nbd://s/\x1b"), "byte 0x1b"));
}

TEST(append_takes_what_all_boot_programs_pass_on)
{
	CHECK_EQ(words_check_append("quiet panic=30 console=ttyS0,115200n8\tinit=/a;b", why), 0);
	CHECK_EQ(words_check_append(
			 "nbdroot.fallback=10.0.0.2:10810,10.0.0.3 nbdroot.outage=reboot:60", why),
		 0);
	CHECK_EQ(words_check_append("nbdroot.mount=nbd://s/x,/data,ext4,noatime ip=eth1:dhcp", why),
		 0);
	CHECK(is_bad(words_check_append("a='b'", why), "''' cannot stand"));
	CHECK(is_bad(words_check_append("a=\"b c\"", why), "'\"' cannot stand"));
	CHECK(is_bad(words_check_append("a\\b", why), "cannot stand"));
	CHECK(is_bad(words_check_append("x ${net0/mac}", why), "'$' cannot stand"));
	CHECK(is_bad(words_check_append("quiet # a comment", why), "comments have lines"));
	CHECK(is_bad(words_check_append("a || b", why), "\"||\" means something else"));
	CHECK(is_bad(words_check_append("- x", why), "\"-\" means something else"));
	CHECK(is_bad(words_check_append("a -- 3", why), "\"--\" means something else"));
}

TEST(append_leaves_to_the_tool_what_is_its_own)
{
	CHECK(is_bad(words_check_append("root=nbd://s/r", why), "say root = ... in the entry"));
	CHECK(is_bad(words_check_append("initrd=x", why), "say initramfs = ..."));
	CHECK(is_bad(words_check_append("BOOTIF=01-1", why), "the boot program adds it"));
	CHECK_EQ(words_check_append("rootflags=noatime rootwait", why), 0);
}

TEST(our_own_parameters_are_spelt_and_shaped_as_init_wants_them)
{
	CHECK(is_bad(words_check_append("nbdroot.falback=s", why),
		     "nbdroot.falback: there is no such"));
	CHECK(is_bad(words_check_append("nbdroot.fallback=nbd://s/r", why), "not a URI"));
	CHECK(is_bad(words_check_append("nbdroot.outage=60", why), "wanted wait, or reboot:"));
	CHECK(is_bad(words_check_append("nbdroot.outage", why), "wanted wait, or reboot:"));
	CHECK(is_bad(words_check_append("nbdroot.mount=nbd://s/x", why), "no mount point"));
	CHECK(is_bad(words_check_append("nbdroot.mount=/x,/y", why), "wanted nbd://"));
	CHECK(is_bad(words_check_append("nbdroot.mount=nbd://s/{x},/y", why), "not a placeholder"));
	CHECK(is_bad(words_check_append("nbdroot.fsck=yes", why), "wanted auto, skip or force"));
	CHECK(is_bad(words_check_rpmdb("nbd://s/x,var", why), "must begin with \"/\""));
	CHECK_EQ(words_check_rpmdb("nbd://s/{mac}/rpm,/usr/lib/sysimage", why), 0);
}

TEST(an_overlay_is_memory_or_a_device)
{
	static const char *const good[] = { "tmpfs", "tmpfs,size=512m", "tmpfs,size=50%",
					    "tmpfs,size=4096", "nbd://s/{mac}/changes,ext4" };
	static const char *const bad[] = { "",           "tmpf",           "tmpfsx",
					   "tmpfs,512m", "tmpfs,size=",    "tmpfs,size=m",
					   "/dev/nbd1",  "tmpfs,size=5mm", "nfs:/x" };
	char text[128];

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		snprintf(text, sizeof(text), "nbdroot.overlay=%s", good[i]);
		CHECK_EQ(words_check_append(text, why), 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		snprintf(text, sizeof(text), "nbdroot.overlay=%s", bad[i]);
		CHECK(is_bad(words_check_append(text, why), "wanted tmpfs[,size="));
		CHECK(strstr(why, "nbd://<server>/<export>") != NULL);
	}
	CHECK(is_bad(words_check_append("nbdroot.overlay=nbd://s", why), "no export after"));
}

TEST(a_root_path_fits_into_a_dhcp_option)
{
	char text[300] = "nbd://s/";

	memset(text + 8, 'a', 247);
	CHECK_EQ(words_check_root_path(text, why), 0);
	text[255] = 'a';
	CHECK(is_bad(words_check_root_path(text, why), "longer than 255"));
	CHECK_EQ(words_check_root_path("10.0.0.1:/srv/r", why), 0);
	CHECK_EQ(words_check_root_path("nbd:10.0.0.1:root", why), 0);
	CHECK(is_bad(words_check_root_path("root", why), "not a root on the network"));
}
