/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One export at work: who may use it, what its disk did, what takes its time. See exports.h. */
#include "exports.h"

#include "base/log.h"
#include "proto/names.h"

#include <stdio.h>
#include <string.h>

bool served_allows(struct served *s, const struct address *client)
{
	bool is_allowed;

	pthread_mutex_lock(&s->lock);
	is_allowed = config_export_allows(&s->config, client);
	pthread_mutex_unlock(&s->lock);
	return is_allowed;
}

/* The same failure again is not logged before this time has passed. */
#define REPEAT_NS (60 * CLOCK_NS_PER_S)

void served_hold(struct served *s, int error)
{
	uint64_t now = clock_now_ns();
	bool is_news;

	pthread_mutex_lock(&s->lock);
	s->held++;
	is_news = s->held == 1 || s->held_errno != error || now - s->hold_logged_ns >= REPEAT_NS;
	s->held_errno = error;
	if (is_news)
		s->hold_logged_ns = now;
	snprintf(s->last_error, sizeof(s->last_error), "%s", strerror(-error));
	pthread_mutex_unlock(&s->lock);
	if (is_news)
		log_error("export \"%s\": THE DISK IS %s: a write to %s failed: %s (clients wait "
			  "and have lost nothing; make room or mend the disk, and they go on by "
			  "themselves)",
			  s->config.name, error == -EIO ? "FAILING" : "FULL", s->config.path,
			  strerror(-error));
}

void served_unhold(struct served *s, bool is_done)
{
	bool is_over;

	pthread_mutex_lock(&s->lock);
	s->held--;
	is_over = s->held == 0 && is_done;
	pthread_mutex_unlock(&s->lock);
	if (is_over)
		log_info("export \"%s\": the disk takes writes again; its clients go on",
			 s->config.name);
}

static uint32_t wire_error(int r)
{
	switch (-r) {
	case 0: return NBD_OK;
	case ENOSPC:
	case EDQUOT: return NBD_ENOSPC;
	case ENOMEM: return NBD_ENOMEM;
	case ENOTSUP: return NBD_ENOTSUP;
	default: return NBD_EIO;
	}
}

uint32_t served_failed(struct served *s, const struct nbd_request *req, int error)
{
	const char *why = error == -ENODATA ? "the image is shorter than when it was opened"
					    : strerror(-error);
	uint64_t now = clock_now_ns();
	bool is_news;

	if (error == -ECANCELED || error == -ENOTSUP || commit_error(&s->commit) < 0)
		return wire_error(error); /* nobody's fault, or said already */
	pthread_mutex_lock(&s->lock);
	is_news = s->logged_errno != error || now - s->logged_ns >= REPEAT_NS;
	if (is_news) {
		s->logged_errno = error;
		s->logged_ns = now;
	}
	snprintf(s->last_error, sizeof(s->last_error), "%s: %s", nbd_cmd_name(req->type), why);
	pthread_mutex_unlock(&s->lock);
	if (is_news)
		log_error("export \"%s\": %s of %llu bytes at %llu failed on %s: %s (the client is "
			  "told; the same failure again is not logged for a minute)",
			  s->config.name, nbd_cmd_name(req->type), (unsigned long long)req->length,
			  (unsigned long long)req->offset, s->config.path, why);
	return wire_error(error);
}

static int find_extents(struct served *s, const struct nbd_request *req, const atomic_bool *cancel,
			struct served_extents *extents)
{
	size_t max = req->flags & NBD_CMD_FLAG_REQ_ONE ? 1 : SERVED_EXTENTS_MAX;
	uint64_t offset = req->offset, end = req->offset + req->length;
	struct nbd_extent *list = malloc(max * sizeof(*list));
	size_t n = 0;

	if (!list)
		return -ENOMEM;
	while (offset < end && n < max && !atomic_load(cancel)) {
		bool is_hole;

		store_extent(s->store, offset, end, &list[n].length, &is_hole);
		list[n].flags = is_hole ? NBD_STATE_HOLE | NBD_STATE_ZERO : 0;
		offset += list[n++].length;
	}
	extents->list = list;
	extents->count = n;
	return 0;
}

int served_carry_out(struct served *s, const struct nbd_request *req, const atomic_bool *cancel,
		     struct served_extents *extents)
{
	switch (req->type) {
	case NBD_CMD_TRIM: return store_trim(s->store, req->offset, req->length);
	case NBD_CMD_WRITE_ZEROES:
		return store_zero(s->store, req->offset, req->length,
				  req->flags & NBD_CMD_FLAG_NO_HOLE,
				  req->flags & NBD_CMD_FLAG_FAST_ZERO, cancel);
	case NBD_CMD_CACHE: return store_prefetch(s->store, req->offset, req->length);
	case NBD_CMD_BLOCK_STATUS: return find_extents(s, req, cancel, extents);
	default: return -EINVAL;
	}
}
