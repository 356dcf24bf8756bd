/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which card is meant, by name or by address. */
#include "init/net-card.h"

#include "tests/unit/tap.h"

static const uint8_t own[6] = { 0x52, 0x54, 0, 0, 0, 1 }, given[6] = { 2, 0, 0, 0, 0, 9 },
		     other[6] = { 0x52, 0x54, 0, 0, 0, 2 };

TEST(a_card_is_meant_by_its_name_or_its_address_or_by_neither)
{
	const struct net_card card = { .name = "eth0", .mac = { 0x52, 0x54, 0, 0, 0, 1 } };

	CHECK(net_card_is(&card, NULL, NULL, NULL));
	CHECK(net_card_is(&card, "eth0", NULL, NULL));
	CHECK(net_card_is(&card, NULL, own, NULL));
	CHECK(!net_card_is(&card, "eth1", NULL, NULL));
	CHECK(!net_card_is(&card, "eth", NULL, NULL));
	CHECK(!net_card_is(&card, NULL, other, NULL));
	CHECK(!net_card_is(&card, "eth1", own, NULL));
}

/* BOOTIF= with a hardware address in ip=: at the second try the card has that one. */
TEST(a_card_is_still_meant_when_it_has_got_the_address_of_ip)
{
	const struct net_card card = { .name = "eth0", .mac = { 2, 0, 0, 0, 0, 9 } };

	CHECK(net_card_is(&card, NULL, own, given));
	CHECK(!net_card_is(&card, NULL, own, other));
	CHECK(!net_card_is(&card, "eth1", own, given));
}
