/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See rtnl.h. */
#include "rtnl.h"

#include "base/fd.h"

#include <arpa/inet.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>

static int open_socket(unsigned int groups, int flags)
{
	const struct sockaddr_nl addr = { .nl_family = AF_NETLINK, .nl_groups = groups };
	_cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | flags, NETLINK_ROUTE);

	if (fd < 0 || bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	return steal_fd(&fd);
}

int rtnl_listen_to_links(void)
{
	return open_socket(RTMGRP_LINK, SOCK_NONBLOCK);
}

bool rtnl_drain(int fd)
{
	char bytes[8192];
	bool was_any = false;

	/* ENOBUFS, too, means that there was something. */
	while (recv(fd, bytes, sizeof(bytes), 0) > 0 || errno == ENOBUFS || errno == EINTR) {
		was_any = true;
		errno = 0;
	}
	return was_any;
}

struct request {
	struct nlmsghdr head;
	char body[320]; /* the fixed part of the type, and attributes */
} __attribute__((aligned(NLMSG_ALIGNTO)));

/* fixed: struct ifinfomsg, rtmsg, ... */
static struct request begin(unsigned short type, const void *fixed, size_t size)
{
	struct request r = {
		.head = { .nlmsg_len = (uint32_t)NLMSG_LENGTH(size),
			  .nlmsg_type = type,
			  .nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK },
	};

	memcpy(NLMSG_DATA(&r.head), fixed, size);
	return r;
}

static struct rtattr *add_attribute(struct request *r, unsigned short type, const void *data,
				    size_t size)
{
	struct rtattr *a = (struct rtattr *)((char *)r + NLMSG_ALIGN(r->head.nlmsg_len));

	a->rta_type = type;
	a->rta_len = (unsigned short)RTA_LENGTH(size);
	if (size > 0)
		memcpy(RTA_DATA(a), data, size);
	r->head.nlmsg_len = NLMSG_ALIGN(r->head.nlmsg_len) + RTA_ALIGN(a->rta_len);
	return a;
}

static void end_nest(struct request *r, struct rtattr *a)
{
	a->rta_len = (unsigned short)((char *)r + r->head.nlmsg_len - (char *)a);
}

/* Sends it and waits for the kernel's answer, which comes at once. */
static int talk(struct request *r)
{
	_cleanup_close_ int fd = open_socket(0, 0);
	union {
		struct nlmsghdr head;
		char bytes[1024];
	} answer;
	const struct nlmsgerr *e = NLMSG_DATA(&answer.head);
	ssize_t n;

	if (fd < 0)
		return fd;
	if (send(fd, r, r->head.nlmsg_len, 0) < 0)
		return -errno;
	n = recv(fd, &answer, sizeof(answer), 0);
	if (n < 0)
		return -errno;
	if (!NLMSG_OK(&answer.head, (size_t)n) || answer.head.nlmsg_type != NLMSG_ERROR ||
	    answer.head.nlmsg_len < NLMSG_LENGTH(sizeof(*e)))
		return -EBADMSG;
	return e->error;
}

int rtnl_add_vlan(const char *name, const char *card, unsigned int id)
{
	const struct ifinfomsg fixed = { 0 };
	struct request r = begin(RTM_NEWLINK, &fixed, sizeof(fixed));
	uint32_t lower = if_nametoindex(card);
	uint16_t number = (uint16_t)id;
	struct rtattr *info, *data;

	if (lower == 0)
		return -ENODEV;
	add_attribute(&r, IFLA_LINK, &lower, sizeof(lower));
	add_attribute(&r, IFLA_IFNAME, name, strlen(name) + 1);
	info = add_attribute(&r, IFLA_LINKINFO, NULL, 0);
	add_attribute(&r, IFLA_INFO_KIND, "vlan", 4);
	data = add_attribute(&r, IFLA_INFO_DATA, NULL, 0);
	add_attribute(&r, IFLA_VLAN_ID, &number, sizeof(number));
	end_nest(&r, data);
	end_nest(&r, info);
	return talk(&r);
}

int rtnl_add_route(const char *card, uint32_t to, unsigned int prefix, uint32_t gateway)
{
	const struct rtmsg fixed = {
		.rtm_family = AF_INET,
		.rtm_dst_len = (unsigned char)prefix,
		.rtm_table = RT_TABLE_MAIN,
		.rtm_protocol = RTPROT_BOOT,
		.rtm_scope = gateway != 0 ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK,
		.rtm_type = RTN_UNICAST,
	};
	struct request r = begin(RTM_NEWROUTE, &fixed, sizeof(fixed));
	uint32_t index = if_nametoindex(card);

	to = htonl(to);
	gateway = htonl(gateway);
	add_attribute(&r, RTA_DST, &to, sizeof(to));
	add_attribute(&r, RTA_OIF, &index, sizeof(index));
	if (gateway != 0)
		add_attribute(&r, RTA_GATEWAY, &gateway, sizeof(gateway));
	return talk(&r);
}
