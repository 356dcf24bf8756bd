/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The exports of a running server: each image opened and locked once, with its group commit, its
 * lease and its figures. The table may change while the server runs (a reload, a pattern's name
 * that is used for the first time), so whoever uses an export holds a reference. What does not
 * fit the export is refused before it comes here (nbd_request_check()).
 */
#ifndef NBDSERVE_EXPORTS_H
#define NBDSERVE_EXPORTS_H

#include "commit.h"
#include "config.h"
#include "lease.h"
#include "proto/reply.h"
#include "report.h"
#include "store.h"

struct served {
	struct served *next_by_name, *next_by_image; /* in the table's chains */
	TAILQ_ENTRY(served) link;                    /* in the configuration's order */
	struct exports *table;
	struct store_id id;
	unsigned refs;    /* under the table's lock; 0: it is being closed, or kept for its latch */
	bool is_instance; /* of a pattern: closed when nobody uses it */
	atomic_bool is_removed;      /* by a reload */
	struct config_export config; /* its own */
	struct nbd_export_info info;
	uint8_t image_id[16];
	struct store *store;
	struct commit commit;
	struct lease lease; /* of a writable export */

	/* what the store has shown of itself */
	atomic_bool has_no_nowait;    /* reads cannot be tried without waiting */
	atomic_bool has_no_cachestat; /* nor asked whether they would wait */
	_Atomic uint64_t slow_until_ns;

	pthread_mutex_t lock; /* of what follows */
	uint64_t held, hold_logged_ns;
	int held_errno;
	int logged_errno; /* so that a broken disk does not fill the log */
	uint64_t logged_ns;
	char last_error[REPORT_TEXT_MAX];
	struct stats closed; /* of connections that have ended */
	uint64_t connections;
	struct stats_latency *latency; /* one for each loop */
	size_t report_index;           /* the main thread's, see snapshot.c */
};

enum { EXPORTS_BUCKETS = 4096 };

struct opening;

struct exports {
	pthread_mutex_t lock;
	pthread_cond_t changed;       /* an image was opened or closed */
	LIST_HEAD(, opening) opening; /* of patterns, just now */
	uint64_t reloads;
	unsigned n_loops;
	TAILQ_HEAD(, served) all;
	struct served *by_name[EXPORTS_BUCKETS];
	struct served *by_image[EXPORTS_BUCKETS];
	struct config_export *patterns;
	size_t n_patterns;
};

/*
 * Opens all images; logs its errors itself. goes_on: when one cannot be opened the others are
 * served nevertheless.
 */
int exports_open(struct exports *e, const struct config *config, unsigned n_loops,
		 bool goes_on) _must_check_;
void exports_close(struct exports *e);

/* Whether all images are there and may be opened, as far as can be told without. Logs. */
int exports_check(const struct config *config) _must_check_;

/*
 * A reload in two steps. The first forgets what the new configuration does not have as it is, and
 * returns it as a list by next_by_name, with a reference each for the caller, who cuts its users
 * off and puts them; what has stayed gets its new rules of admission. The second opens what is
 * new, when the forgotten are gone or deadline_ns has come: -1 with words in err when an image
 * could not be opened; all others are as the configuration says.
 */
void exports_reload_keep(struct exports *e, struct config *config, struct served **removed);
int exports_reload_open(struct exports *e, struct config *config, uint64_t deadline_ns,
			char err[static CONFIG_ERROR_MAX]) _must_check_;

/*
 * By name, which may hold any bytes; NULL when there is none. *pattern is set then when the name
 * is one of a pattern's, and exports_open_instance() may find it. The reference is the caller's.
 */
struct served *exports_find(struct exports *e, const char *name, size_t name_size,
			    bool *is_pattern);

/*
 * Opens a pattern's image. May block. NULL with negative errno in *error: -ENOENT there is none,
 * -EACCES it is not for this client, else it cannot be opened (logged).
 */
struct served *exports_open_instance(struct exports *e, const char *name, size_t name_size,
				     const struct address *client, int *error);

void served_put(struct served *s);

/* Whether the export's rules admit a client. */
bool served_allows(struct served *s, const struct address *client);

/* Calls visit for each export, with the table's lock held. */
void exports_visit(struct exports *e, void (*visit)(struct served *s, void *arg), void *arg);

/* A change is answered only when it is on stable storage. */
static inline bool served_is_durable(const struct served *s, const struct nbd_request *req)
{
	return s->config.durability == CONFIG_DURABILITY_WRITE || req->flags & NBD_CMD_FLAG_FUA;
}

static inline bool served_holds(const struct served *s)
{
	return s->config.on_full == CONFIG_ON_FULL_HOLD;
}

/* A request waits for a better disk, and does not any more. Both log. */
void served_hold(struct served *s, int error);
void served_unhold(struct served *s, bool is_done);

/* What to answer for a failure, which is logged. */
uint32_t served_failed(struct served *s, const struct nbd_request *req, int error);

/* Enough for a client to get on with: what is left out it asks for again. */
enum { SERVED_EXTENTS_MAX = 4096 };

/* What a pool thread gives a block status in. */
struct served_extents {
	struct nbd_extent *list; /* allocated */
	size_t count;
};

/*
 * Carries out what may take its time: trim, write zeroes, cache, block status. 0 or negative
 * errno; -ENOTSUP for zeroes that cannot be made fast.
 */
int served_carry_out(struct served *s, const struct nbd_request *req, const atomic_bool *cancel,
		     struct served_extents *extents) _must_check_;

/* ---- for reload.c ------------------------------------------------------------------------- */

/* Opens one, which is not in the table yet. Logs; err has the words too. */
struct served *exports_open_one(struct exports *e, const struct config_export *config,
				uint64_t deadline_ns, char err[static CONFIG_ERROR_MAX]);

/* Copies the rules of admission; to's own are not freed. 0 or -ENOMEM. */
int exports_copy_rules(const struct config_export *from, struct config_export *to) _must_check_;

/* All with the table's lock held. */
void exports_insert(struct exports *e, struct served *s);
void exports_remove_name(struct exports *e, struct served *s);
int exports_add_pattern(struct exports *e, const struct config_export *config) _must_check_;
void exports_free_patterns(struct exports *e);

#endif
