/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See exports.h. */
#include "exports.h"

#include "base/clock.h"
#include "base/log.h"
#include "pattern.h"
#include "proto/names.h"

#include <linux/limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

/* How long a server that was just killed may take to let go of its images. */
#define OPEN_WAIT_NS (10 * CLOCK_NS_PER_S)

/* ---- the table ---------------------------------------------------------------------------- */

/* FNV-1a: names come from the configuration, so nobody chooses them to collide. */
static size_t bucket_of(const void *data, size_t size)
{
	const uint8_t *p = data;
	uint32_t hash = 2166136261u;

	for (size_t i = 0; i < size; i++)
		hash = (hash ^ p[i]) * 16777619u;
	return hash % EXPORTS_BUCKETS;
}

/* All with the lock held. */

static struct served *find_by_name(struct exports *e, const char *name, size_t size)
{
	struct served *s;

	for (s = e->by_name[bucket_of(name, size)]; s; s = s->next_by_name)
		if (strlen(s->config.name) == size && memcmp(s->config.name, name, size) == 0)
			return s;
	return NULL;
}

static void insert(struct exports *e, struct served *s)
{
	size_t by_name = bucket_of(s->config.name, strlen(s->config.name));
	struct store_id id = store_id(s->store);
	size_t by_image = bucket_of(&id, sizeof(id));

	s->next_by_name = e->by_name[by_name];
	e->by_name[by_name] = s;
	s->next_by_image = e->by_image[by_image];
	e->by_image[by_image] = s;
	TAILQ_INSERT_TAIL(&e->all, s, link);
}

static void remove_name(struct exports *e, struct served *s)
{
	struct served **p = &e->by_name[bucket_of(s->config.name, strlen(s->config.name))];

	for (; *p; p = &(*p)->next_by_name)
		if (*p == s) {
			*p = s->next_by_name;
			TAILQ_REMOVE(&e->all, s, link);
			return;
		}
}

static void remove_image(struct exports *e, struct served *s)
{
	struct store_id id = store_id(s->store);
	struct served **p = &e->by_image[bucket_of(&id, sizeof(id))];

	for (; *p; p = &(*p)->next_by_image)
		if (*p == s) {
			*p = s->next_by_image;
			return;
		}
}

/* Our own lock on an image would be waited for in vain, and nothing would say whose it is. */
static int check_not_open(struct exports *e, const struct config_export *config, char *err)
{
	struct store_id id;
	struct served *s;

	if (store_id_of_path(config->path, &id) < 0)
		return 0; /* opening it will say why */
	for (s = e->by_image[bucket_of(&id, sizeof(id))]; s; s = s->next_by_image) {
		struct store_id other = store_id(s->store);

		if ((s->config.is_read_only && config->is_read_only) || other.dev != id.dev ||
		    other.ino != id.ino)
			continue;
		snprintf(err, CONFIG_ERROR_MAX,
			 "cannot serve %.150s as \"%.80s\": it is export \"%.80s\" already%s, and "
			 "one of the two is writable; make both ro, or serve it once",
			 config->path, config->name, s->config.name,
			 atomic_load(&s->is_removed) ? ", whose clients are still leaving" : "");
		return -EBUSY;
	}
	return 0;
}

/* ---- one export --------------------------------------------------------------------------- */

static uint16_t transmission_flags(const struct config_export *config)
{
	unsigned flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
			 NBD_FLAG_SEND_CACHE | NBD_FLAG_SEND_DF;

	/* A flush is one of the whole image, so it covers all connections; but a writable export
	 * has several only with the session option, see conn.c. */
	if (config->is_read_only)
		return (uint16_t)(flags | NBD_FLAG_READ_ONLY | NBD_FLAG_CAN_MULTI_CONN);
	return (uint16_t)(flags | NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES |
			  NBD_FLAG_SEND_FAST_ZERO);
}

static int copy_config(const struct config_export *from, const char *name, size_t name_size,
		       const char *path, struct config_export *to)
{
	*to = *from;
	to->name = strndup(name, name_size);
	to->path = strdup(path);
	to->is_pattern = false;
	to->allow = NULL;
	if (from->n_allow > 0) {
		to->allow = malloc(from->n_allow * sizeof(*to->allow));
		if (to->allow)
			memcpy(to->allow, from->allow, from->n_allow * sizeof(*to->allow));
	}
	if (to->name && to->path && (to->allow || from->n_allow == 0))
		return 0;
	config_export_deinit(to);
	return -ENOMEM;
}

static void on_sync_error(void *owner, int error)
{
	struct served *s = owner;

	pthread_mutex_lock(&s->lock);
	snprintf(s->last_error, sizeof(s->last_error), "fdatasync failed: %s", strerror(-error));
	pthread_mutex_unlock(&s->lock);
	log_error("export \"%s\": DATA AT RISK: fdatasync of %s failed: %s (every write and flush "
		  "fails from now on, for what is on the disk is not known; check the disk and the "
		  "file system, then start nbdserve again or type nbdroot client release)",
		  s->config.name, s->config.path, strerror(-error));
}

/* Logs; err has the words too. */
static struct served *open_one(struct exports *e, const struct config_export *config,
			       uint64_t deadline_ns, char *err)
{
	_cleanup_free_ struct served *s = calloc(1, sizeof(*s));
	_cleanup_free_ struct stats_latency *latency = calloc(e->n_loops, sizeof(*latency));
	struct config_export copy;
	int r;

	if (!s || !latency) {
		snprintf(err, CONFIG_ERROR_MAX, "out of memory");
		return NULL;
	}
	r = check_not_open(e, config, err);
	if (r < 0) {
		log_error("%s", err);
		return NULL;
	}
	r = store_open(config->path, config->is_read_only, deadline_ns, &s->store);
	if (r < 0) {
		snprintf(err, CONFIG_ERROR_MAX, "cannot serve %.300s: %s (see the log)",
			 config->path, strerror(-r));
		return NULL;
	}
	if (copy_config(config, config->name, strlen(config->name), config->path, &copy) < 0) {
		store_close(s->store);
		snprintf(err, CONFIG_ERROR_MAX, "out of memory");
		return NULL;
	}
	s->table = e;
	s->refs = 1;
	s->config = copy;
	s->latency = steal_ptr(&latency);
	commit_init(&s->commit, store_fd(s->store), s, on_sync_error);
	lease_init(&s->lease);
	pthread_mutex_init(&s->lock, NULL);
	s->info = (struct nbd_export_info){
		.size = store_size(s->store),
		.flags = transmission_flags(&s->config),
		.block_min = NBD_DEFAULT_BLOCK_MIN,
		.block_preferred = NBD_DEFAULT_BLOCK_PREFERRED,
		.block_max = NBD_DEFAULT_BLOCK_MAX,
	};
	if (!store_content_id(s->store, s->image_id)) {
		struct store_id id = store_id(s->store);

		memcpy(s->image_id, e->seed, sizeof(s->image_id));
		for (size_t i = 0; i < sizeof(id); i++)
			s->image_id[i % 16] ^= ((const uint8_t *)&id)[i];
	}
	if (!store_has_quick_writes(s->store))
		atomic_store(&s->slow_until_ns, CLOCK_NEVER);
	log_info("export \"%s\": %s, %llu bytes, %s", s->config.name, s->config.path,
		 (unsigned long long)s->info.size,
		 s->config.is_read_only ? "read-only"
		 : s->config.durability == CONFIG_DURABILITY_WRITE
			 ? "writable, durable when written"
			 : "writable, durable when flushed");
	return steal_ptr(&s);
}

static void close_one(struct served *s)
{
	commit_deinit(&s->commit);
	lease_deinit(&s->lease);
	pthread_mutex_destroy(&s->lock);
	store_close(s->store);
	config_export_deinit(&s->config);
	free(s->latency);
	free(s);
}

void served_put(struct served *s)
{
	struct exports *e = s->table;
	bool is_last;

	pthread_mutex_lock(&e->lock);
	is_last = --s->refs == 0;
	if (is_last) {
		if (!atomic_load(&s->is_removed))
			remove_name(e, s);
		remove_image(e, s);
	}
	pthread_mutex_unlock(&e->lock);
	if (is_last)
		close_one(s);
}

/* ---- all of them -------------------------------------------------------------------------- */

static int add_pattern(struct exports *e, const struct config_export *config)
{
	struct config_export *bigger =
		reallocarray(e->patterns, e->n_patterns + 1, sizeof(*e->patterns));

	if (!bigger)
		return -ENOMEM;
	e->patterns = bigger;
	if (copy_config(config, config->name, strlen(config->name), config->path,
			&e->patterns[e->n_patterns]) < 0)
		return -ENOMEM;
	e->patterns[e->n_patterns++].is_pattern = true;
	return 0;
}

int exports_open(struct exports *e, const struct config *config, unsigned n_loops)
{
	uint64_t deadline_ns = clock_now_ns() + OPEN_WAIT_NS;
	char err[CONFIG_ERROR_MAX];

	*e = (struct exports){ .n_loops = n_loops };
	TAILQ_INIT(&e->all);
	pthread_mutex_init(&e->lock, NULL);
	if (getrandom(e->seed, sizeof(e->seed), 0) != sizeof(e->seed))
		return -EIO;
	for (size_t i = 0; i < config->n_list; i++) {
		const struct config_export *ce = &config->list[i];
		struct served *s;

		if (ce->is_pattern) {
			log_info("exports \"%s\": %s, opened when they are asked for", ce->name,
				 ce->path);
			if (add_pattern(e, ce) < 0)
				return -ENOMEM;
			continue;
		}
		s = open_one(e, ce, deadline_ns, err);
		if (!s)
			return -EIO;
		insert(e, s);
	}
	return 0;
}

static void free_patterns(struct exports *e)
{
	for (size_t i = 0; i < e->n_patterns; i++)
		config_export_deinit(&e->patterns[i]);
	free(e->patterns);
	e->patterns = NULL;
	e->n_patterns = 0;
}

void exports_close(struct exports *e)
{
	struct served *s;

	while ((s = TAILQ_FIRST(&e->all))) {
		TAILQ_REMOVE(&e->all, s, link);
		close_one(s);
	}
	free_patterns(e);
	pthread_mutex_destroy(&e->lock);
	*e = (struct exports){ 0 };
}

/* The configuration of a pattern that a name matches, with the path in path. */
static struct config_export *match(struct exports *e, const char *name, size_t size,
				   char path[static PATH_MAX])
{
	for (size_t i = 0; i < e->n_patterns; i++) {
		struct pattern_values values;

		if (pattern_match(e->patterns[i].name, name, size, &values))
			return pattern_expand(e->patterns[i].path, &values, path, PATH_MAX) == 0
				       ? &e->patterns[i]
				       : NULL;
	}
	return NULL;
}

struct served *exports_find(struct exports *e, const char *name, size_t name_size, bool *is_pattern)
{
	char path[PATH_MAX];
	struct served *s;

	pthread_mutex_lock(&e->lock);
	s = find_by_name(e, name, name_size);
	if (s)
		s->refs++;
	*is_pattern = !s && match(e, name, name_size, path);
	pthread_mutex_unlock(&e->lock);
	return s;
}

struct served *exports_open_instance(struct exports *e, const char *name, size_t name_size,
				     const struct address *client)
{
	char path[PATH_MAX], err[CONFIG_ERROR_MAX];
	struct config_export *pattern, copy;
	struct served *s;

	/* The lock is held while it is opened, so an image that is locked is not waited for: the
	 * client tries again. */
	pthread_mutex_lock(&e->lock);
	s = find_by_name(e, name, name_size); /* somebody was faster */
	pattern = s ? NULL : match(e, name, name_size, path);
	if (pattern && config_export_allows(pattern, client) &&
	    copy_config(pattern, name, name_size, path, &copy) == 0) {
		s = open_one(e, &copy, 0, err);
		if (s) {
			s->refs = 0;
			s->is_instance = true;
			insert(e, s);
		}
		config_export_deinit(&copy);
	}
	if (s)
		s->refs++;
	pthread_mutex_unlock(&e->lock);
	return s;
}

void exports_visit(struct exports *e, void (*visit)(struct served *s, void *arg), void *arg)
{
	struct served *s;

	pthread_mutex_lock(&e->lock);
	TAILQ_FOREACH(s, &e->all, link)
	visit(s, arg);
	pthread_mutex_unlock(&e->lock);
}

/* ---- reload ------------------------------------------------------------------------------- */

static struct config_export *find_config(struct config *config, const struct served *s)
{
	char path[PATH_MAX];

	for (size_t i = 0; i < config->n_list; i++) {
		struct config_export *ce = &config->list[i];
		struct pattern_values values;

		if (!ce->name) /* taken over already */
			continue;
		if (!ce->is_pattern && !s->is_instance && strcmp(ce->name, s->config.name) == 0)
			return ce;
		if (ce->is_pattern && s->is_instance &&
		    pattern_match(ce->name, s->config.name, strlen(s->config.name), &values) &&
		    pattern_expand(ce->path, &values, path, sizeof(path)) == 0 &&
		    strcmp(path, s->config.path) == 0)
			return ce;
	}
	return NULL;
}

/* Whether an open export stays as it is, but for who may use it. */
static bool keep(struct served *s, struct config_export *ce)
{
	struct cidr *allow = NULL;

	if (!ce || ce->is_read_only != s->config.is_read_only ||
	    ce->durability != s->config.durability || ce->on_full != s->config.on_full ||
	    (!ce->is_pattern && strcmp(ce->path, s->config.path) != 0))
		return false;
	if (ce->n_allow > 0) {
		allow = malloc(ce->n_allow * sizeof(*allow));
		if (!allow)
			return true; /* with its present rules */
		memcpy(allow, ce->allow, ce->n_allow * sizeof(*allow));
	}
	pthread_mutex_lock(&s->lock);
	free(s->config.allow);
	s->config.allow = allow;
	s->config.n_allow = ce->n_allow;
	s->config.has_allow = ce->has_allow;
	pthread_mutex_unlock(&s->lock);
	if (!ce->is_pattern)
		config_export_deinit(ce); /* not to be opened */
	return true;
}

/* With the lock held: its clients are cut off, and the last one closes it. */
static void forget(struct exports *e, struct served *s)
{
	log_info("export \"%s\": removed%s", s->config.name,
		 s->refs > 1 || s->is_instance ? ", its clients are disconnected" : "");
	remove_name(e, s);
	atomic_store(&s->is_removed, true);
}

bool served_allows(struct served *s, const struct address *client)
{
	bool is_allowed;

	pthread_mutex_lock(&s->lock);
	is_allowed = config_export_allows(&s->config, client);
	pthread_mutex_unlock(&s->lock);
	return is_allowed;
}

void exports_reload_keep(struct exports *e, struct config *config, struct served **removed)
{
	struct served *s, *next;

	*removed = NULL;
	pthread_mutex_lock(&e->lock);
	for (s = TAILQ_FIRST(&e->all); s; s = next) {
		next = TAILQ_NEXT(s, link);
		if (keep(s, find_config(config, s)))
			continue;
		forget(e, s);
		if (s->is_instance) /* else the table's reference is the caller's now */
			s->refs++;
		s->next_by_name = *removed;
		*removed = s;
	}
	free_patterns(e);
	for (size_t i = 0; i < config->n_list; i++)
		if (config->list[i].name && config->list[i].is_pattern &&
		    add_pattern(e, &config->list[i]) < 0)
			log_error("out of memory: some exports are not served");
	pthread_mutex_unlock(&e->lock);
}

static bool is_still_open(struct exports *e, const struct config_export *ce)
{
	char ignored[CONFIG_ERROR_MAX];

	return check_not_open(e, ce, ignored) < 0;
}

/* Its image may still be that of a removed export, whose clients are leaving. */
static bool reload_one(struct exports *e, const struct config_export *ce, uint64_t deadline_ns,
		       char *why)
{
	struct served *s;

	pthread_mutex_lock(&e->lock);
	while (is_still_open(e, ce) && clock_now_ns() < deadline_ns) {
		pthread_mutex_unlock(&e->lock);
		nanosleep(&(struct timespec){ .tv_nsec = 5 * 1000 * 1000 }, NULL);
		pthread_mutex_lock(&e->lock);
	}
	s = open_one(e, ce, 0, why);
	if (s)
		insert(e, s);
	pthread_mutex_unlock(&e->lock);
	return s;
}

int exports_reload_open(struct exports *e, struct config *config, uint64_t deadline_ns,
			char err[static CONFIG_ERROR_MAX])
{
	int result = 0;

	for (size_t i = 0; i < config->n_list; i++) {
		char why[CONFIG_ERROR_MAX];

		if (config->list[i].name && !config->list[i].is_pattern &&
		    !reload_one(e, &config->list[i], deadline_ns, why) && result == 0) {
			snprintf(err, CONFIG_ERROR_MAX, "%s", why);
			result = -1;
		}
	}
	return result;
}

/* ---- what a disk did ---------------------------------------------------------------------- */

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

/* Enough for a client to get on with: what is left out it asks for again. */
enum { EXTENTS_MAX = 4096 };

static int find_extents(struct served *s, const struct nbd_request *req, const atomic_bool *cancel,
			struct served_extents *extents)
{
	size_t max = req->flags & NBD_CMD_FLAG_REQ_ONE ? 1 : EXTENTS_MAX;
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
