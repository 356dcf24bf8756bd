/* SPDX-License-Identifier: GPL-2.0-or-later */
/* nbdclient info and list, see query.h: one conversation with a server, in ten seconds at most. */
#include "query.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "dial.h"
#include "negotiate.h"
#include "proto/names.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

enum { QUERY_TIMEOUT_S = 10 };

static int wait_for(int fd, short events, uint64_t deadline)
{
	struct pollfd pfd = { .fd = fd, .events = events };

	for (;;) {
		int n = poll(&pfd, 1, clock_poll_ms(clock_now_ns(), deadline));

		if (n > 0)
			return 0;
		if (n == 0)
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
	}
}

/* Connects to the first address that answers. A descriptor, or -1 after saying why not. */
static int connect_to(const struct uri *u, uint64_t deadline)
{
	static struct dial_list list;
	const struct dial_address *a = NULL;
	const char *why;
	int r = dial_resolve(&list, u, &why);

	if (r < 0) {
		log_error("cannot find server \"%s\": %s", u->host, why);
		return -1;
	}
	for (unsigned i = 0; i < list.count; i++) {
		_cleanup_close_ int fd = -1;

		a = &list.address[i];
		fd = dial_start(a);
		r = fd < 0 ? fd : wait_for(fd, POLLOUT, deadline);
		if (r == 0)
			r = dial_finish(fd);
		if (r == 0)
			return steal_fd(&fd);
	}
	log_error("cannot reach server %s: %s", a ? a->text : u->host, strerror(-r));
	return -1;
}

/* Goes on until the next thing of interest: NEGOTIATE_DONE or _EXPORT, else -1 after saying why. */
static int converse(struct negotiate *n, int fd, const struct uri *u, uint64_t deadline)
{
	char server[URI_HOST_MAX + 16];

	for (;;) {
		int r = negotiate_step(n, fd);

		if (r == NEGOTIATE_DONE || r == NEGOTIATE_EXPORT)
			return r;
		if (r == NEGOTIATE_MORE)
			r = wait_for(fd, negotiate_events(n), deadline);
		if (r == 0)
			continue;
		uri_server(u, server, sizeof(server));
		if (r < 0)
			log_error("server %s broke the handshake: %s", server, strerror(-r));
		else
			log_error("server %s: %s", server, n->why);
		return -1;
	}
}

/* A peer's words may hold anything: they must not draw on a terminal. Returns text. */
static const char *printable(char *text)
{
	for (char *p = text; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	return text;
}

static void print_info(const struct options *o, struct negotiate *n)
{
	const struct nbd_export_info *info = &n->hsc.info;
	char flags[200];

	nbd_flags_text(info->flags, flags, sizeof(flags));
	if (!o->json) {
		printf("export       %s\n", o->uri.export_name);
		if (n->hsc.text2[0])
			printf("description  %s\n", printable(n->hsc.text2));
		printf("size         %" PRIu64 " bytes (%" PRIu64 " MiB)\n", info->size,
		       info->size >> 20);
		printf("flags        %s\n", flags);
		printf("block size   minimum %u, preferred %u, maximum %u%s\n", info->block_min,
		       info->block_preferred, info->block_max,
		       n->hsc.has_block_size ? "" : " (the protocol's defaults)");
		return;
	}
	printf("{\"export\": ");
	json_put_string(stdout, o->uri.export_name);
	printf(", \"description\": ");
	json_put_string(stdout, n->hsc.text2);
	printf(", \"size\": %" PRIu64 ", \"flags\": %u, \"flag_names\": ", info->size, info->flags);
	json_put_string(stdout, flags);
	printf(", \"read_only\": %s, \"block_minimum\": %u, \"block_preferred\": %u, "
	       "\"block_maximum\": %u}\n",
	       info->flags & NBD_FLAG_READ_ONLY ? "true" : "false", info->block_min,
	       info->block_preferred, info->block_max);
}

static int finish_output(void)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return 0;
	log_error("cannot write the answer: %m");
	return 1;
}

int query_info(const struct options *o)
{
	static struct negotiate n;
	uint64_t deadline = clock_now_ns() + QUERY_TIMEOUT_S * CLOCK_NS_PER_S;
	_cleanup_close_ int fd = connect_to(&o->uri, deadline);

	if (fd < 0)
		return 1;
	negotiate_start(&n, NBD_HSC_GOAL_INFO, o->uri.export_name, NULL);
	if (converse(&n, fd, &o->uri, deadline) < 0)
		return 1;
	print_info(o, &n);
	return finish_output();
}

int query_list(const struct options *o)
{
	static struct negotiate n;
	uint64_t deadline = clock_now_ns() + QUERY_TIMEOUT_S * CLOCK_NS_PER_S;
	_cleanup_close_ int fd = connect_to(&o->uri, deadline);
	bool is_first = true;
	int r;

	if (fd < 0)
		return 1;
	negotiate_start(&n, NBD_HSC_GOAL_LIST, "", NULL);
	if (o->json)
		printf("[");
	while ((r = converse(&n, fd, &o->uri, deadline)) == NEGOTIATE_EXPORT) {
		if (o->json) {
			printf("%s{\"export\": ", is_first ? "" : ", ");
			json_put_string(stdout, n.hsc.text);
			printf(", \"description\": ");
			json_put_string(stdout, n.hsc.text2);
			printf("}");
		} else {
			printf("%s\n",
			       n.hsc.text[0] ? printable(n.hsc.text) : "(the default export)");
		}
		is_first = false;
	}
	if (r < 0)
		return 1;
	if (o->json)
		printf("]\n");
	return finish_output();
}
