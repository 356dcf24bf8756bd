/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See network.h. */
#include "network.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>

enum { READ_MAX = 8192 };

int network_open(void)
{
	const struct sockaddr_nl addr = {
		.nl_family = AF_NETLINK,
		.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR |
			     RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE,
	};
	_cleanup_close_ int fd =
		socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);

	if (fd < 0)
		return -errno;
	if (bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	return steal_fd(&fd);
}

static unsigned meaning(const struct nlmsghdr *h)
{
	const struct ifinfomsg *link = NLMSG_DATA(h);

	switch (h->nlmsg_type) {
	case RTM_NEWLINK:
		if (h->nlmsg_len < NLMSG_LENGTH(sizeof(*link)))
			return 0;
		/* IFF_RUNNING: it has a carrier. Statistics and names are told of, too. */
		return link->ifi_flags & IFF_UP && link->ifi_flags & IFF_RUNNING ? NETWORK_CAME : 0;
	case RTM_NEWADDR:
	case RTM_NEWROUTE: return NETWORK_CAME;
	case RTM_DELADDR: return NETWORK_WENT;
	default: return 0;
	}
}

unsigned network_read(int fd)
{
	char bytes[READ_MAX] __attribute__((aligned(NLMSG_ALIGNTO)));
	unsigned all = 0;
	ssize_t n;

	for (;;) {
		const struct nlmsghdr *h = (const struct nlmsghdr *)bytes;

		n = recv(fd, bytes, sizeof(bytes), 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) /* with messages lost, anything may have happened */
			return errno == ENOBUFS ? NETWORK_CAME | NETWORK_WENT : all;
		for (size_t left = (size_t)n; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left))
			all |= meaning(h);
	}
}
