/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a resident nbdclient says of its device: one page in /run/nbdclient/nbdN, mapped, so that
 * keeping it up to date needs no system call and no file access while the root is away. The page
 * also remembers what the export was at first, for an instance that takes over after a kill; and
 * its lock says whether anybody looks after the device at all.
 */
#ifndef NBDCLIENT_STATUS_H
#define NBDCLIENT_STATUS_H

#include "epoch.h"
#include "identity.h"
#include "kernel.h"
#include "proto/session.h"
#include "session.h"
#include "uri.h"

#include <sys/types.h>

enum {
	STATUS_E_ATTENDED = 1, /* another nbdclient holds the lock */

	STATUS_ERROR_MAX = 400,
	STATUS_SERVER_MAX = 128,
};

struct status {
	pid_t pid;
	enum session_state state;
	uint64_t since_ns;     /* CLOCK_BOOTTIME: when the state was entered */
	uint64_t lost_ns;      /* when the present outage began, if !session_state_is_up() */
	uint64_t longest_ns;   /* the longest outage so far */
	uint64_t last_back_ns; /* when the last outage ended; 0: none */
	uint32_t losses, tries;
	bool has_first;
	struct identity first; /* as in the first session */
	uint8_t session_id[NBD_SESSION_ID_SIZE];
	uint64_t generation; /* of the session's last connection; 0: none yet */
	struct epoch epoch;  /* of the present or last link */
	char machine[NBD_SESSION_MACHINE_MAX + 1];
	char uri[URI_TEXT_MAX + 1];
	char server[STATUS_SERVER_MAX]; /* the last address used */
	char last_error[STATUS_ERROR_MAX];
};

struct status_page;

/*
 * Opens (and makes, if need be) the page of device index and takes its lock for as long as this
 * process lives. *before is what an earlier instance left there; it is zeroed when there was none.
 * 0, STATUS_E_ATTENDED or negative errno.
 */
int status_open(int index, struct status_page **page, struct status *before) _must_check_;

/* Publishes; readers see the old or the new one, never half of each. */
void status_publish(struct status_page *page, const struct status *now);

/* Removes the page: the device is no longer attached. Before detaching only. */
void status_remove(int index);

/*
 * The URI that a device was attached with: the kernel's label of it or, before Linux 5.14, which
 * has none, what the page says. 0 or negative errno.
 */
int status_read_label(int index, char out[static KERNEL_BACKEND_MAX]) _must_check_;

/*
 * Reads a page. 0 with *is_attended saying whether its writer lives; -ENOENT without a page; other
 * negative errno.
 */
int status_read(int index, struct status *out, bool *is_attended) _must_check_;

#endif
