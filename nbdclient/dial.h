/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Connections to a fixed list of addresses. Names are resolved once, before attach; afterwards
 * nothing here allocates, resolves or opens a file. What liveness means lives here too: how a
 * dead network is told from a slow server.
 */
#ifndef NBDCLIENT_DIAL_H
#define NBDCLIENT_DIAL_H

#include "uri.h"

#include <sys/socket.h>

enum {
	DIAL_ADDRESSES_MAX = 16,
	DIAL_TEXT_MAX = 120,
};

struct dial_address {
	struct sockaddr_storage addr;
	socklen_t size;
	char text[DIAL_TEXT_MAX]; /* "10.0.0.1:10809" */
};

struct dial_list {
	struct dial_address address[DIAL_ADDRESSES_MAX];
	unsigned count;
};

/*
 * Adds a URI's addresses to the list. 0, or -ENOENT with *why for a person: the name cannot be
 * resolved (now); -ENOSPC when the list is full. Allocates and reads files: before attach only.
 */
int dial_resolve(struct dial_list *list, const struct uri *u, const char **why) _must_check_;

/*
 * Starts connecting. Returns a non-blocking, close-on-exec socket on which POLLOUT means: ask
 * dial_finish(). Negative errno: it failed at once.
 */
int dial_start(const struct dial_address *address) _must_check_;

/* 0 when the connection stands, else negative errno. */
int dial_finish(int fd) _must_check_;

/*
 * Whether the connection's network is dead: nothing was heard from the peer's TCP for
 * DIAL_SILENT_MS although it was asked. A server that stalls is not silent: its kernel goes on
 * acknowledging data, keepalives and window probes. Unix sockets are never silent.
 */
bool dial_is_silent(int fd);

/*
 * Whether the peer has not answered for a second what it was sent, or asked. Means nothing by
 * itself (a segment was lost), but much when the network has just come back: TCP would wait for
 * its next repetition, and that may be far away.
 */
bool dial_is_in_trouble(int fd);

/*
 * Ends a connection without sending what is still queued: after shutdown(2) alone TCP would go
 * on repeating it, and might deliver an old write long after newer ones. Does nothing for unix
 * sockets. Linux 5.10 refuses it while the driver is in recvmsg().
 */
void dial_reset(int fd);

/* Whether the connection's own address is one of this machine's. True for unix sockets. */
bool dial_has_address(int fd);

/* How many bytes the connection has sent, and received, so far; 0 for a unix socket. */
uint64_t dial_sent(int fd);
uint64_t dial_received(int fd);

enum {
	/* A lost network is found in at most this and a second, idle or busy. */
	DIAL_SILENT_MS = 8000,
	/*
	 * The kernel's own limit, for when no nbdclient is running. It counts a closed window as
	 * silence even if the peer answers every probe (tcp_probe_timer()), so it must be longer
	 * than any stall that we want to survive.
	 */
	DIAL_USER_TIMEOUT_MS = 100 * 1000,
	DIAL_KEEPALIVE_IDLE_S = 3,
	DIAL_KEEPALIVE_INTERVAL_S = 2,
	DIAL_KEEPALIVE_COUNT = 3,
};

#endif
