/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's nbd driver: its generic netlink commands (drivers/block/nbd.c) and its files in
 * /sys. The only file that speaks nbd netlink; the ioctl interface is never used, because a
 * process inside NBD_DO_IT takes the device with it when it is stopped or killed.
 */
#ifndef NBDCLIENT_KERNEL_H
#define NBDCLIENT_KERNEL_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	KERNEL_E_NO_DRIVER = 1, /* the nbd module is not loaded */
	KERNEL_E_BUSY = 2,      /* the device is attached, or somebody has it open just now */

	KERNEL_INDEX_ANY = -1,
	KERNEL_BACKEND_MAX = 1200,
};

struct kernel {
	int fd;        /* commands and their answers */
	int events_fd; /* LINK_DEAD messages; poll it for reading */
	uint16_t family;
	uint32_t sequence;
};

/* The files that are of use while the root may be away: opened once. */
struct kernel_files {
	int io_timeout_fd, stat_fd; /* -1: not there */
};

/* 0, KERNEL_E_NO_DRIVER or negative errno. */
int kernel_open(struct kernel *k) _must_check_;
void kernel_close(struct kernel *k);

struct kernel_device {
	uint64_t size_bytes;
	uint64_t block_size_bytes; /* logical; a power of two from 512 to the page size */
	uint64_t flags;            /* NBD_FLAG_*, transmission flags; can never change again */
	const char *backend;       /* repeated at every reconfiguration, shown in /sys */
};

/*
 * Configures device *index (or the first free one) with one socket. The driver takes a reference
 * of its own; fd stays the caller's, who keeps it: shutdown() on it is the only thing that frees
 * a driver stuck in a send. No request timeout is set, so the driver never cuts off a slow server,
 * and the wait for a new socket is as long as the driver can count: 2^31-1 s. 0 with *index set,
 * KERNEL_E_BUSY or negative errno; the socket has been shut down then.
 */
int kernel_connect(struct kernel *k, int fd, const struct kernel_device *dev,
		   int *index) _must_check_;

/*
 * Gives a device whose socket is dead a new one. 0 proves little: when no socket of the device is
 * dead the driver drops the new one without a word. -EINVAL: the device is not configured any
 * more, or has another backend.
 */
int kernel_reconfigure(struct kernel *k, int index, int fd, const char *backend) _must_check_;

/*
 * What becomes of requests that get no answer when their timer runs out (nbd_xmit_timeout()).
 * Patient: nothing, for a server may be slow; its connection stays. Else they leave it, for it is
 * known to be dead, and wait for a new one; they are sent on that at once.
 *
 * Patience sets the shortest timer, too, which the driver offers no other way to do: a file in
 * queue/ cannot be written while a request waits for a socket, for since Linux 6.12 that waits
 * for all requests. It is a number of seconds that the driver's own arithmetic makes 0, for
 * every HZ; where a later kernel's does not, is_short is false: then a timer takes half a minute.
 * 0 or negative errno.
 */
int kernel_be_patient(struct kernel *k, int index, const char *backend,
		      const struct kernel_files *f, bool *is_short) _must_check_;
int kernel_be_impatient(struct kernel *k, int index, const char *backend) _must_check_;

/* Lets go of the device: all waiting I/O fails. 0 or negative errno. */
int kernel_disconnect(struct kernel *k, int index) _must_check_;

/*
 * The next LINK_DEAD: 1 with the device's index, 0 for none now, -ENOBUFS when messages were
 * lost (any device may be dead), other negative errno.
 */
int kernel_next_dead(struct kernel *k, int *index) _must_check_;

/* ---- /sys/block/nbdN ---------------------------------------------------------------------- */

void kernel_open_files(int index, struct kernel_files *f);

/*
 * How many requests have been completed so far, and whether some are in flight. False: not known.
 */
bool kernel_read_progress(struct kernel_files *f, uint64_t *completed, bool *has_more);

/* How many requests wait for an answer; 0 when that is not known. */
uint64_t kernel_in_flight(const struct kernel_files *f);

/*
 * Keeps the driver's requests at or below max_bytes, the largest that the server takes. 0 or
 * negative errno; -EINVAL when it is less than a page.
 */
int kernel_limit_request(int index, uint32_t max_bytes) _must_check_;

/* Whether the device is configured. */
bool kernel_is_attached(int index);

/* The label given at kernel_connect(). Its length, or negative errno. */
int kernel_read_backend(int index, char out[static KERNEL_BACKEND_MAX]) _must_check_;

/* Bytes, 0 when not attached. */
uint64_t kernel_read_size(int index);

/* "/dev/nbd3" (or "nbd3") is 3; -EINVAL otherwise, partitions included. */
int kernel_parse_device(const char *device) _must_check_;

#endif
