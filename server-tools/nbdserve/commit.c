/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See commit.h. */
#include "commit.h"

static void sync_done(struct disk_op *op);

void commit_init(struct commit *c, int fd, void *owner, void (*on_error)(void *, int))
{
	*c = (struct commit){
		.fd = fd,
		.owner = owner,
		.on_error = on_error,
		.waiting = STAILQ_HEAD_INITIALIZER(c->waiting),
		.covered = STAILQ_HEAD_INITIALIZER(c->covered),
		/* what a server that was killed has left behind is ours to make durable */
		.is_dirty = true,
	};
	pthread_mutex_init(&c->lock, NULL);
}

void commit_deinit(struct commit *c)
{
	pthread_mutex_destroy(&c->lock);
}

/* Tells all in list, wherever they are. */
static void tell(struct commit_list *list, int result)
{
	struct commit_wait *w;

	while ((w = STAILQ_FIRST(list))) {
		STAILQ_REMOVE_HEAD(list, link);
		w->result = result;
		loop_post(w->loop, &w->task);
	}
}

/* With the lock held: the sync will start at the end of l's turn. */
static void schedule(struct commit *c, struct loop *l)
{
	c->is_scheduled = true;
	STAILQ_INSERT_TAIL(&l->commits, c, link);
}

void commit_add(struct commit *c, struct commit_wait *w)
{
	struct commit_list list = STAILQ_HEAD_INITIALIZER(list);
	int error;

	pthread_mutex_lock(&c->lock);
	error = c->error;
	if (error == 0) {
		STAILQ_INSERT_TAIL(&c->waiting, w, link);
		if (!c->is_scheduled && !c->is_running)
			schedule(c, w->loop);
	} else {
		STAILQ_INSERT_TAIL(&list, w, link);
	}
	pthread_mutex_unlock(&c->lock);
	tell(&list, error);
}

void commit_start(struct commit *c, struct loop *l)
{
	pthread_mutex_lock(&c->lock);
	c->is_scheduled = false;
	c->is_running = true;
	STAILQ_CONCAT(&c->covered, &c->waiting);
	atomic_store(&c->is_dirty, false);
	pthread_mutex_unlock(&c->lock);
	c->loop = l;
	c->op = (struct disk_op){ .kind = DISK_SYNC, .fd = c->fd, .done = sync_done };
	l->engine->submit(l, &c->op);
}

static void sync_done(struct disk_op *op)
{
	struct commit *c = container_of(op, struct commit, op);
	struct commit_list done = STAILQ_HEAD_INITIALIZER(done);
	struct loop *l = c->loop;
	int error = op->result;

	if (error < 0)
		c->on_error(c->owner, error);
	pthread_mutex_lock(&c->lock);
	c->is_running = false;
	STAILQ_CONCAT(&done, &c->covered);
	if (error < 0) {
		c->error = error;
		STAILQ_CONCAT(&done, &c->waiting);
	} else if (!STAILQ_EMPTY(&c->waiting)) {
		schedule(c, l);
	}
	pthread_mutex_unlock(&c->lock);
	tell(&done, error);
}

bool commit_is_clean(struct commit *c)
{
	bool is_clean;

	pthread_mutex_lock(&c->lock);
	is_clean = c->error == 0 && !c->is_running && !atomic_load(&c->is_dirty);
	pthread_mutex_unlock(&c->lock);
	return is_clean;
}

void commit_clear_error(struct commit *c)
{
	pthread_mutex_lock(&c->lock);
	c->error = 0;
	atomic_store(&c->is_dirty, true);
	pthread_mutex_unlock(&c->lock);
}
