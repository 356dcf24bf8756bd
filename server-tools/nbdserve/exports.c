/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See exports.h. */
#include "exports.h"

#include "base/clock.h"
#include "base/log.h"
#include "proto/names.h"
#include "store.h"

#include <string.h>

/* How long a server that was just killed may take to let go of its images. */
#define OPEN_WAIT_NS (10 * CLOCK_NS_PER_S)

/* The same failure again is not logged before this time has passed. */
#define REPEAT_NS (60 * CLOCK_NS_PER_S)

/* Our own lock on an image would be waited for in vain, and nothing would say whose it is. */
static int check_not_open(const struct exports *e, const struct config_export *config)
{
	for (size_t i = 0; i < e->count; i++) {
		const struct config_export *other = e->list[i].config;

		if ((other->is_read_only && config->is_read_only) ||
		    !store_is_at(e->list[i].store, config->path))
			continue;
		log_error("cannot serve %s as \"%s\": it is export \"%s\" already, and one of the "
			  "two is writable; make both ro, or serve it once",
			  config->path, config->name, other->name);
		return -EBUSY;
	}
	return 0;
}

static uint16_t transmission_flags(const struct config_export *config)
{
	unsigned flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA;

	if (config->is_read_only)
		return (uint16_t)(flags | NBD_FLAG_READ_ONLY);
	return (uint16_t)(flags | NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES);
}

static int open_one(struct exports *e, const struct config_export *config, uint64_t deadline_ns)
{
	struct served *s = &e->list[e->count];
	int r;

	*s = (struct served){ .config = config };
	r = check_not_open(e, config);
	if (r < 0)
		return r;
	r = store_open(config->path, config->is_read_only, deadline_ns, &s->store);
	if (r < 0)
		return r;
	commit_init(&s->commit, s->store);
	lease_init(&s->lease);
	pthread_mutex_init(&s->log_lock, NULL);
	e->count++;
	s->info = (struct nbd_export_info){
		.size = store_size(s->store),
		.flags = transmission_flags(config),
		.block_min = NBD_DEFAULT_BLOCK_MIN,
		.block_preferred = NBD_DEFAULT_BLOCK_PREFERRED,
		.block_max = NBD_DEFAULT_BLOCK_MAX,
	};
	log_info("export \"%s\": %s, %llu bytes, %s", config->name, config->path,
		 (unsigned long long)s->info.size,
		 config->is_read_only ? "read-only"
		 : config->durability == CONFIG_DURABILITY_WRITE
			 ? "writable, durable when written"
			 : "writable, durable when flushed");
	return 0;
}

int exports_open(struct exports *e, const struct config *config)
{
	uint64_t deadline_ns = clock_now_ns() + OPEN_WAIT_NS;

	*e = (struct exports){ .list = calloc(config->n_list, sizeof(*e->list)) };
	if (!e->list)
		return -ENOMEM;
	for (size_t i = 0; i < config->n_list; i++) {
		int r = open_one(e, &config->list[i], deadline_ns);

		if (r < 0)
			return r;
	}
	return 0;
}

void exports_close(struct exports *e)
{
	for (size_t i = 0; i < e->count; i++) {
		struct served *s = &e->list[i];

		commit_deinit(&s->commit);
		lease_deinit(&s->lease);
		pthread_mutex_destroy(&s->log_lock);
		store_close(s->store);
	}
	free(e->list);
	*e = (struct exports){ 0 };
}

struct served *exports_find(struct exports *e, const char *name, size_t name_size)
{
	for (size_t i = 0; i < e->count; i++) {
		const char *its_name = e->list[i].config->name;

		if (strlen(its_name) == name_size && memcmp(its_name, name, name_size) == 0)
			return &e->list[i];
	}
	return NULL;
}

bool served_allows(const struct served *s, const struct address *client)
{
	if (s->config->n_allow == 0 || client->family == ADDRESS_UNIX)
		return true;
	for (size_t i = 0; i < s->config->n_allow; i++)
		if (cidr_matches(&s->config->allow[i], client))
			return true;
	return false;
}

static uint32_t wire_error(int r)
{
	switch (-r) {
	case 0: return NBD_OK;
	case ENOSPC:
	case EDQUOT: return NBD_ENOSPC;
	case ENOMEM: return NBD_ENOMEM;
	default: return NBD_EIO;
	}
}

static bool may_log(struct served *s, int r)
{
	uint64_t now = clock_now_ns();
	bool is_news;

	pthread_mutex_lock(&s->log_lock);
	is_news = s->logged_errno != r || now - s->logged_ns >= REPEAT_NS;
	if (is_news) {
		s->logged_errno = r;
		s->logged_ns = now;
	}
	pthread_mutex_unlock(&s->log_lock);
	return is_news;
}

static uint32_t failed(struct served *s, const struct nbd_request *req, int r)
{
	const char *why =
		r == -ENODATA ? "the image is shorter than when it was opened" : strerror(-r);

	if (r != -ECANCELED && may_log(s, r))
		log_error("export \"%s\": %s of %u bytes at %llu failed on %s: %s (the client is "
			  "told; the same failure again is not logged for a minute)",
			  s->config->name, nbd_cmd_name(req->type), req->length,
			  (unsigned long long)req->offset, s->config->path, why);
	return wire_error(r);
}

static uint32_t make_durable(struct served *s)
{
	bool is_first;
	int r = commit_wait(&s->commit, &is_first);

	if (is_first)
		log_error(
			"export \"%s\": DATA AT RISK: fdatasync of %s failed: %s (every write and "
			"flush fails from now on, for what is on the disk is not known; check the "
			"disk and the file system, then start nbdserve again)",
			s->config->name, s->config->path, strerror(-r));
	return r < 0 ? NBD_EIO : NBD_OK;
}

static uint32_t execute_change(struct served *s, const struct nbd_request *req, void *data,
			       const atomic_bool *cancel)
{
	int r = 0;

	if (commit_error(&s->commit) < 0)
		return NBD_EIO;
	if (req->type == NBD_CMD_WRITE)
		r = store_write(s->store, data, req->length, req->offset);
	else if (req->type == NBD_CMD_TRIM)
		r = store_trim(s->store, req->offset, req->length);
	else
		r = store_zero(s->store, req->offset, req->length,
			       req->flags & NBD_CMD_FLAG_NO_HOLE, cancel);
	if (r < 0)
		return failed(s, req, r);
	if (s->config->durability == CONFIG_DURABILITY_WRITE || req->flags & NBD_CMD_FLAG_FUA)
		return make_durable(s);
	return NBD_OK;
}

uint32_t served_execute(struct served *s, const struct nbd_request *req, void *data,
			const atomic_bool *cancel)
{
	int r;

	switch (req->type) {
	case NBD_CMD_READ:
		r = store_read(s->store, data, req->length, req->offset);
		return r < 0 ? failed(s, req, r) : NBD_OK;
	case NBD_CMD_WRITE:
	case NBD_CMD_TRIM:
	case NBD_CMD_WRITE_ZEROES: return execute_change(s, req, data, cancel);
	case NBD_CMD_FLUSH: return s->config->is_read_only ? NBD_OK : make_durable(s);
	default: return NBD_EINVAL;
	}
}
