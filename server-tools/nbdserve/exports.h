/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The exports of a running server: each image opened and locked once, with its group commit and
 * its lease, and the operations on it as the protocol wants them: with the export's durability
 * and with the error numbers of the wire. What does not fit the export is refused before it
 * comes here (nbd_request_check()).
 */
#ifndef NBDSERVE_EXPORTS_H
#define NBDSERVE_EXPORTS_H

#include "commit.h"
#include "config.h"
#include "lease.h"
#include "proto/request.h"

struct served {
	const struct config_export *config;
	struct nbd_export_info info;
	struct store *store;
	struct commit commit;
	struct lease lease; /* of a writable export */
	/* the last failure that was logged, so that a broken disk does not fill the log */
	pthread_mutex_t log_lock;
	int logged_errno;
	uint64_t logged_ns;
};

struct exports {
	struct served *list;
	size_t count;
};

/* Opens all images; logs its errors itself. The configuration must outlive the exports. */
int exports_open(struct exports *e, const struct config *config) _must_check_;
void exports_close(struct exports *e);

/* By name, which may hold any bytes; NULL when there is none. */
struct served *exports_find(struct exports *e, const char *name, size_t name_size);

/* Whether the export's allow= rules admit a client. */
bool served_allows(const struct served *s, const struct address *client);

/*
 * Carries a request out that nbd_request_check() has passed. data is the payload of a write, and
 * where a read's goes. Returns NBD_OK or the error to answer with. *cancel: the connection is
 * cut, so long work may stop half way, for it will never be answered.
 */
uint32_t served_execute(struct served *s, const struct nbd_request *req, void *data,
			const atomic_bool *cancel) _must_check_;

#endif
