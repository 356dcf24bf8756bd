/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket: a unix stream socket, mode 0600, on which root and the server's own user
 * ask and order with one JSON object a line, and are answered with one a line (docs/control.md).
 * It is served by the main thread's poll loop and never blocks: see service.h for its bounds.
 *
 * What is done with an order is the caller's (struct control_ops); this file knows the words.
 */
#ifndef NBDSERVE_CONTROL_H
#define NBDSERVE_CONTROL_H

#include "report.h"
#include "service.h"

enum {
	CONTROL_REQUEST_MAX = 32 * 1024, /* a name of 4096 bytes, all of it escaped */
	CONTROL_TIMEOUT_S = 10,
	CONTROL_FDS_MAX = SERVICE_FDS_MAX,
	CONTROL_ERROR_MAX = 512,
};

/*
 * Called on the thread that calls control_handle(); they should not wait for anything. Those
 * that return int return 0, or -1 with one line of words in err (of CONTROL_ERROR_MAX bytes).
 */
struct control_ops {
	/* Fills a zeroed report; -1 for want of memory. Freed by the caller in both cases. */
	int (*report)(void *ctx, struct report *out);
	/* Cuts one connection. */
	int (*disconnect)(void *ctx, uint64_t id, char *err);
	/* Cuts all connections to an export; *count: how many there were. */
	int (*disconnect_export)(void *ctx, const char *name, size_t *count, char *err);
	/* Takes the export from its holder, cuts the holder's connections, clears a latch. */
	int (*release)(void *ctx, const char *name, char *err);
	/* Reads the configuration again. */
	int (*reload)(void *ctx, char *err);
	/*
	 * Gives the listening sockets for a successor: at most CONTROL_FDS_MAX, which stay the
	 * caller's and open until control_handle() returns CONTROL_HANDED_OVER, or for good when
	 * the successor is gone before it got them.
	 */
	int (*handover)(void *ctx, int fds[static CONTROL_FDS_MAX], size_t *count, char *err);
};

struct control;

/*
 * Makes and listens on the socket. A file there that nobody listens on any more is replaced;
 * when a server answers there it is an error, unless is_takeover. The folder is made when its
 * parent exists. Returns NULL with one line of words in err (of CONTROL_ERROR_MAX bytes). The
 * ops, and ctx, must outlive it.
 */
struct control *control_open(const char *path, bool is_takeover, const struct control_ops *ops,
			     void *ctx, char *err) _must_check_;

/* Closes all, and removes the socket's file unless a successor has put its own there. */
void control_close(struct control *c);

/* What to poll: fills at most SERVICE_POLL_MAX elements, and returns how many. */
size_t control_poll(const struct control *c, struct pollfd *pfd);

/* When to call control_handle() at the latest; CLOCK_NEVER for not at all. */
uint64_t control_deadline(const struct control *c);

/* Whether the process at the other end is root's or our own user's. */
bool control_is_trusted(int fd);

enum { CONTROL_HANDED_OVER = 1 };

/*
 * After each poll(), with the elements that control_poll() filled; when none is ready, it only
 * looks at deadlines. Returns 0, or CONTROL_HANDED_OVER once: a successor has the listening
 * sockets, so the server shall accept no more, finish and leave. The connection to the successor
 * stays open until control_close(), so that it sees our end.
 */
int control_handle(struct control *c, const struct pollfd *pfd, uint64_t now_ns) _must_check_;

/*
 * The successor's side (takeover.c), which blocks: asks the server behind path for its listening
 * sockets and waits for them up to CONTROL_TIMEOUT_S. *link becomes readable (end of file) when
 * the old server is gone, and with it its locks on the images. The descriptors are close-on-exec
 * and non-blocking as they were. Returns 0, CONTROL_E_NOBODY when no server listens there, or -1;
 * in both cases with words in err.
 */
enum { CONTROL_E_NOBODY = 1 };
int control_take_over(const char *path, int fds[static CONTROL_FDS_MAX], size_t *count, int *link,
		      char *err) _must_check_;

#endif
