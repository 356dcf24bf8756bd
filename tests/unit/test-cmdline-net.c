/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ip=, vlan=, BOOTIF= and nameserver=: the kernel's forms, dracut's, PXELINUX', and what is none.
 */
#include "init/cmdline.h"
#include "tests/unit/tap.h"

static struct cmdline c;

#define CHECK_NULL(p) CHECK((p) == NULL)
#define CHECK_HAS(text, part) CHECK(strstr(text, part) != NULL)
#define NET (c.nets[c.nets_count - 1])

/* The command line with these words and a root. */
static int parse(const char *words)
{
	char text[512];

	snprintf(text, sizeof(text), "root=nbd://s/x %s", words);
	return cmdline_parse(&c, text);
}

TEST(ip_asks_by_dhcp_in_all_its_spellings)
{
	static const char *const dhcp[] = { "ip=dhcp",
					    "ip=on",
					    "ip=any",
					    "ip=single-dhcp",
					    "ip=",
					    "ip",
					    "ip=::::::dhcp",
					    "ip=0.0.0.0::::::dhcp",
					    "ip=:::::eth1:dhcp",
					    "ip=:::::eth1",
					    "ip=eth1:dhcp" };

	for (size_t i = 0; i < ARRAY_SIZE(dhcp); i++) {
		CHECK_EQ(parse(dhcp[i]), 0);
		CHECK_EQ(c.nets_count, 1);
		CHECK_EQ(NET.how, CMDLINE_IP_DHCP);
		CHECK_NULL(NET.address);
	}
	CHECK_STR(NET.device, "eth1");
	CHECK_EQ(parse("ip=none"), 0);
	CHECK_EQ(NET.how, CMDLINE_IP_NONE);
	CHECK_EQ(parse("ip=off"), 0);
	CHECK_EQ(NET.how, CMDLINE_IP_NONE);
}

TEST(a_static_address_is_read_as_the_kernel_reads_it)
{
	CHECK_EQ(parse("ip=192.0.2.7:192.0.2.5:192.0.2.1:255.255.255.128:pc7:eth1:none:9.9.9.9:"
		       "9.9.9.8:192.0.2.3"),
		 0);
	CHECK_EQ(NET.how, CMDLINE_IP_STATIC);
	CHECK_STR(NET.address, "192.0.2.7");
	CHECK_STR(NET.server, "192.0.2.5");
	CHECK_STR(NET.gateway, "192.0.2.1");
	CHECK_EQ(NET.prefix, 25);
	CHECK_STR(NET.host, "pc7");
	CHECK_STR(NET.device, "eth1");
	CHECK_EQ(NET.dns_count, 2);
	CHECK_STR(NET.dns[0], "9.9.9.9");
	CHECK_STR(NET.dns[1], "9.9.9.8");
	CHECK_STR(NET.ntp, "192.0.2.3");
}

TEST(a_mask_is_a_prefix_or_left_to_the_class)
{
	CHECK_EQ(parse("ip=192.0.2.7:::26"), 0);
	CHECK_EQ(NET.prefix, 26);
	CHECK_NULL(NET.gateway);
	CHECK_EQ(parse("ip=10.1.2.3"), 0);
	CHECK_EQ(NET.prefix, 8);
	CHECK_EQ(parse("ip=172.16.0.1"), 0);
	CHECK_EQ(NET.prefix, 16);
	CHECK_EQ(parse("ip=192.0.2.1:::0.0.0.0"), 0);
	CHECK_EQ(NET.prefix, 0);
	CHECK_EQ(parse("ip=192.0.2.1:::255.255.255.255"), 0);
	CHECK_EQ(NET.prefix, 32);
}

/* What PXELINUX appends was leased by the firmware, and nobody would renew it. */
TEST(what_ipappend_1_gives_is_only_asked_for)
{
	CHECK_EQ(parse("ip=192.0.2.7:192.0.2.5:192.0.2.1:255.255.255.0"), 0);
	CHECK_EQ(NET.how, CMDLINE_IP_DHCP);
	CHECK_STR(NET.address, "192.0.2.7");
	CHECK_STR(NET.server, "192.0.2.5");
	/* the same by a person who means it */
	CHECK_EQ(parse("ip=192.0.2.7:192.0.2.5:192.0.2.1:255.255.255.0:::none"), 0);
	CHECK_EQ(NET.how, CMDLINE_IP_STATIC);
	CHECK_EQ(parse("ip=192.0.2.7::192.0.2.1:255.255.255.0"), 0);
	CHECK_EQ(NET.how, CMDLINE_IP_STATIC);
}

TEST(an_address_with_dhcp_is_only_asked_for)
{
	CHECK_EQ(parse("ip=192.0.2.7::192.0.2.1:255.255.255.0:pc7:eth0:dhcp"), 0);
	CHECK_EQ(NET.how, CMDLINE_IP_DHCP);
	CHECK_STR(NET.address, "192.0.2.7");
	CHECK_STR(NET.host, "pc7");
}

TEST(dracut_puts_mtu_and_hardware_address_behind_the_way)
{
	CHECK_EQ(parse("ip=eth0:dhcp:1400:02:00:00:00:00:ab"), 0);
	CHECK_STR(NET.device, "eth0");
	CHECK_EQ(NET.mtu, 1400);
	CHECK(NET.has_new_mac);
	CHECK(memcmp(NET.new_mac, "\2\0\0\0\0\xab", 6) == 0);
	CHECK_EQ(parse("ip=eth0:dhcp:9000"), 0);
	CHECK_EQ(NET.mtu, 9000);
	CHECK(!NET.has_new_mac);
	CHECK_EQ(parse("ip=192.0.2.7::192.0.2.1:24:pc7:eth0:none:1400:02-00-00-00-00-ab"), 0);
	CHECK_EQ(NET.how, CMDLINE_IP_STATIC);
	CHECK_EQ(NET.mtu, 1400);
	CHECK(NET.has_new_mac);
	CHECK_EQ(parse("ip=192.0.2.7::192.0.2.1:24:pc7:eth0:none::02:00:00:00:00:ab"), 0);
	CHECK_EQ(NET.mtu, 0);
	CHECK(NET.has_new_mac);
	CHECK_EQ(NET.dns_count, 0);
}

TEST(a_card_may_be_named_by_its_address)
{
	CHECK_EQ(parse("ip=52-54-00-12-34-56:dhcp"), 0);
	CHECK(NET.has_mac);
	CHECK_NULL(NET.device);
	CHECK(memcmp(NET.mac, "\x52\x54\0\x12\x34\x56", 6) == 0);
	CHECK_EQ(parse("ip=192.0.2.7:::24::enx525400123456:none"), 0);
	CHECK(NET.has_mac);
	CHECK(memcmp(NET.mac, "\x52\x54\0\x12\x34\x56", 6) == 0);
}

TEST(each_card_may_have_an_ip_of_its_own_and_the_last_one_for_a_card_counts)
{
	CHECK_EQ(parse("ip=eth0:dhcp ip=192.0.2.7:::24::eth1:none ip=eth0:none bootdev=eth1"), 0);
	CHECK_EQ(c.nets_count, 2);
	CHECK_EQ(c.nets[0].how, CMDLINE_IP_NONE);
	CHECK_STR(c.nets[0].device, "eth0");
	CHECK_STR(c.nets[1].device, "eth1");
	CHECK_STR(c.bootdev, "eth1");
	CHECK_EQ(parse("ip=none ip=dhcp"), 0);
	CHECK_EQ(c.nets_count, 1);
	CHECK_EQ(NET.how, CMDLINE_IP_DHCP);
	CHECK_EQ(parse("ip=a:dhcp ip=b:dhcp ip=c:dhcp ip=d:dhcp"), 0);
	CHECK_EQ(parse("ip=a:dhcp ip=b:dhcp ip=c:dhcp ip=d:dhcp ip=e:dhcp"), CMDLINE_E_BAD);
}

TEST(what_makes_no_sense_in_ip_is_named)
{
	static const struct {
		const char *text, *part;
	} bad[] = {
		{ "ip=300.1.1.1::::", "300.1.1.1" },
		{ "ip=10.0.0.1:::255.0.255.0", "255.0.255.0" },
		{ "ip=10.0.0.1:::33", "33" },
		{ "ip=10.0.0.1::gw:24", "gateway" },
		{ "ip=10.0.0.1:server::24", "server" },
		{ "ip=10.0.0.1:::24:h:e:static", "static" },
		{ "ip=10.0.0.1:::24:h:e:none:dns", "name server" },
		{ "ip=10.0.0.1:::24:h:e:none:9.9.9.9:9.9.9.8:x", "time server" },
		{ "ip=10.0.0.1:::24:h:e:none:67", "MTU" },
		{ "ip=eth0:dhcp:65536", "MTU" },
		{ "ip=eth0:dhcp:1500:01:00:5e:00:00:01", "hardware address" },
		{ "ip=eth0:dhcp:1500:02:00:00:00:00", "ip=eth0:dhcp" },
		{ "ip=:::::eth0:none", "forbids" },
		{ "ip=:::::../x:dhcp", "name of a network card" },
		{ "ip=abcdefghijklmnop:dhcp", "name of a network card" },
		{ "ip=eth0", "neither" },
		{ "ip=bootp", "bootp" },
		{ "ip=rarp", "rarp" },
		{ "ip=both", "both" },
		{ "ip=ibft", "ibft" },
		{ "ip=auto6", "auto6" },
		{ "ip=eth0:dhcp6", "dhcp6" },
		{ "ip=eth0:auto6", "auto6" },
		{ "ip=[2001:db8::1]:::64", "IPv6" },
		{ "ip=1:2:3:4:5:6:7:8:9:10:11", "fields" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		CHECK_EQ(parse(bad[i].text), CMDLINE_E_BAD);
		CHECK_HAS(c.problem, bad[i].part);
		CHECK_EQ(c.nets_count, 0);
	}
}

TEST(bootif_is_a_mac_with_or_without_the_hardware_type)
{
	CHECK_EQ(parse("BOOTIF=01-52-54-00-12-Ab-fF"), 0);
	CHECK(c.has_bootif);
	CHECK(memcmp(c.bootif, "\x52\x54\x00\x12\xab\xff", 6) == 0);
	CHECK_EQ(parse("BOOTIF=52:54:00:12:34:56"), 0);
	CHECK(memcmp(c.bootif, "\x52\x54\x00\x12\x34\x56", 6) == 0);
}

TEST(a_bootif_of_another_length_or_type_is_refused)
{
	static const char *const bad[] = { "01-52-54-00-12-34-5",
					   "01-52-54-00-12-34-566",
					   "20-52-54-00-12-34-56",
					   "01-52-54-00-12-34-5g",
					   "52-54-00-12-34.56",
					   "eth0",
					   "" };
	char text[128];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		snprintf(text, sizeof(text), "BOOTIF=%s", bad[i]);
		CHECK_EQ(parse(text), CMDLINE_E_BAD);
		CHECK(!c.has_bootif);
	}
}

TEST(a_vlan_has_its_number_in_its_name)
{
	static const char *const five[] = { "vlan=vlan5:eth0", "vlan=vlan0005:eth0",
					    "vlan=eth0.5:eth0", "vlan=eth0.0005:eth0" };

	for (size_t i = 0; i < ARRAY_SIZE(five); i++) {
		CHECK_EQ(parse(five[i]), 0);
		CHECK_EQ(c.vlan.id, 5);
		CHECK_STR(c.vlan.card, "eth0");
	}
	CHECK_STR(c.vlan.name, "eth0.0005");
	CHECK_EQ(parse("vlan=vlan4094:52-54-00-12-34-56"), 0);
	CHECK_EQ(c.vlan.id, 4094);
	CHECK_NULL(c.vlan.card);
	CHECK(memcmp(c.vlan.mac, "\x52\x54\0\x12\x34\x56", 6) == 0);
	CHECK_EQ(parse("vlan=vlan7:BOOTIF"), 0);
	CHECK_STR(c.vlan.card, "BOOTIF");
}

TEST(what_is_no_vlan_is_refused)
{
	static const char *const bad[] = { "vlan",
					   "vlan=",
					   "vlan=vlan5",
					   "vlan=vlan5:",
					   "vlan=:eth0",
					   "vlan=vlan:eth0",
					   "vlan=vlan0:eth0",
					   "vlan=vlan4095:eth0",
					   "vlan=5:eth0",
					   "vlan=vlan5:a/b",
					   "vlan=vlan5:eth0 vlan=vlan6:eth0" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		CHECK_EQ(parse(bad[i]), CMDLINE_E_BAD);
		CHECK_HAS(c.problem, "vlan=");
	}
}

TEST(what_other_initramfs_can_and_we_cannot_is_said)
{
	static const char *const bad[] = { "bond=bond0:eth0,eth1", "team=t:eth0", "bridge=br0:eth0",
					   "rd.route=10.0.0.0/8:192.0.2.1", "bond" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		CHECK_EQ(parse(bad[i]), CMDLINE_E_BAD);
		CHECK_HAS(c.problem, "not supported by this version");
	}
}

TEST(name_servers_are_addresses)
{
	CHECK_EQ(parse("nameserver=192.0.2.1 nameserver=192.0.2.2"), 0);
	CHECK_EQ(c.nameservers_count, 2);
	CHECK_STR(c.nameservers[1], "192.0.2.2");
	CHECK_EQ(parse("nameserver=ns1"), CMDLINE_E_BAD);
	CHECK_EQ(parse("nameserver=2001:db8::1"), CMDLINE_E_BAD);
}
