/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See kernel.h. */
#include "kernel.h"

#include "base/fd.h"
#include "base/parse.h"

#include <fcntl.h>
#include <linux/genetlink.h>
#include <linux/nbd-netlink.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* The driver multiplies seconds by HZ in a long; on 32-bit machines a day's worth must do. */
#define DEAD_CONN_TIMEOUT_S (sizeof(long) == 8 ? UINT64_C(0x7fffffff) : UINT64_C(8000000))

enum {
	MESSAGE_MAX = 2048,
	ANSWER_MAX = 8192,
	/* Room for many LINK_DEADs before the kernel has to drop one. */
	EVENTS_RCVBUF = 64 * 1024,
};

struct message {
	union {
		struct nlmsghdr head;
		uint8_t bytes[MESSAGE_MAX];
	};
};

static void message_start(struct message *m, uint16_t type, uint8_t command, uint32_t sequence)
{
	struct genlmsghdr *genl;

	memset(m, 0, sizeof(*m));
	m->head.nlmsg_type = type;
	m->head.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	m->head.nlmsg_seq = sequence;
	m->head.nlmsg_len = NLMSG_LENGTH(GENL_HDRLEN);
	genl = NLMSG_DATA(&m->head);
	genl->cmd = command;
	genl->version = 1;
}

/* Our own sizes are bounded (the backend by KERNEL_BACKEND_MAX): overflow is our mistake. */
static struct nlattr *put_attr(struct message *m, uint16_t type, const void *data, size_t size)
{
	size_t at = NLMSG_ALIGN(m->head.nlmsg_len);
	struct nlattr *a = (struct nlattr *)(m->bytes + at);

	if (at + NLA_HDRLEN + size > sizeof(m->bytes))
		abort();
	a->nla_type = type;
	a->nla_len = (uint16_t)(NLA_HDRLEN + size);
	if (size > 0)
		memcpy((uint8_t *)a + NLA_HDRLEN, data, size);
	m->head.nlmsg_len = (uint32_t)(at + NLA_HDRLEN + NLA_ALIGN(size));
	return a;
}

static void put_u32(struct message *m, uint16_t type, uint32_t v)
{
	put_attr(m, type, &v, sizeof(v));
}

static void put_u64(struct message *m, uint16_t type, uint64_t v)
{
	put_attr(m, type, &v, sizeof(v));
}

static void put_socket(struct message *m, int fd)
{
	struct nlattr *list = put_attr(m, NBD_ATTR_SOCKETS | NLA_F_NESTED, NULL, 0);
	struct nlattr *item = put_attr(m, NBD_SOCK_ITEM | NLA_F_NESTED, NULL, 0);
	const uint8_t *end;

	put_u32(m, NBD_SOCK_FD, (uint32_t)fd);
	end = m->bytes + m->head.nlmsg_len;
	list->nla_len = (uint16_t)(end - (uint8_t *)list);
	item->nla_len = (uint16_t)(end - (uint8_t *)item);
}

/* The attribute of that type in an attribute list, and its payload's size; NULL without. */
static const void *find_attr(const void *list, size_t size, uint16_t type, size_t *attr_size)
{
	const uint8_t *p = list;

	while (size >= NLA_HDRLEN) {
		const struct nlattr *a = (const struct nlattr *)p;
		size_t step;

		if (a->nla_len < NLA_HDRLEN || a->nla_len > size)
			return NULL;
		if ((a->nla_type & NLA_TYPE_MASK) == type) {
			*attr_size = a->nla_len - NLA_HDRLEN;
			return p + NLA_HDRLEN;
		}
		step = NLA_ALIGN(a->nla_len);
		if (step > size)
			return NULL;
		p += step;
		size -= step;
	}
	return NULL;
}

static bool find_u32(const void *list, size_t size, uint16_t type, uint32_t *out)
{
	size_t n;
	const void *p = find_attr(list, size, type, &n);

	if (!p || n != sizeof(*out))
		return false;
	memcpy(out, p, sizeof(*out));
	return true;
}

/* A message's generic netlink attributes; NULL when it is too short to have any. */
static const void *genl_attrs(const struct nlmsghdr *h, size_t *size, uint8_t *command)
{
	const struct genlmsghdr *genl = NLMSG_DATA(h);

	if (h->nlmsg_len < NLMSG_LENGTH(GENL_HDRLEN))
		return NULL;
	*command = genl->cmd;
	*size = h->nlmsg_len - NLMSG_LENGTH(GENL_HDRLEN);
	return (const uint8_t *)genl + GENL_HDRLEN;
}

/*
 * Sends a command and waits for its acknowledgement. A data message that comes before it is
 * copied to reply, if there is one. The command runs inside send(): 0 or what it returned.
 */
static int transact(struct kernel *k, struct message *m, struct message *reply)
{
	uint8_t answer[ANSWER_MAX] __attribute__((aligned(NLMSG_ALIGNTO)));

	if (send(k->fd, m->bytes, m->head.nlmsg_len, 0) < 0)
		return -errno;
	for (;;) {
		ssize_t n = recv(k->fd, answer, sizeof(answer), 0);
		struct nlmsghdr *h = (struct nlmsghdr *)answer;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		for (size_t left = (size_t)n; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
			if (h->nlmsg_seq != m->head.nlmsg_seq)
				continue; /* the answer to a command that was given up */
			if (h->nlmsg_type == NLMSG_ERROR) {
				const struct nlmsgerr *e = NLMSG_DATA(h);

				if (h->nlmsg_len < NLMSG_LENGTH(sizeof(*e)))
					return -EPROTO;
				return e->error;
			}
			if (reply && h->nlmsg_len <= sizeof(*reply))
				memcpy(reply, h, h->nlmsg_len);
		}
	}
}

static int open_netlink(void)
{
	const struct sockaddr_nl addr = { .nl_family = AF_NETLINK };
	_cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);

	if (fd < 0)
		return -errno;
	if (bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	return steal_fd(&fd);
}

/* The id of the driver's multicast group, in the answer to CTRL_CMD_GETFAMILY; 0 without. */
static uint32_t find_group(const void *attrs, size_t size)
{
	size_t groups_size;
	const uint8_t *p = find_attr(attrs, size, CTRL_ATTR_MCAST_GROUPS, &groups_size);

	while (p && groups_size >= NLA_HDRLEN) {
		const struct nlattr *a = (const struct nlattr *)p;
		size_t name_size, step;
		const char *name;
		uint32_t id;

		if (a->nla_len < NLA_HDRLEN || a->nla_len > groups_size)
			return 0;
		name = find_attr(p + NLA_HDRLEN, a->nla_len - NLA_HDRLEN, CTRL_ATTR_MCAST_GRP_NAME,
				 &name_size);
		if (name && name_size == sizeof(NBD_GENL_MCAST_GROUP_NAME) &&
		    memcmp(name, NBD_GENL_MCAST_GROUP_NAME, name_size) == 0 &&
		    find_u32(p + NLA_HDRLEN, a->nla_len - NLA_HDRLEN, CTRL_ATTR_MCAST_GRP_ID, &id))
			return id;
		step = NLA_ALIGN(a->nla_len);
		if (step >= groups_size)
			return 0;
		p += step;
		groups_size -= step;
	}
	return 0;
}

int kernel_open(struct kernel *k)
{
	_cleanup_close_ int fd = open_netlink(), events_fd = open_netlink();
	const int rcvbuf = EVENTS_RCVBUF;
	struct message m, reply = { 0 };
	const void *attrs, *id;
	uint8_t command;
	uint32_t group;
	size_t size = 0, n = 0;
	int r;

	if (fd < 0 || events_fd < 0)
		return fd < 0 ? fd : events_fd;
	k->fd = fd;
	k->sequence = 1;

	message_start(&m, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, k->sequence++);
	put_attr(&m, CTRL_ATTR_FAMILY_NAME, NBD_GENL_FAMILY_NAME, sizeof(NBD_GENL_FAMILY_NAME));
	r = transact(k, &m, &reply);
	if (r == -ENOENT)
		return KERNEL_E_NO_DRIVER;
	if (r < 0)
		return r;
	attrs = genl_attrs(&reply.head, &size, &command);
	id = attrs ? find_attr(attrs, size, CTRL_ATTR_FAMILY_ID, &n) : NULL;
	group = attrs ? find_group(attrs, size) : 0;
	if (!id || n != sizeof(k->family) || group == 0)
		return -EPROTO;
	memcpy(&k->family, id, sizeof(k->family));

	/* Before any device is connected: a link that dies at once must be heard of. */
	if (setsockopt(events_fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0)
		return -errno;
	(void)setsockopt(events_fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof(rcvbuf));
	k->fd = steal_fd(&fd);
	k->events_fd = steal_fd(&events_fd);
	return 0;
}

void kernel_close(struct kernel *k)
{
	close(k->fd);
	close(k->events_fd);
}

int kernel_connect(struct kernel *k, int fd, const struct kernel_device *dev, int *index)
{
	struct message m, reply = { 0 };
	const void *attrs;
	uint8_t command;
	uint32_t got;
	size_t size;
	int r;

	message_start(&m, k->family, NBD_CMD_CONNECT, k->sequence++);
	if (*index != KERNEL_INDEX_ANY)
		put_u32(&m, NBD_ATTR_INDEX, (uint32_t)*index);
	put_u64(&m, NBD_ATTR_SIZE_BYTES, dev->size_bytes);
	put_u64(&m, NBD_ATTR_BLOCK_SIZE_BYTES, dev->block_size_bytes);
	put_u64(&m, NBD_ATTR_SERVER_FLAGS, dev->flags);
	put_u64(&m, NBD_ATTR_DEAD_CONN_TIMEOUT, DEAD_CONN_TIMEOUT_S);
	put_attr(&m, NBD_ATTR_BACKEND_IDENTIFIER, dev->backend, strlen(dev->backend) + 1);
	put_socket(&m, fd);
	r = transact(k, &m, &reply);
	if (r == -EBUSY)
		return KERNEL_E_BUSY;
	if (r < 0)
		return r;
	attrs = genl_attrs(&reply.head, &size, &command);
	if (!attrs || !find_u32(attrs, size, NBD_ATTR_INDEX, &got))
		return -EPROTO;
	*index = (int)got;
	return 0;
}

int kernel_reconfigure(struct kernel *k, int index, int fd, const char *backend)
{
	struct message m;

	/*
	 * The socket alone. With a size in the same message, 6.12 freezes the queue first and
	 * waits for the very requests that need the socket. The dead-connection timeout keeps its
	 * value when it is not mentioned.
	 */
	message_start(&m, k->family, NBD_CMD_RECONFIGURE, k->sequence++);
	put_u32(&m, NBD_ATTR_INDEX, (uint32_t)index);
	put_attr(&m, NBD_ATTR_BACKEND_IDENTIFIER, backend, strlen(backend) + 1);
	put_socket(&m, fd);
	return transact(k, &m, NULL);
}

static int set_timeout(struct kernel *k, int index, const char *backend, uint64_t seconds)
{
	struct message m;

	message_start(&m, k->family, NBD_CMD_RECONFIGURE, k->sequence++);
	put_u32(&m, NBD_ATTR_INDEX, (uint32_t)index);
	put_attr(&m, NBD_ATTR_BACKEND_IDENTIFIER, backend, strlen(backend) + 1);
	put_u64(&m, NBD_ATTR_TIMEOUT, seconds);
	return transact(k, &m, NULL);
}

int kernel_be_patient(struct kernel *k, int index, const char *backend,
		      const struct kernel_files *f, bool *is_short)
{
	/* Times HZ, which is even, in 32 bits: 0 for the driver's timeout and for the queue's. */
	const uint64_t seconds = UINT64_C(1) << 31;
	char text[16];
	ssize_t n;
	int r = set_timeout(k, index, backend, seconds);

	*is_short = false;
	if (r < 0)
		return r;
	n = pread(f->io_timeout_fd, text, sizeof(text), 0);
	if (n == 2 && text[0] == '0') {
		*is_short = true;
		return 0;
	}
	return set_timeout(k, index, backend, 0);
}

int kernel_be_impatient(struct kernel *k, int index, const char *backend)
{
	return set_timeout(k, index, backend, 1);
}

int kernel_disconnect(struct kernel *k, int index)
{
	struct message m;

	message_start(&m, k->family, NBD_CMD_DISCONNECT, k->sequence++);
	put_u32(&m, NBD_ATTR_INDEX, (uint32_t)index);
	return transact(k, &m, NULL);
}

int kernel_next_dead(struct kernel *k, int *index)
{
	uint8_t bytes[ANSWER_MAX] __attribute__((aligned(NLMSG_ALIGNTO)));
	const struct nlmsghdr *h = (const struct nlmsghdr *)bytes;
	const void *attrs;
	uint8_t command;
	uint32_t got;
	size_t size;
	ssize_t n;

	for (;;) { /* the kernel sends one message per datagram */
		n = recv(k->events_fd, bytes, sizeof(bytes), MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		if (!NLMSG_OK(h, (size_t)n) || h->nlmsg_type != k->family)
			continue;
		attrs = genl_attrs(h, &size, &command);
		if (attrs && command == NBD_CMD_LINK_DEAD &&
		    find_u32(attrs, size, NBD_ATTR_INDEX, &got)) {
			*index = (int)got;
			return 1;
		}
	}
}

static int open_file(int index, const char *name, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/block/nbd%d/%s", index, name);
	return open(path, flags | O_CLOEXEC);
}

void kernel_open_files(int index, struct kernel_files *f)
{
	f->io_timeout_fd = open_file(index, "queue/io_timeout", O_RDONLY);
	f->stat_fd = open_file(index, "stat", O_RDONLY);
}

/* Documentation/admin-guide/iostats.rst; flushes are counted since Linux 5.5. */
enum { READS = 0, WRITES = 4, IN_FLIGHT = 8, DISCARDS = 11, FLUSHES = 15, FIELDS = 16 };

static bool read_stat(const struct kernel_files *f, uint64_t field[static FIELDS])
{
	char text[512], *p = text, *end;
	ssize_t n = pread(f->stat_fd, text, sizeof(text) - 1, 0);

	memset(field, 0, FIELDS * sizeof(field[0]));
	if (n <= 0)
		return false;
	text[n] = '\0';
	for (size_t i = 0; i < FIELDS; i++, p = end) {
		field[i] = strtoull(p, &end, 10);
		if (end == p)
			break;
	}
	return true;
}

bool kernel_read_progress(struct kernel_files *f, uint64_t *completed, bool *has_more)
{
	uint64_t field[FIELDS];

	if (!read_stat(f, field))
		return false;
	*completed = field[READS] + field[WRITES] + field[DISCARDS] + field[FLUSHES];
	*has_more = field[IN_FLIGHT] > 0;
	return true;
}

uint64_t kernel_in_flight(const struct kernel_files *f)
{
	uint64_t field[FIELDS];

	return read_stat(f, field) ? field[IN_FLIGHT] : 0;
}

int kernel_limit_request(int index, uint32_t max_bytes)
{
	char path[64], text[16];
	uint64_t now_kb;
	int r;

	snprintf(path, sizeof(path), "/sys/block/nbd%d/queue/max_sectors_kb", index);
	r = fd_read_file(path, text, sizeof(text));
	if (r < 0)
		return r;
	r = parse_u64(text, UINT32_MAX, &now_kb);
	if (r < 0)
		return r;
	if (now_kb <= max_bytes / 1024)
		return 0;
	snprintf(text, sizeof(text), "%u", max_bytes / 1024);
	return fd_write_file(path, text);
}

bool kernel_is_attached(int index)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/block/nbd%d/pid", index);
	return access(path, F_OK) == 0;
}

int kernel_read_backend(int index, char out[static KERNEL_BACKEND_MAX])
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/block/nbd%d/backend", index);
	return fd_read_file(path, out, KERNEL_BACKEND_MAX);
}

uint64_t kernel_read_size(int index)
{
	char path[64], text[32];
	uint64_t sectors;

	snprintf(path, sizeof(path), "/sys/block/nbd%d/size", index);
	if (fd_read_file(path, text, sizeof(text)) < 0 ||
	    parse_u64(text, UINT64_MAX / 512, &sectors) < 0)
		return 0;
	return sectors * 512;
}

int kernel_parse_device(const char *device)
{
	uint64_t index;

	if (strncmp(device, "/dev/", 5) == 0)
		device += 5;
	if (strncmp(device, "nbd", 3) != 0 || parse_u64(device + 3, 1 << 20, &index) < 0)
		return -EINVAL;
	return (int)index;
}
