/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where a root is, how NFS is asked for it, what its superblock says, and who the machine is. */
#include "init/fsck.h"
#include "init/machine-id.h"
#include "init/nfs-options.h"
#include "init/root-spec.h"
#include "tests/unit/tap.h"

#include <sys/mount.h>

#define CHECK_HAS(text, part) CHECK(strstr(text, part) != NULL)

static struct root_spec s;
static char problem[ROOT_SPEC_PROBLEM_MAX];

/* ---- option 17 ---- */

TEST(a_path_by_dhcp_is_nfs_with_or_without_a_server)
{
	CHECK_EQ(root_spec_parse_option17("192.0.2.1:/srv/root", &s, problem), 0);
	CHECK_EQ(s.kind, ROOT_NFS);
	CHECK_STR(s.server, "192.0.2.1");
	CHECK_STR(s.path, "/srv/root");
	CHECK_EQ(root_spec_parse_option17("/srv/root,vers=3,ro", &s, problem), 0);
	CHECK_EQ(s.kind, ROOT_NFS);
	CHECK_STR(s.server, "");
	CHECK_STR(s.path, "/srv/root");
	CHECK_STR(s.options, "vers=3,ro");
	CHECK_EQ(root_spec_parse_option17("nfs4:s:/{mac}", &s, problem), 0);
	CHECK(s.is_nfs4);
	CHECK_STR(s.path, "/{mac}");
}

TEST(an_export_by_dhcp_is_dracuts_debians_or_a_uri)
{
	CHECK_EQ(root_spec_parse_option17("nbd:192.0.2.1:pc:ext3:noatime", &s, problem), 0);
	CHECK_EQ(s.kind, ROOT_NBD);
	CHECK_STR(s.uri, "nbd://192.0.2.1/pc");
	CHECK_STR(s.fstype, "ext3");
	CHECK_STR(s.options, "noatime");
	CHECK_EQ(root_spec_parse_option17("nbd://s:1/a/b", &s, problem), 0);
	CHECK_STR(s.uri, "nbd://s:1/a/b");
	CHECK_EQ(root_spec_parse_option17("192.0.2.1:10809/pc 1", &s, problem), 0);
	CHECK_EQ(s.kind, ROOT_NBD);
	CHECK_STR(s.uri, "nbd://192.0.2.1:10809/pc%201");
	CHECK_EQ(root_spec_parse_option17("[2001:db8::1]:10809/x", &s, problem), 0);
	CHECK_STR(s.uri, "nbd://[2001:db8::1]:10809/x");
}

TEST(ipv6_servers_of_nfs_stand_in_brackets)
{
	CHECK_EQ(root_spec_parse_option17("[2001:db8::1]:/srv", &s, problem), 0);
	CHECK_EQ(s.kind, ROOT_NFS);
	CHECK_STR(s.server, "[2001:db8::1]");
	CHECK_EQ(root_spec_parse("nfs:[2001:db8::1:/srv", &s, problem), ROOT_SPEC_E_BAD);
	CHECK_HAS(problem, "']'");
}

TEST(what_else_dhcp_may_say_is_refused)
{
	static const char *const bad[] = {
		"",
		"dhcp",
		"iscsi:192.0.2.1::::iqn.2001-04.com",
		"/dev/sda1\n/x",
		"srv",
		"srv:",
		"srv:path",
		"srv:99",
		":/path",
		"nbd:srv",
		"nfs:srv:path",
		"nfs:a b:/path",
		"nfs:a;b:/x",
		"[::1/x",
		"nfs:srv:",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		CHECK_EQ(root_spec_parse_option17(bad[i], &s, problem), ROOT_SPEC_E_BAD);
		CHECK_EQ(s.kind, ROOT_NONE);
		CHECK(problem[0] != '\0');
	}
}

TEST(a_path_fits_exactly_or_not_at_all)
{
	char text[ROOT_SPEC_PATH_MAX + 8];

	memset(text, 'x', sizeof(text));
	memcpy(text, "nfs:/", 5);
	text[4 + ROOT_SPEC_PATH_MAX - 1] = '\0';
	CHECK_EQ(root_spec_parse(text, &s, problem), 0);
	CHECK_EQ(strlen(s.path), ROOT_SPEC_PATH_MAX - 1);
	text[4 + ROOT_SPEC_PATH_MAX - 1] = 'x';
	text[4 + ROOT_SPEC_PATH_MAX] = '\0';
	CHECK_EQ(root_spec_parse(text, &s, problem), ROOT_SPEC_E_BAD);
	CHECK_HAS(problem, "path");
}

TEST(options_add_up_until_they_are_too_long)
{
	static char text[ROOT_SPEC_OPTIONS_MAX + 1];

	CHECK_EQ(root_spec_parse("nfs:s:/x:ro", &s, problem), 0);
	CHECK_EQ(root_spec_add_options(&s, "noatime"), 0);
	CHECK_STR(s.options, "ro,noatime");
	CHECK_EQ(root_spec_add_options(&s, ""), 0);
	CHECK_STR(s.options, "ro,noatime");
	memset(text, 'x', sizeof(text) - 1);
	CHECK_EQ(root_spec_add_options(&s, text), ROOT_SPEC_E_BAD);
	CHECK_STR(s.options, "ro,noatime");
}

/* ---- NFS options ---- */

static struct nfs_plan plan;
static const char *why;
static char text[NFS_TEXT_MAX];

TEST(versions_are_tried_from_the_newest_to_the_oldest)
{
	CHECK_EQ(nfs_options_plan("", false, MS_RDONLY, &plan, &why), 0);
	CHECK_EQ(plan.versions_count, 4);
	CHECK_STR(plan.versions[0], "4.2");
	CHECK_STR(plan.versions[3], "3");
	CHECK_EQ(plan.flags, MS_RDONLY);
	CHECK_EQ(nfs_options_plan("", true, 0, &plan, &why), 0);
	CHECK_EQ(plan.versions_count, 3);
	CHECK_STR(plan.versions[2], "4.0");
}

TEST(a_version_that_is_asked_for_is_the_only_one)
{
	static const struct {
		const char *options, *version;
		size_t count;
	} cases[] = {
		{ "vers=3", "3", 1 },
		{ "nfsvers=4.1", "4.1", 1 },
		{ "v4.0", "4.0", 1 },
		{ "v3", "3", 1 },
		{ "vers=4", "4.2", 3 },
		{ "minorversion=1", "4.1", 1 },
		{ "v4,minorversion=0", "4.0", 1 },
		{ "vers=3,vers=4.2", "4.2", 1 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CHECK_EQ(nfs_options_plan(cases[i].options, false, 0, &plan, &why), 0);
		CHECK_EQ(plan.versions_count, cases[i].count);
		CHECK_STR(plan.versions[0], cases[i].version);
		CHECK_STR(plan.rest, "");
	}
}

TEST(a_version_that_there_is_not_is_refused)
{
	static const char *const bad[] = { "vers=2",
					   "v2",
					   "vers=5",
					   "vers=",
					   "vers=4.3",
					   "minorversion=3",
					   "vers=3,minorversion=1" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK_EQ(nfs_options_plan(bad[i], false, 0, &plan, &why), NFS_OPTIONS_E_BAD);
	CHECK_EQ(nfs_options_plan("vers=3", true, 0, &plan, &why), NFS_OPTIONS_E_BAD);
	CHECK_EQ(nfs_options_plan("addr=1.2.3.4", false, 0, &plan, &why), NFS_OPTIONS_E_BAD);
	CHECK_EQ(nfs_options_plan("port=70000", false, 0, &plan, &why), NFS_OPTIONS_E_BAD);
}

TEST(flags_of_mount_are_taken_out_and_the_rest_is_passed_on_last)
{
	CHECK_EQ(nfs_options_plan("rw,noatime,_netdev,soft,lock,port=2050,vers=3", false, MS_RDONLY,
				  &plan, &why),
		 0);
	CHECK_EQ(plan.flags, MS_NOATIME);
	CHECK_EQ(plan.port, 2050);
	CHECK_EQ(nfs_options_text(&plan, "3", "192.0.2.1", "192.0.2.7", text), 0);
	CHECK_STR(text, "hard,proto=tcp,nolock,soft,lock,port=2050,vers=3,addr=192.0.2.1");
}

TEST(version_4_is_told_our_address_and_nothing_of_locks)
{
	CHECK_EQ(nfs_options_plan("", false, 0, &plan, &why), 0);
	CHECK_EQ(nfs_options_text(&plan, "4.2", "192.0.2.1", "192.0.2.7", text), 0);
	CHECK_STR(text, "hard,proto=tcp,vers=4.2,addr=192.0.2.1,clientaddr=192.0.2.7");
	/* proto=tcp and an IPv6 address contradict each other, and so do two clients' addresses */
	CHECK_EQ(nfs_options_text(&plan, "4.2", "2001:db8::1", "192.0.2.7", text), 0);
	CHECK_STR(text, "hard,proto=tcp6,vers=4.2,addr=2001:db8::1,clientaddr=::");
	CHECK_EQ(nfs_options_text(&plan, "3", "fe80::1%eth0", "192.0.2.7", text), 0);
	CHECK_STR(text, "hard,proto=tcp6,nolock,vers=3,addr=fe80::1%eth0");
}

TEST(udp_is_left_to_who_asks_for_it)
{
	CHECK_EQ(nfs_options_plan("udp,vers=3", false, 0, &plan, &why), 0);
	CHECK(plan.is_udp);
	CHECK_EQ(nfs_options_text(&plan, "3", "192.0.2.1", "", text), 0);
	CHECK_STR(text, "hard,nolock,udp,vers=3,addr=192.0.2.1");
}

/* ---- what a superblock asks for ---- */

static struct blockfs_ext_state ext_state(unsigned int state, bool has_journal)
{
	static uint8_t head[0x800];
	struct blockfs_ext_state out;

	memcpy(head + 0x438, "\x53\xef", 2);
	head[0x43a] = (uint8_t)state;
	head[0x45c] = has_journal ? 0x4 : 0;
	blockfs_ext_state(head, sizeof(head), &out);
	return out;
}

TEST(only_errors_or_an_unclean_end_without_a_journal_are_checked_by_themselves)
{
	struct blockfs_ext_state clean = ext_state(1, true), dirty = ext_state(0, true);
	struct blockfs_ext_state errors = ext_state(3, true), ext2 = ext_state(0, false);
	struct blockfs_ext_state other = { 0 };

	CHECK_EQ(fsck_plan(CMDLINE_FSCK_AUTO, &clean), FSCK_NOTHING);
	CHECK_EQ(fsck_plan(CMDLINE_FSCK_AUTO, &dirty), FSCK_NOTHING);
	CHECK_EQ(fsck_plan(CMDLINE_FSCK_AUTO, &errors), FSCK_PREEN);
	CHECK_EQ(fsck_plan(CMDLINE_FSCK_AUTO, &ext2), FSCK_PREEN);
	CHECK_EQ(fsck_plan(CMDLINE_FSCK_SKIP, &errors), FSCK_NOTHING);
	CHECK_EQ(fsck_plan(CMDLINE_FSCK_FORCE, &clean), FSCK_FORCE);
	CHECK_EQ(fsck_plan(CMDLINE_FSCK_FORCE, &other), FSCK_NOTHING);
}

TEST(a_device_that_ends_inside_the_superblock_says_nothing)
{
	static uint8_t head[0x800];
	struct blockfs_ext_state out;

	memcpy(head + 0x438, "\x53\xef", 2);
	blockfs_ext_state(head, sizeof(head) - 1, &out);
	CHECK(!out.is_ext);
	blockfs_ext_state(head, sizeof(head), &out);
	CHECK(out.is_ext);
}

TEST(a_file_system_that_e2fsck_did_not_repair_is_not_mounted)
{
	bool can_go_on;

	CHECK_STR(fsck_verdict(0, &can_go_on), "no damage");
	CHECK(can_go_on);
	CHECK_STR(fsck_verdict(1, &can_go_on), "repaired");
	CHECK(can_go_on);
	CHECK_STR(fsck_verdict(3, &can_go_on), "repaired");
	CHECK(can_go_on);
	fsck_verdict(4, &can_go_on);
	CHECK(!can_go_on);
	fsck_verdict(5, &can_go_on);
	CHECK(!can_go_on);
	CHECK_HAS(fsck_verdict(8, &can_go_on), "could not");
	CHECK(can_go_on);
	CHECK_HAS(fsck_verdict(127, &can_go_on), "does not repair");
}

/* ---- machine id ---- */

TEST(siphash_is_what_its_authors_publish)
{
	/* vectors_sip128[0], [15] and [63] of the reference implementation */
	static const struct {
		size_t size;
		uint8_t want[16];
	} vectors[] = {
		{ 0, "\xa3\x81\x7f\x04\xba\x25\xa8\xe6\x6d\xf6\x72\x14\xc7\x55\x02\x93" },
		{ 15, "\x54\x93\xe9\x99\x33\xb0\xa8\x11\x7e\x08\xec\x0f\x97\xcf\xc3\xd9" },
		{ 63, "\x51\x50\xd1\x77\x2f\x50\x83\x4a\x50\x3e\x06\x9a\x97\x3f\xbd\x7c" },
	};
	uint8_t key[16], in[64], got[16];

	for (uint8_t i = 0; i < 16; i++)
		key[i] = i;
	for (uint8_t i = 0; i < 64; i++)
		in[i] = i;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		machine_id_siphash(key, in, vectors[i].size, got);
		CHECK(memcmp(got, vectors[i].want, 16) == 0);
	}
}

TEST(a_machine_id_is_stable_and_of_version_4_and_each_machine_has_its_own)
{
	char a[MACHINE_ID_TEXT], b[MACHINE_ID_TEXT], d[MACHINE_ID_TEXT];

	CHECK_EQ(machine_id_derive("", "52-54-00-12-34-56", a), 0);
	CHECK_EQ(machine_id_derive("", "52-54-00-12-34-56", b), 0);
	CHECK_STR(a, b);
	CHECK_EQ(strlen(a), 32);
	CHECK_EQ(strspn(a, "0123456789abcdef"), 32);
	CHECK_EQ(a[12], '4');
	CHECK(strchr("89ab", a[16]) != NULL);
	CHECK_EQ(machine_id_derive("", "52-54-00-12-34-57", b), 0);
	CHECK(strcmp(a, b) != 0);
	CHECK_EQ(machine_id_derive("4c4c4544-0000-1000-8000-000000000001", "52-54-00-12-34-56", d),
		 0);
	CHECK(strcmp(a, d) != 0);
	CHECK_EQ(machine_id_derive("", "", a), MACHINE_ID_E_NONE);
}

TEST(the_lowest_address_stands_for_a_machine_whatever_the_order_of_its_cards)
{
	static const struct machine_id_card cards[] = {
		{ .mac = { 0x52, 0x54, 0, 0, 0, 9 } },
		{ .mac = { 0x52, 0x54, 0, 0, 0, 3 } },
		{ .mac = { 0x02, 0x54, 0, 0, 0, 1 }, .is_usb = true },
		{ .mac = { 0x52, 0x54, 0, 0, 0, 7 } },
		{ .mac = { 0x02, 0x54, 0, 0, 0, 0 }, .is_usb = true },
	};
	struct machine_id_card turned[ARRAY_SIZE(cards)];

	for (size_t i = 0; i < ARRAY_SIZE(cards); i++)
		turned[i] = cards[ARRAY_SIZE(cards) - 1 - i];
	CHECK(machine_id_choose(cards, ARRAY_SIZE(cards)) == &cards[1]);
	CHECK(machine_id_choose(turned, ARRAY_SIZE(cards)) == &turned[3]);
	/* one that can be pulled out only if there is no other */
	CHECK(machine_id_choose(cards + 2, 1) == &cards[2]);
	CHECK(machine_id_choose(turned, 1) == &turned[0]);
	CHECK(machine_id_choose(cards, 0) == NULL);
}

TEST(only_an_empty_or_uninitialized_file_is_open_for_an_id)
{
	CHECK(machine_id_is_open(""));
	CHECK(machine_id_is_open("\n"));
	CHECK(machine_id_is_open("uninitialized"));
	CHECK(!machine_id_is_open("0123456789abcdef0123456789abcdef"));
	CHECK(!machine_id_is_open("garbage"));
}
