/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What comes to the DHCP client's port when somebody floods it. */
#include "init/net-dhcp.h"

#include "tests/unit/tap.h"

#include <sys/socket.h>
#include <unistd.h>

TEST(a_flood_takes_no_more_than_its_share_of_a_turn)
{
	enum { FLOOD = NET_DHCP_TURN + 10 };
	struct net_dhcp d = { .state = NET_DHCP_SELECTING };
	unsigned int left = NET_DHCP_TURN;
	struct dhcp_reply reply;
	int ends[2];

	CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends), 0);
	d.fd = ends[0];
	for (int i = 0; i < FLOOD; i++)
		CHECK_EQ(send(ends[1], "x", 1, 0), 1);
	CHECK(!net_dhcp_receive(&d, "eth0", &left, &reply));
	CHECK_EQ(left, 0);
	/* what is left of it is the next turn's */
	left = NET_DHCP_TURN;
	CHECK(!net_dhcp_receive(&d, "eth0", &left, &reply));
	CHECK_EQ(left, NET_DHCP_TURN - 10);
	close(ends[0]);
	close(ends[1]);
}
