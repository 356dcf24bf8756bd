/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Connections for the load generator: many sockets to one address, each through a full
 * fixed-newstyle negotiation that ends with NBD_OPT_GO, some number of them at the same time.
 * It negotiates neither structured replies nor extended headers: the kernel's client has neither,
 * and all servers are asked for the same.
 */
#ifndef BENCH_DIAL_H
#define BENCH_DIAL_H

#include "base/cleanup.h"
#include "proto/nbd.h"

#include <stdbool.h>
#include <sys/socket.h>

struct dial_target {
	struct sockaddr_storage address;
	socklen_t address_size;
	const char *name; /* of the export */
	bool is_numbered; /* connection i uses the export "<name><i>" */
	/*
	 * TCP to 127.0.0.1 only: connection i comes from 127.1.0.0 + i % sources, as a fleet's
	 * would from many addresses. 0: from where the kernel chooses.
	 */
	unsigned sources;
	unsigned timeout_s; /* for all of them together */
};

/* "HOST:PORT", or the path of a unix socket (anything with a slash). 0, or -1 and a log line. */
int dial_parse(struct dial_target *t, const char *text) _must_check_;

/* A connected socket without any negotiation, waiting for it; negative errno. */
int dial_socket(const struct dial_target *t, unsigned index) _must_check_;

/*
 * Makes count connections, at most at_once of them in negotiation at a time, and stores their
 * sockets, which block, in fds, and what the server says of the last export in info. Returns how
 * many came through before the time was up, fds of others are -1; or -1 after a log line when a
 * server refused or spoke nonsense.
 */
int dial_many(const struct dial_target *t, unsigned count, unsigned at_once, int *fds,
	      struct nbd_export_info *info) _must_check_;

/* Says goodbye (NBD_CMD_DISC) where the server listens, and closes. */
void dial_hang_up(int fd);

#endif
