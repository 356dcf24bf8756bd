/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Listening sockets and what every accepted one gets: a dead client is noticed within 15 s. The
 * only file that knows socket options.
 */
#ifndef NBDSERVE_LISTEN_H
#define NBDSERVE_LISTEN_H

#include "config.h"

enum { LISTEN_MAX = 64 };

struct listeners {
	int fd[LISTEN_MAX];
	char *unix_path[LISTEN_MAX]; /* absolute, NULL for TCP */
	size_t count;
};

/*
 * Listens where the configuration says; nowhere named means all addresses, NBD_DEFAULT_PORT.
 * Logs each address, and its errors. 0 or -1.
 */
int listen_open(struct listeners *l, const struct config *config) _must_check_;

/*
 * Takes a socket that somebody else has opened, a service manager or the server before us. -1
 * when it is not one that listens for streams; then it is closed, and that is logged.
 */
int listen_adopt(struct listeners *l, int fd) _must_check_;

/* A new connection, or negative errno; -EAGAIN: there is none after all. */
int listen_accept(int fd) _must_check_;

/* Closes them; removes the files of unix sockets unless somebody else listens there from now. */
void listen_close(struct listeners *l, bool is_handed_over);

#endif
