/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The kernel command line: what init reads out of it, and what it refuses by name. */
#include "init/cmdline.h"
#include "init/substitute.h"
#include "tests/unit/tap.h"

static struct cmdline c;

#define CHECK_NULL(p) CHECK((p) == NULL)
#define CHECK_HAS(text, part) CHECK(strstr(text, part) != NULL)

TEST(an_nbd_uri_is_the_root_as_it_stands)
{
	CHECK_EQ(cmdline_parse(&c, "quiet root=nbd://server:10810/pc-{mac} ro"), 0);
	CHECK_STR(c.root.uri, "nbd://server:10810/pc-{mac}");
	CHECK_EQ(c.root.kind, ROOT_NBD);
	CHECK_STR(c.root.fstype, "");
	CHECK_STR(c.root.options, "");
	CHECK(!c.is_rw);
	CHECK_EQ(c.nets_count, 0);
}

TEST(file_system_and_options_of_a_uri_come_from_rootfstype_and_rootflags)
{
	CHECK_EQ(cmdline_parse(&c, "rootflags=noatime,data=journal root=nbd://s/x rootfstype=ext4"),
		 0);
	CHECK_STR(c.root.fstype, "ext4");
	CHECK_STR(c.root.options, "noatime,data=journal");
}

TEST(dracuts_form_with_a_port_is_the_default_export_there)
{
	CHECK_EQ(cmdline_parse(&c, "root=nbd:192.0.2.1:10809"), 0);
	CHECK_STR(c.root.uri, "nbd://192.0.2.1:10809/");
}

TEST(dracuts_form_with_a_name_is_that_export)
{
	CHECK_EQ(cmdline_parse(&c, "root=nbd:192.0.2.1:pc-{hostname}:ext3:noatime,ro"), 0);
	CHECK_STR(c.root.uri, "nbd://192.0.2.1/pc-{hostname}");
	CHECK_STR(c.root.fstype, "ext3");
	CHECK_STR(c.root.options, "noatime,ro");
}

TEST(dracuts_form_takes_an_ipv6_server_in_brackets)
{
	CHECK_EQ(cmdline_parse(&c, "root=nbd:[2001:db8::1]:disk"), 0);
	CHECK_STR(c.root.uri, "nbd://[2001:db8::1]/disk");
	CHECK_EQ(cmdline_parse(&c, "root=nbd:[2001:db8::1:disk"), CMDLINE_E_BAD);
	CHECK_HAS(c.problem, "']'");
}

TEST(an_export_name_is_encoded_for_the_uri_but_keeps_its_placeholders)
{
	CHECK_EQ(cmdline_parse(&c, "root=\"nbd:s:a b%?{mac}\""), 0);
	CHECK_STR(c.root.uri, "nbd://s/a%20b%25%3F{mac}");
}

TEST(options_of_dracuts_form_and_rootflags_add_up)
{
	CHECK_EQ(cmdline_parse(&c, "root=nbd:s:x::noatime rootflags=commit=5"), 0);
	CHECK_STR(c.root.fstype, "");
	CHECK_STR(c.root.options, "noatime,commit=5");
}

TEST(dracuts_form_without_an_export_is_refused)
{
	CHECK_EQ(cmdline_parse(&c, "root=nbd:s"), CMDLINE_E_BAD);
	CHECK_EQ(cmdline_parse(&c, "root=nbd:s:"), CMDLINE_E_BAD);
	CHECK_EQ(cmdline_parse(&c, "root=nbd::x"), CMDLINE_E_BAD);
	CHECK_EQ(cmdline_parse(&c, "root=nbd:s:x:ext4:ro:-N x"), CMDLINE_E_BAD);
	CHECK_HAS(c.problem, "another NBD client");
}

TEST(the_unix_and_tls_schemes_are_passed_on)
{
	CHECK_EQ(cmdline_parse(&c, "root=nbd+unix:///x?socket=/s"), 0);
	CHECK_STR(c.root.uri, "nbd+unix:///x?socket=/s");
	CHECK_EQ(cmdline_parse(&c, "root=nbds://h/x"), 0);
	CHECK_STR(c.root.uri, "nbds://h/x");
}

TEST(no_root_or_one_that_is_not_a_network_block_device_is_named)
{
	CHECK_EQ(cmdline_parse(&c, ""), CMDLINE_E_BAD);
	CHECK_HAS(c.problem, "no root=");
	CHECK_EQ(cmdline_parse(&c, "root="), CMDLINE_E_BAD);
	CHECK_EQ(cmdline_parse(&c, "root"), CMDLINE_E_BAD);
	CHECK_EQ(cmdline_parse(&c, "root=/dev/sda1"), CMDLINE_E_BAD);
	CHECK_HAS(c.problem, "/dev/sda1");
}

TEST(an_nfs_root_has_a_server_a_path_and_options)
{
	CHECK_EQ(cmdline_parse(&c, "root=nfs:192.0.2.1:/srv/{hostname}:vers=3,noatime"), 0);
	CHECK_EQ(c.root.kind, ROOT_NFS);
	CHECK_STR(c.root.server, "192.0.2.1");
	CHECK_STR(c.root.path, "/srv/{hostname}");
	CHECK_STR(c.root.options, "vers=3,noatime");
	CHECK(!c.root.is_nfs4);
	CHECK_EQ(cmdline_parse(&c, "root=nfs4:s:/x rootflags=noatime rootfstype=nfs4"), 0);
	CHECK(c.root.is_nfs4);
	CHECK_STR(c.root.options, "noatime");
}

TEST(nfsroot_says_where_dev_nfs_is_wherever_it_stands)
{
	CHECK_EQ(cmdline_parse(&c, "nfsroot=192.0.2.1:/srv/%s,vers=4.1 root=/dev/nfs"), 0);
	CHECK_EQ(c.root.kind, ROOT_NFS);
	CHECK_STR(c.root.server, "192.0.2.1");
	CHECK_STR(c.root.path, "/srv/%s");
	CHECK_STR(c.root.options, "vers=4.1");
	CHECK_EQ(cmdline_parse(&c, "root=/dev/nfs nfsroot=/srv"), 0);
	CHECK_STR(c.root.server, "");
	CHECK_EQ(cmdline_parse(&c, "root=/dev/nfs nfsroot=srv"), CMDLINE_E_BAD);
	CHECK_HAS(c.problem, "nfsroot=srv: ");
}

TEST(nfsroot_of_another_root_is_left_over_and_ignored)
{
	CHECK_EQ(cmdline_parse(&c, "root=nbd://s/x nfsroot=nonsense"), 0);
	CHECK_EQ(c.root.kind, ROOT_NBD);
	CHECK_EQ(cmdline_parse(&c, "root=nfs:s:/x nfsroot=t:/y"), 0);
	CHECK_STR(c.root.server, "s");
}

TEST(what_dhcp_is_to_say_is_left_empty)
{
	CHECK_EQ(cmdline_parse(&c, "root=dhcp rootfstype=ext4 rootflags=noatime"), 0);
	CHECK_EQ(c.root.kind, ROOT_DHCP);
	CHECK_STR(c.root.fstype, "ext4");
	CHECK_STR(c.root.options, "noatime");
	CHECK_EQ(cmdline_parse(&c, "root=nfs"), 0);
	CHECK_EQ(c.root.kind, ROOT_NFS);
	CHECK_STR(c.root.path, "");
	CHECK_EQ(cmdline_parse(&c, "root=/dev/nfs"), 0);
	CHECK_EQ(c.root.kind, ROOT_NFS);
}

TEST(without_dhcp_the_command_line_has_to_say_all_of_it)
{
	CHECK_EQ(cmdline_parse(&c, "root=dhcp ip=192.0.2.7:::24"), CMDLINE_E_BAD);
	CHECK_HAS(c.problem, "root=dhcp");
	CHECK_EQ(cmdline_parse(&c, "root=dhcp ip=none"), CMDLINE_E_BAD);
	CHECK_EQ(cmdline_parse(&c, "root=nfs:/srv ip=192.0.2.7:::24"), CMDLINE_E_BAD);
	CHECK_HAS(c.problem, "no server");
	CHECK_EQ(cmdline_parse(&c, "root=nfs:/srv ip=192.0.2.7:192.0.2.1::24"), 0);
	CHECK_STR(cmdline_ip_server(&c), "192.0.2.1");
	CHECK_EQ(cmdline_parse(&c, "root=nfs:/srv ip=192.0.2.7:192.0.2.1::24::eth0:none "
				   "ip=192.0.3.7:::24::eth1:none"),
		 0);
	CHECK_STR(cmdline_ip_server(&c), "192.0.2.1");
	CHECK_STR(c.nets[0].server, "192.0.2.1");
	CHECK(c.nets[1].server == NULL);
	CHECK_EQ(cmdline_parse(&c, "root=nfs:/srv ip=192.0.2.7:server::24"), CMDLINE_E_BAD);
	CHECK_HAS(c.problem, "server");
}

TEST(a_long_root_that_is_bad_leaves_room_for_the_reason)
{
	char text[1024];

	memset(text, 'x', sizeof(text));
	memcpy(text, "root=", 5);
	text[sizeof(text) - 1] = '\0';
	CHECK_EQ(cmdline_parse(&c, text), CMDLINE_E_BAD);
	CHECK_HAS(c.problem, "not a root on the network");
}

TEST(an_overlay_is_in_memory_with_a_size_or_on_a_device)
{
	CHECK_EQ(cmdline_parse(&c, "root=nbd://s/x"), 0);
	CHECK_EQ(c.overlay, CMDLINE_OVERLAY_NONE);
	CHECK_EQ(cmdline_parse(&c, "root=nbd://s/x nbdroot.overlay=tmpfs"), 0);
	CHECK_EQ(c.overlay, CMDLINE_OVERLAY_TMPFS);
	CHECK_NULL(c.upper.options);
	CHECK_EQ(cmdline_parse(&c, "root=nbd://s/x nbdroot.overlay=tmpfs,size=50%"), 0);
	CHECK_STR(c.upper.options, "size=50%");
	CHECK_EQ(cmdline_parse(&c, "root=nbd://s/x nbdroot.overlay=nbd://s/u-{mac},ext4,noatime,x"),
		 0);
	CHECK_EQ(c.overlay, CMDLINE_OVERLAY_DEVICE);
	CHECK_STR(c.upper.uri, "nbd://s/u-{mac}");
	CHECK_STR(c.upper.fstype, "ext4");
	CHECK_STR(c.upper.options, "noatime,x");
	CHECK_EQ(cmdline_parse(&c, "root=nbd://s/x nbdroot.overlay=nbd://s/u"), 0);
	CHECK_NULL(c.upper.fstype);
}

TEST(an_overlay_that_makes_no_sense_is_refused_in_words)
{
	static const char *const bad[] = {
		"nbdroot.overlay",
		"nbdroot.overlay=",
		"nbdroot.overlay=ramfs",
		"nbdroot.overlay=/dev/sda1",
		"nbdroot.overlay=tmpfs,size=",
		"nbdroot.overlay=tmpfs,size=1T5",
		"nbdroot.overlay=tmpfs,mode=0777",
		"nbdroot.overlay=tmpfs,size=1g,mode=0777",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char line[128];

		snprintf(line, sizeof(line), "root=nbd://s/x %s", bad[i]);
		CHECK_EQ(cmdline_parse(&c, line), CMDLINE_E_BAD);
		CHECK_HAS(c.problem, "nbdroot.overlay=");
		CHECK_HAS(c.problem, "wanted");
		CHECK_EQ(c.overlay, CMDLINE_OVERLAY_NONE);
	}
}

TEST(fsck_is_auto_skip_or_force)
{
	CHECK_EQ(cmdline_parse(&c, "root=nbd://s/x"), 0);
	CHECK_EQ(c.fsck, CMDLINE_FSCK_AUTO);
	CHECK_EQ(cmdline_parse(&c, "root=nbd://s/x nbdroot.fsck=force"), 0);
	CHECK_EQ(c.fsck, CMDLINE_FSCK_FORCE);
	CHECK_EQ(cmdline_parse(&c, "root=nbd://s/x nbdroot.fsck=skip"), 0);
	CHECK_EQ(c.fsck, CMDLINE_FSCK_SKIP);
	CHECK_EQ(cmdline_parse(&c, "root=nbd://s/x nbdroot.fsck=yes"), CMDLINE_E_BAD);
	CHECK_HAS(c.problem, "wanted auto, skip or force");
	CHECK_EQ(cmdline_parse(&c, "root=nbd://s/x nbdroot.fsck"), CMDLINE_E_BAD);
}

TEST(policy_for_long_outages_is_wait_or_a_restart_after_some_seconds)
{
	CHECK_EQ(cmdline_parse(&c, "root=nbd://s/x"), 0);
	CHECK_NULL(c.outage);
	CHECK_EQ(cmdline_parse(&c, "root=nbd://s/x nbdroot.outage=reboot:600"), 0);
	CHECK_STR(c.outage, "reboot:600");
	CHECK_EQ(cmdline_parse(&c, "nbdroot.outage=reboot:9 root=nbd://s/x nbdroot.outage=wait"),
		 0);
	CHECK_NULL(c.outage);
}

TEST(policy_that_makes_no_sense_is_refused_in_words)
{
	static const char *const bad[] = {
		"nbdroot.outage",
		"nbdroot.outage=",
		"nbdroot.outage=reboot",
		"nbdroot.outage=reboot:",
		"nbdroot.outage=reboot:0",
		"nbdroot.outage=reboot:-1",
		"nbdroot.outage=reboot:10m",
		"nbdroot.outage=reboot:99999999999",
		"nbdroot.outage=poweroff:60",
		"nbdroot.outage=waiting",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char line[128];

		snprintf(line, sizeof(line), "root=nbd://s/x %s", bad[i]);
		CHECK_EQ(cmdline_parse(&c, line), CMDLINE_E_BAD);
		CHECK_HAS(c.problem, "wanted wait, or reboot:<seconds>");
	}
}

TEST(a_misspelt_parameter_of_ours_is_refused_and_a_foreign_one_ignored)
{
	CHECK_EQ(cmdline_parse(&c, "root=nbd://s/x nbdroot.mout=nbd://s/y,/y"), CMDLINE_E_BAD);
	CHECK_HAS(c.problem, "nbdroot.mout");
	CHECK_EQ(cmdline_parse(&c, "root=nbd://s/x foo=bar systemd.unit=rescue.target 3"), 0);
}

TEST(quotes_group_words_as_in_the_kernel)
{
	CHECK_EQ(cmdline_parse(&c, "init=\"/my init\" \"root=nbd://s/a b\" rootfstype=\"\""), 0);
	CHECK_STR(c.init, "/my init");
	CHECK_STR(c.root.uri, "nbd://s/a b");
	CHECK_STR(c.root.fstype, "");
}

TEST(words_are_separated_by_any_white_space)
{
	CHECK_EQ(cmdline_parse(&c, " \t root=nbd://s/x \t\n rw\n"), 0);
	CHECK(c.is_rw);
}

TEST(a_command_line_ends_inside_quotes_without_harm)
{
	CHECK_EQ(cmdline_parse(&c, "root=nbd://s/x init=\"/sbin/in it"), 0);
	CHECK_STR(c.init, "/sbin/in it");
	CHECK_EQ(cmdline_parse(&c, "root=nbd://s/x \""), 0);
	CHECK_EQ(cmdline_parse(&c, "root=nbd://s/x init=\""), 0);
	CHECK_NULL(c.init);
}

TEST(what_stands_behind_two_dashes_is_for_the_real_init)
{
	CHECK_EQ(cmdline_parse(&c, "root=nbd://s/x -- rw init=/other"), 0);
	CHECK(!c.is_rw);
	CHECK_NULL(c.init);
}

TEST(the_last_of_several_wins)
{
	CHECK_EQ(cmdline_parse(&c, "root=nbd://s/x rw ro root=nbd:t:y:ext3 rw root=nbd://u/z"), 0);
	CHECK_STR(c.root.uri, "nbd://u/z");
	CHECK_STR(c.root.fstype, "");
	CHECK(c.is_rw);
}

TEST(a_command_line_of_the_longest_length_is_read_and_one_more_byte_refused)
{
	char text[CMDLINE_TEXT_MAX + 1];

	memset(text, ' ', sizeof(text));
	memcpy(text, "root=nbd://s/x", 14);
	text[CMDLINE_TEXT_MAX - 1] = '\0';
	CHECK_EQ(cmdline_parse(&c, text), 0);
	text[CMDLINE_TEXT_MAX - 1] = ' ';
	text[CMDLINE_TEXT_MAX] = '\0';
	CHECK_EQ(cmdline_parse(&c, text), CMDLINE_E_BAD);
}

TEST(a_name_of_all_percent_signs_does_not_outgrow_the_store)
{
	char text[CMDLINE_TEXT_MAX];

	memset(text, '%', sizeof(text));
	memcpy(text, "root=nbd:s:", 11);
	text[CMDLINE_TEXT_MAX - 1] = '\0';
	CHECK_EQ(cmdline_parse(&c, text), CMDLINE_E_BAD);
	CHECK_HAS(c.problem, "too long");
}

/* ---- extra mounts ---- */

TEST(a_mount_has_a_uri_a_mount_point_and_perhaps_type_and_options_with_commas)
{
	CHECK_EQ(cmdline_parse(&c, "root=nbd://s/x nbdroot.mount=nbd://s/a,/data "
				   "nbdroot.mount=nbd://s/b,/srv/{hostname},ext3,noatime,commit=1"),
		 0);
	CHECK_EQ(c.mounts_count, 2);
	CHECK_STR(c.mounts[0].uri, "nbd://s/a");
	CHECK_STR(c.mounts[0].mount_point, "/data");
	CHECK_NULL(c.mounts[0].fstype);
	CHECK_NULL(c.mounts[0].options);
	CHECK_STR(c.mounts[1].mount_point, "/srv/{hostname}");
	CHECK_STR(c.mounts[1].fstype, "ext3");
	CHECK_STR(c.mounts[1].options, "noatime,commit=1");
}

TEST(a_mount_point_must_be_absolute_inside_the_root_and_not_the_root)
{
	static const char *const bad[] = {
		"nbd://s/a",        "nbd://s/a,",     "nbd://s/a,data",
		"nbd://s/a,/",      "nbd://s/a,/..",  "nbd://s/a,/x/../y",
		"nbd://s/a,/x/..,", "/dev/sda,/data", ""
	};
	char text[128];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		snprintf(text, sizeof(text), "root=nbd://s/x nbdroot.mount=%s", bad[i]);
		CHECK_EQ(cmdline_parse(&c, text), CMDLINE_E_BAD);
		CHECK_HAS(c.problem, "nbdroot.mount=");
		CHECK_EQ(c.mounts_count, 0);
	}
	CHECK_EQ(cmdline_parse(&c, "root=nbd://s/x nbdroot.mount=nbd://s/a,/..x/y.."), 0);
}

TEST(sixteen_mounts_are_taken_and_one_more_is_refused)
{
	char text[CMDLINE_TEXT_MAX] = "root=nbd://s/x";

	for (int i = 0; i < CMDLINE_MOUNTS_MAX; i++)
		strcat(text, " nbdroot.mount=nbd://s/a,/data");
	CHECK_EQ(cmdline_parse(&c, text), 0);
	CHECK_EQ(c.mounts_count, CMDLINE_MOUNTS_MAX);
	strcat(text, " nbdroot.mount=nbd://s/a,/data");
	CHECK_EQ(cmdline_parse(&c, text), CMDLINE_E_BAD);
	CHECK_EQ(c.mounts_count, CMDLINE_MOUNTS_MAX);
}

TEST(rpmdb_needs_no_mount_point)
{
	CHECK_EQ(cmdline_parse(&c, "root=nbd://s/x rpmdb=nbd://s/rpm-{mac}"), 0);
	CHECK_STR(c.rpmdb.uri, "nbd://s/rpm-{mac}");
	CHECK_NULL(c.rpmdb.mount_point);
	CHECK_EQ(cmdline_parse(&c, "root=nbd://s/x rpmdb=nbd://s/r,/var/lib/db"), 0);
	CHECK_STR(c.rpmdb.mount_point, "/var/lib/db");
	CHECK_EQ(cmdline_parse(&c, "root=nbd://s/x rpmdb=/dev/sda"), CMDLINE_E_BAD);
	CHECK_NULL(c.rpmdb.uri);
}

/* ---- fallback servers ---- */

TEST(fallback_servers_are_a_list_of_at_most_eight)
{
	CHECK_EQ(cmdline_parse(&c, "root=nbd://s/x nbdroot.fallback=a,b:1,,[::1]:2"), 0);
	CHECK_EQ(c.fallbacks_count, 3);
	CHECK_STR(c.fallbacks[1], "b:1");
	CHECK_STR(c.fallbacks[2], "[::1]:2");
	CHECK_EQ(cmdline_parse(&c, "root=nbd://s/x nbdroot.fallback=1,2,3,4,5,6,7,8"), 0);
	CHECK_EQ(cmdline_parse(&c, "root=nbd://s/x nbdroot.fallback=1,2,3,4,5,6,7,8,9"),
		 CMDLINE_E_BAD);
	CHECK_EQ(cmdline_parse(&c, "root=nbd://s/x nbdroot.fallback=nbd://b/x"), CMDLINE_E_BAD);
}

TEST(a_fallback_replaces_host_and_port_and_nothing_else)
{
	char out[64];

	CHECK_EQ(cmdline_fallback_uri("nbd://a/x?q", "b", out, sizeof(out)), 0);
	CHECK_STR(out, "nbd://b/x?q");
	CHECK_EQ(cmdline_fallback_uri("nbd://a:1/x", "b", out, sizeof(out)), 0);
	CHECK_STR(out, "nbd://b:1/x");
	CHECK_EQ(cmdline_fallback_uri("nbd://a:1/x", "b:2", out, sizeof(out)), 0);
	CHECK_STR(out, "nbd://b:2/x");
	CHECK_EQ(cmdline_fallback_uri("nbds://u@[::1]:1/x", "[::2]", out, sizeof(out)), 0);
	CHECK_STR(out, "nbds://u@[::2]:1/x");
	CHECK_EQ(cmdline_fallback_uri("nbd://a", "[::2]:9", out, sizeof(out)), 0);
	CHECK_STR(out, "nbd://[::2]:9");
	CHECK_EQ(cmdline_fallback_uri("nbd://a/x@y", "b", out, sizeof(out)), 0);
	CHECK_STR(out, "nbd://b/x@y");
	CHECK_EQ(cmdline_fallback_uri("nbd+unix:///x?socket=/s", "b", out, sizeof(out)),
		 CMDLINE_E_BAD);
}

TEST(a_fallback_uri_fits_exactly_or_not_at_all)
{
	char out[sizeof("nbd://b/x")];

	CHECK_EQ(cmdline_fallback_uri("nbd://a/x", "b", out, sizeof(out)), 0);
	CHECK_EQ(cmdline_fallback_uri("nbd://a/x", "b", out, sizeof(out) - 1), -ENOSPC);
}

/* ---- the rest ---- */

TEST(what_a_person_asks_for_counts_also_on_a_bad_command_line)
{
	CHECK_EQ(cmdline_parse(&c, "root=nfs:x panic=30 rd.shell rd.break=mount debug"),
		 CMDLINE_E_BAD);
	CHECK(c.wants_shell);
	CHECK(c.is_debug);
	CHECK_EQ(c.panic_s, 30);
	CHECK_STR(c.break_step, "mount");
}

TEST(panic_is_a_number_of_seconds)
{
	CHECK_EQ(cmdline_parse(&c, "root=nbd://s/x panic=-1"), 0);
	CHECK_EQ(c.panic_s, -1);
	CHECK_EQ(cmdline_parse(&c, "root=nbd://s/x"), 0);
	CHECK(!c.has_panic);
	CHECK_EQ(cmdline_parse(&c, "root=nbd://s/x panic=soon"), CMDLINE_E_BAD);
	CHECK_EQ(cmdline_parse(&c, "root=nbd://s/x panic"), CMDLINE_E_BAD);
}

TEST(a_shell_can_be_forbidden_and_a_bare_break_has_no_step)
{
	CHECK_EQ(cmdline_parse(&c, "root=nbd://s/x rd.shell=0 rd.break"), 0);
	CHECK(!c.wants_shell);
	CHECK_STR(c.break_step, "");
}

/* ---- placeholders ---- */

static char out[64], why[256];

static const struct substitute_values values = {
	.mac = "52-54-00-12-34-56", .ip = "192.0.2.7", .hostname = "pc7", .uuid = NULL
};

TEST(placeholders_are_replaced_wherever_they_stand)
{
	CHECK_EQ(substitute("nbd://s/{mac}-{ip}", &values, out, sizeof(out), why, sizeof(why)), 0);
	CHECK_STR(out, "nbd://s/52-54-00-12-34-56-192.0.2.7");
	CHECK_EQ(substitute("{hostname}{hostname}", &values, out, sizeof(out), why, sizeof(why)),
		 0);
	CHECK_STR(out, "pc7pc7");
	CHECK_EQ(substitute("", &values, out, sizeof(out), why, sizeof(why)), 0);
	CHECK_STR(out, "");
}

TEST(an_unknown_or_unfinished_placeholder_is_named)
{
	CHECK_EQ(substitute("nbd://s/{serial}", &values, out, sizeof(out), why, sizeof(why)),
		 SUBSTITUTE_E_BAD);
	CHECK_HAS(why, "{serial}");
	CHECK_EQ(substitute("nbd://s/{mac", &values, out, sizeof(out), why, sizeof(why)),
		 SUBSTITUTE_E_BAD);
	CHECK_EQ(substitute("nbd://s/{}", &values, out, sizeof(out), why, sizeof(why)),
		 SUBSTITUTE_E_BAD);
}

TEST(a_value_that_the_machine_lacks_is_named)
{
	struct substitute_values v = values;

	CHECK_EQ(substitute("{uuid}", &v, out, sizeof(out), why, sizeof(why)), SUBSTITUTE_E_BAD);
	CHECK_HAS(why, "no {uuid}");
	v.hostname = "";
	CHECK_EQ(substitute("{hostname}", &v, out, sizeof(out), why, sizeof(why)),
		 SUBSTITUTE_E_BAD);
}

TEST(a_host_name_cannot_lead_to_another_place)
{
	static const char *const bad[] = {
		"../x", "a/b", ".", "-x", "a b", "a?b", "a%2fb", "{mac}"
	};
	struct substitute_values v = values;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		v.hostname = bad[i];
		CHECK_EQ(substitute("/data/{hostname}", &v, out, sizeof(out), why, sizeof(why)),
			 SUBSTITUTE_E_BAD);
	}
}

TEST(a_result_fits_exactly_or_is_refused)
{
	CHECK_EQ(substitute("/{hostname}", &values, out, sizeof("/pc7"), why, sizeof(why)), 0);
	CHECK_STR(out, "/pc7");
	CHECK_EQ(substitute("/{hostname}", &values, out, sizeof("/pc7") - 1, why, sizeof(why)),
		 SUBSTITUTE_E_BAD);
	CHECK_HAS(why, "longer than");
}
