/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A reload of the table of exports (exports.h): what has stayed is not touched, what is gone or
 * is served otherwise now is forgotten, what is new is opened.
 */
#include "exports.h"
#include "pattern.h"

#include "base/log.h"

#include <linux/limits.h>
#include <stdio.h>
#include <string.h>

static struct config_export *find_config(struct config *config, const struct served *s)
{
	char path[PATH_MAX];

	for (size_t i = 0; i < config->n_list; i++) {
		struct config_export *ce = &config->list[i];
		struct pattern_values values;

		if (!ce->name) /* kept already */
			continue;
		/* A name that is written out comes before any pattern. */
		if (!ce->is_pattern && strcmp(ce->name, s->config.name) == 0)
			return s->is_instance ? NULL : ce;
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
	struct config_export rules;

	/* Of a pattern find_config() has compared the path that it expands to. */
	if (!ce || !(ce->is_pattern ? config_export_is_served_alike(ce, &s->config)
				    : config_export_same_image(ce, &s->config)))
		return false;
	if (exports_copy_rules(ce, &rules) < 0)
		return true; /* with its present rules */
	pthread_mutex_lock(&s->lock);
	free(s->config.allow);
	s->config.allow = rules.allow;
	s->config.n_allow = rules.n_allow;
	s->config.has_allow = rules.has_allow;
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
	exports_remove_name(e, s);
	atomic_store(&s->is_removed, true);
}

void exports_reload_keep(struct exports *e, struct config *config, struct served **removed)
{
	struct served *s, *next;

	*removed = NULL;
	pthread_mutex_lock(&e->lock);
	e->reloads++;
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
	exports_free_patterns(e);
	for (size_t i = 0; i < config->n_list; i++)
		if (config->list[i].name && config->list[i].is_pattern &&
		    exports_add_pattern(e, &config->list[i]) < 0)
			log_error("out of memory: some exports are not served");
	pthread_mutex_unlock(&e->lock);
}

static bool open_new(struct exports *e, const struct config_export *ce, uint64_t deadline_ns,
		     char *why)
{
	struct served *s = exports_open_one(e, ce, deadline_ns, why);

	if (!s)
		return false;
	pthread_mutex_lock(&e->lock);
	exports_insert(e, s);
	pthread_mutex_unlock(&e->lock);
	return true;
}

int exports_reload_open(struct exports *e, struct config *config, uint64_t deadline_ns,
			char err[static CONFIG_ERROR_MAX])
{
	int result = 0;

	for (size_t i = 0; i < config->n_list; i++) {
		char why[CONFIG_ERROR_MAX];

		if (config->list[i].name && !config->list[i].is_pattern &&
		    !open_new(e, &config->list[i], deadline_ns, why) && result == 0) {
			snprintf(err, CONFIG_ERROR_MAX, "%s", why);
			result = -1;
		}
	}
	return result;
}
