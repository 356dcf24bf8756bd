/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What nbdclient says of its machine: whose card it names, and that a server will take it. */
#include "nbdclient/whoami.h"
#include "tests/unit/tap.h"

#include <arpa/inet.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <netpacket/packet.h>

enum { ENTRIES_MAX = 12 };

/* Interfaces as getifaddrs() lists them. */
static struct ifaddrs entry[ENTRIES_MAX];
static struct sockaddr_storage address[ENTRIES_MAX];
static unsigned entries;
static char machine[NBD_SESSION_MACHINE_MAX + 1];

static struct sockaddr *add(const char *name)
{
	struct ifaddrs *i = &entry[entries];

	*i = (struct ifaddrs){
		.ifa_name = (char *)name,
		.ifa_addr = (struct sockaddr *)&address[entries],
	};
	memset(&address[entries], 0, sizeof(address[entries]));
	if (entries > 0)
		entry[entries - 1].ifa_next = i;
	entries++;
	return i->ifa_addr;
}

static void add_card(const char *name, int index, unsigned short type, uint8_t last)
{
	struct sockaddr_ll *ll = (struct sockaddr_ll *)add(name);

	ll->sll_family = AF_PACKET;
	ll->sll_hatype = type;
	ll->sll_ifindex = index;
	ll->sll_halen = 6;
	if (last)
		memcpy(ll->sll_addr, (const uint8_t[]){ 0x52, 0x54, 0, 0x12, 0xAB, last }, 6);
}

static const struct sockaddr *ip(struct sockaddr_storage *out, const char *text)
{
	memset(out, 0, sizeof(*out));
	out->ss_family = strchr(text, ':') ? AF_INET6 : AF_INET;
	if (inet_pton(out->ss_family, text,
		      out->ss_family == AF_INET6 ? (void *)&((struct sockaddr_in6 *)out)->sin6_addr
						 : &((struct sockaddr_in *)out)->sin_addr) != 1)
		abort();
	return (const struct sockaddr *)out;
}

static void add_address(const char *name, const char *text)
{
	ip((struct sockaddr_storage *)add(name), text);
}

/* lo, two cards of which the second has the lower number, an address or two of each */
static void example(void)
{
	entries = 0;
	add_card("lo", 1, ARPHRD_LOOPBACK, 0);
	add_card("eth1", 3, ARPHRD_ETHER, 3);
	add_card("eth0", 2, ARPHRD_ETHER, 2);
	add("tun0"); /* AF_UNSPEC */
	entry[entries - 1].ifa_addr = NULL;
	add_address("lo", "127.0.0.1");
	add_address("eth0", "10.0.0.2");
	add_address("eth1", "10.1.0.2");
	add_address("eth1:backup", "10.1.0.3");
	add_address("eth1", "fe80::1");
}

static const char *card_at(const char *local)
{
	struct sockaddr_storage a;

	machine[0] = '\0';
	return whoami_card(entry, ip(&a, local), machine) ? machine : "none";
}

TEST(card_with_the_address_is_named_in_lower_case)
{
	example();
	CHECK_STR(card_at("10.0.0.2"), "52-54-00-12-ab-02");
	CHECK_STR(card_at("10.1.0.2"), "52-54-00-12-ab-03");
	CHECK_STR(card_at("fe80::1"), "52-54-00-12-ab-03");
}

TEST(labelled_address_is_its_card_s)
{
	example();
	CHECK_STR(card_at("10.1.0.3"), "52-54-00-12-ab-03");
}

TEST(name_that_only_begins_alike_is_another_card)
{
	entries = 0;
	add_card("eth1", 5, ARPHRD_ETHER, 1);
	add_card("eth10", 6, ARPHRD_ETHER, 10);
	add_address("eth10", "10.0.0.2");
	CHECK_STR(card_at("10.0.0.2"), "52-54-00-12-ab-0a");
}

TEST(without_the_address_it_is_the_first_ethernet_card_by_number)
{
	example();
	CHECK_STR(card_at("127.0.0.1"), "52-54-00-12-ab-02");
	CHECK_STR(card_at("192.168.0.1"), "52-54-00-12-ab-02");
	CHECK(whoami_card(entry, NULL, machine));
	CHECK_STR(machine, "52-54-00-12-ab-02");
}

TEST(card_without_an_address_of_its_own_is_not_named)
{
	entries = 0;
	add_card("lo", 1, ARPHRD_LOOPBACK, 9);
	add_card("dummy0", 2, ARPHRD_ETHER, 0);
	add_card("ib0", 3, ARPHRD_INFINIBAND, 7);
	((struct sockaddr_ll *)entry[2].ifa_addr)->sll_halen = 20;
	add_address("lo", "127.0.0.1");
	CHECK_STR(card_at("127.0.0.1"), "none");
	CHECK(!whoami_card(NULL, NULL, machine));
}

TEST(host_name_is_made_fit_to_be_shown)
{
	char plain[] = "pc07.example", odd[] = "p\033[31mc\x7f\xc3\xa9", none[] = "(none)";

	whoami_clean_host(plain);
	CHECK_STR(plain, "pc07.example");
	whoami_clean_host(odd);
	CHECK_STR(odd, "p?[31mc???");
	CHECK(nbd_is_plain_text(odd, strlen(odd)));
	whoami_clean_host(none);
	CHECK_STR(none, "");
}

/* On this very machine, whatever it has. */
static bool can_be_sent(const struct nbd_session *s)
{
	uint8_t data[NBD_SESSION_MAX];

	return nbd_session_encode(data, s, "root") > 0;
}

TEST(session_of_this_machine_can_be_sent_with_or_without_a_route_to_the_server)
{
	struct dial_list servers = { .count = 0 };
	struct nbd_session s;

	whoami_init(&s, &servers);
	CHECK(can_be_sent(&s));
	servers.count = 3;
	servers.address[0].addr.ss_family = AF_UNIX;
	ip(&servers.address[1].addr, "2001:db8::1");
	servers.address[1].size = sizeof(struct sockaddr_in6);
	ip(&servers.address[2].addr, "127.0.0.1");
	servers.address[2].size = sizeof(struct sockaddr_in);
	whoami_init(&s, &servers);
	CHECK(can_be_sent(&s));
	CHECK_EQ(s.slot, 0);
	CHECK_EQ(s.generation, 0);
}

TEST(machine_is_the_same_each_time_and_the_session_never_is)
{
	struct dial_list servers = { .count = 0 };
	struct nbd_session a, b;

	whoami_init(&a, &servers);
	whoami_init(&b, &servers);
	CHECK(memcmp(a.id, b.id, sizeof(a.id)) != 0);
	/* unless nothing is known of it */
	CHECK(strlen(a.machine) == 2 * NBD_SESSION_ID_SIZE || strcmp(a.machine, b.machine) == 0);
}
