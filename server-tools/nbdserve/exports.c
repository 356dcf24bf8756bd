/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See exports.h. */
#include "exports.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "pattern.h"
#include "thread.h"

#include <linux/limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

/* How long a server that was just killed may take to let go of its images. */
#define OPEN_WAIT_NS (10 * CLOCK_NS_PER_S)

/* How long a client may wait for an image of a pattern that somebody else has open. */
#define INSTANCE_WAIT_NS (2 * CLOCK_NS_PER_S)

/* ---- the table ---------------------------------------------------------------------------- */

/* Names come from the configuration, so nobody chooses them to collide. */
static size_t bucket_of(const void *data, size_t size)
{
	return hash_bytes(HASH_START, data, size) % EXPORTS_BUCKETS;
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

void exports_insert(struct exports *e, struct served *s)
{
	size_t by_name = bucket_of(s->config.name, strlen(s->config.name));
	size_t by_image = bucket_of(&s->id, sizeof(s->id));

	s->next_by_name = e->by_name[by_name];
	e->by_name[by_name] = s;
	s->next_by_image = e->by_image[by_image];
	e->by_image[by_image] = s;
	TAILQ_INSERT_TAIL(&e->all, s, link);
}

void exports_remove_name(struct exports *e, struct served *s)
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
	struct served **p = &e->by_image[bucket_of(&s->id, sizeof(s->id))];

	for (; *p; p = &(*p)->next_by_image)
		if (*p == s) {
			*p = s->next_by_image;
			return;
		}
}

/* Waits a little for the table to change. */
static void wait_a_moment(struct exports *e)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += 20 * 1000 * 1000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_cond_timedwait(&e->changed, &e->lock, &until);
}

static struct served *find_rival(struct exports *e, const struct config_export *config,
				 struct store_id id)
{
	struct served *s;

	for (s = e->by_image[bucket_of(&id, sizeof(id))]; s; s = s->next_by_image)
		if (s->id.dev == id.dev && s->id.ino == id.ino &&
		    !(s->config.is_read_only && config->is_read_only))
			return s;
	return NULL;
}

/*
 * Our own lock on an image would be waited for in vain, and nothing would say whose it is. One
 * that is being closed, or that a reload has removed, is waited for.
 */
static int check_not_open(struct exports *e, const struct config_export *config,
			  uint64_t deadline_ns, char *err)
{
	struct store_id id;
	struct served *s;
	int r = 0;

	if (store_id_of_path(config->path, &id) < 0)
		return 0; /* opening it will say why */
	pthread_mutex_lock(&e->lock);
	while ((s = find_rival(e, config, id)) && (s->refs == 0 || atomic_load(&s->is_removed)) &&
	       clock_now_ns() < deadline_ns)
		wait_a_moment(e);
	if (s) {
		snprintf(err, CONFIG_ERROR_MAX,
			 "cannot serve %.150s as \"%.80s\": it is export \"%.80s\" already%s, and "
			 "one of the two is writable; make both ro, or serve it once",
			 config->path, config->name, s->config.name,
			 atomic_load(&s->is_removed) ? ", whose clients are still leaving" : "");
		r = -EBUSY;
	}
	pthread_mutex_unlock(&e->lock);
	return r;
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

int exports_copy_rules(const struct config_export *from, struct config_export *to)
{
	to->has_allow = from->has_allow;
	to->n_allow = from->n_allow;
	to->allow = NULL;
	if (!from->allow)
		return 0;
	to->allow = malloc(from->n_allow * sizeof(*to->allow));
	if (!to->allow)
		return -ENOMEM;
	memcpy(to->allow, from->allow, from->n_allow * sizeof(*to->allow));
	return 0;
}

static int copy_config(const struct config_export *from, const char *name, size_t name_size,
		       const char *path, struct config_export *to)
{
	*to = *from;
	to->name = strndup(name, name_size);
	to->path = strdup(path);
	to->is_pattern = false;
	if (exports_copy_rules(from, to) == 0 && to->name && to->path)
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

struct served *exports_open_one(struct exports *e, const struct config_export *config,
				uint64_t deadline_ns, char err[static CONFIG_ERROR_MAX])
{
	_cleanup_free_ struct served *s = calloc(1, sizeof(*s));
	_cleanup_free_ struct stats_latency *latency = calloc(e->n_loops, sizeof(*latency));
	struct config_export copy;
	int r;

	if (!s || !latency) {
		snprintf(err, CONFIG_ERROR_MAX, "out of memory");
		return NULL;
	}
	r = check_not_open(e, config, deadline_ns, err);
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
	s->id = store_id(s->store);
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
	/* Without a superblock it has none: nothing else is the same on another server, too. */
	if (!store_content_id(s->store, s->image_id))
		memset(s->image_id, 0, sizeof(s->image_id));
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

static void free_one(struct served *s)
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
	bool is_removed;

	pthread_mutex_lock(&e->lock);
	s->refs--;
	is_removed = atomic_load(&s->is_removed);
	/* A latch is an operator's to undo, not that of a client that comes again. */
	if (s->refs > 0 || (!is_removed && commit_error(&s->commit) < 0)) {
		pthread_mutex_unlock(&e->lock);
		return;
	}
	if (!is_removed)
		exports_remove_name(e, s);
	pthread_mutex_unlock(&e->lock);

	store_close(s->store); /* may take its time; until then nobody opens the image again */
	s->store = NULL;
	pthread_mutex_lock(&e->lock);
	remove_image(e, s);
	pthread_cond_broadcast(&e->changed);
	pthread_mutex_unlock(&e->lock);
	free_one(s);
}

/* ---- all of them -------------------------------------------------------------------------- */

int exports_add_pattern(struct exports *e, const struct config_export *config)
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

int exports_check(const struct config *config)
{
	int result = 0;

	for (size_t i = 0; i < config->n_list; i++) {
		const struct config_export *ce = &config->list[i];

		if (ce->is_pattern || access(ce->path, ce->is_read_only ? R_OK : R_OK | W_OK) == 0)
			continue;
		log_error("cannot serve %s: %s; check the path and its permissions", ce->path,
			  strerror(errno));
		result = -1;
	}
	return result;
}

int exports_open(struct exports *e, const struct config *config, unsigned n_loops, bool goes_on)
{
	uint64_t deadline_ns = clock_now_ns() + OPEN_WAIT_NS;
	char err[CONFIG_ERROR_MAX];

	*e = (struct exports){ .n_loops = n_loops };
	TAILQ_INIT(&e->all);
	pthread_mutex_init(&e->lock, NULL);
	thread_cond_init(&e->changed);
	for (size_t i = 0; i < config->n_list; i++) {
		const struct config_export *ce = &config->list[i];
		struct served *s;

		if (ce->is_pattern) {
			log_info("exports \"%s\": %s, opened when they are asked for", ce->name,
				 ce->path);
			if (exports_add_pattern(e, ce) < 0)
				return -ENOMEM;
			continue;
		}
		s = exports_open_one(e, ce, deadline_ns, err);
		if (!s && !goes_on)
			return -EIO;
		if (s)
			exports_insert(e, s);
	}
	return 0;
}

void exports_free_patterns(struct exports *e)
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
		free_one(s);
	}
	exports_free_patterns(e);
	pthread_cond_destroy(&e->changed);
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

/* An image that is being opened, by a thread of the pool. */
struct opening {
	LIST_ENTRY(opening) link;
	const char *name;
	size_t size;
};

static bool is_opening(const struct exports *e, const char *name, size_t size)
{
	const struct opening *o;

	LIST_FOREACH (o, &e->opening, link)
		if (o->size == size && memcmp(o->name, name, size) == 0)
			return true;
	return false;
}

/* With the lock held. 0 with a copy of what to open, or negative errno. */
static int find_pattern(struct exports *e, const char *name, size_t size,
			const struct address *client, struct config_export *copy)
{
	char path[PATH_MAX];
	const struct config_export *pattern = match(e, name, size, path);

	if (!pattern)
		return -ENOENT;
	if (!config_export_allows(pattern, client))
		return -EACCES;
	return copy_config(pattern, name, size, path, copy);
}

/* Not with the lock held: an image that hangs hangs nobody else. */
static struct served *open_instance(struct exports *e, const struct config_export *config,
				    uint64_t reloads, int *error)
{
	char err[CONFIG_ERROR_MAX];
	struct served *s;

	if (access(config->path, F_OK) < 0 && errno == ENOENT) {
		*error = -ENOENT; /* as if there were no pattern: nobody may fill the log with it */
		return NULL;
	}
	s = exports_open_one(e, config, clock_now_ns() + INSTANCE_WAIT_NS, err);
	*error = s ? 0 : -EIO;
	if (!s)
		return NULL;
	s->is_instance = true;
	pthread_mutex_lock(&e->lock);
	exports_insert(e, s);
	if (e->reloads != reloads) { /* what it was opened for may not be so any more */
		exports_remove_name(e, s);
		atomic_store(&s->is_removed, true);
		*error = -EAGAIN;
	}
	pthread_mutex_unlock(&e->lock);
	if (*error == 0)
		return s;
	served_put(s);
	return NULL;
}

struct served *exports_open_instance(struct exports *e, const char *name, size_t name_size,
				     const struct address *client, int *error)
{
	struct opening me = { .name = name, .size = name_size };
	struct config_export copy;
	struct served *s;
	uint64_t reloads;

	do {
		pthread_mutex_lock(&e->lock);
		while (!(s = find_by_name(e, name, name_size)) && is_opening(e, name, name_size))
			wait_a_moment(e);
		if (s)
			s->refs++;
		*error = s ? 0 : find_pattern(e, name, name_size, client, &copy);
		reloads = e->reloads;
		if (!s && *error == 0)
			LIST_INSERT_HEAD(&e->opening, &me, link);
		pthread_mutex_unlock(&e->lock);
		if (s || *error < 0)
			return s;

		s = open_instance(e, &copy, reloads, error);
		config_export_deinit(&copy);
		pthread_mutex_lock(&e->lock);
		LIST_REMOVE(&me, link);
		pthread_cond_broadcast(&e->changed);
		pthread_mutex_unlock(&e->lock);
	} while (*error == -EAGAIN);
	return s;
}

void exports_visit(struct exports *e, void (*visit)(struct served *s, void *arg), void *arg)
{
	struct served *s;

	pthread_mutex_lock(&e->lock);
	TAILQ_FOREACH (s, &e->all, link)
		visit(s, arg);
	pthread_mutex_unlock(&e->lock);
}
