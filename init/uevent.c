/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See uevent.h. */
#include "uevent.h"

#include "base/fd.h"

#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>

enum { GROUP_KERNEL = 1, QUEUE_BYTES = 1 << 20 /* a coldplug makes hundreds at once */ };

int uevent_listen(void)
{
	const struct sockaddr_nl addr = { .nl_family = AF_NETLINK, .nl_groups = GROUP_KERNEL };
	int bytes = QUEUE_BYTES;
	_cleanup_close_ int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
					NETLINK_KOBJECT_UEVENT);

	if (fd < 0 || bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
	return steal_fd(&fd);
}

static const char *value_of(const char *text, const char *name)
{
	size_t size = strlen(name);

	return strncmp(text, name, size) == 0 && text[size] == '=' ? text + size + 1 : NULL;
}

bool uevent_parse(char *data, size_t size, struct uevent *e)
{
	const struct {
		const char *name;
		const char **out;
	} wanted[] = {
		{ "ACTION", &e->action },     { "DEVPATH", &e->devpath },
		{ "MODALIAS", &e->modalias }, { "SUBSYSTEM", &e->subsystem },
		{ "FIRMWARE", &e->firmware },
	};

	*e = (struct uevent){ 0 };
	if (size == 0 || data[size - 1] != '\0' || strchr(data, '@') == NULL)
		return false;
	for (const char *p = data + strlen(data) + 1; p < data + size; p += strlen(p) + 1) {
		for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
			const char *value = value_of(p, wanted[i].name);

			if (value != NULL)
				*wanted[i].out = value;
		}
	}
	return e->action != NULL && e->devpath != NULL;
}

bool uevent_read(int fd, char *data, size_t size, struct uevent *e)
{
	for (;;) {
		struct sockaddr_nl from = { 0 };
		socklen_t from_size = sizeof(from);
		ssize_t n = recvfrom(fd, data, size, 0, (struct sockaddr *)&from, &from_size);

		*e = (struct uevent){ 0 };
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == ENOBUFS;
		if (from.nl_pid == 0 && uevent_parse(data, (size_t)n, e))
			return true;
	}
}
