/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See loop.h. */
#include "loop.h"

#include "commit.h"
#include "conn.h"
#include "job.h"
#include "thread.h"

#include <string.h>
#include <sys/eventfd.h>

enum { STACK = 512 * 1024, SPIN_PENALTY_MAX = 4096 };

/* Twice what it takes to be woken in a virtual machine, there and back. */
#define SPIN_NS (100 * UINT64_C(1000))

/* The loop whose thread this is, if any. */
static _Thread_local struct loop *here;

void loop_post(struct loop *l, struct task *t)
{
	struct task *head;

	if (l == here) { /* it is awake, and will not sleep before it has looked */
		t->next = NULL;
		*l->own_end = t;
		l->own_end = &t->next;
		return;
	}
	head = atomic_load_explicit(&l->inbox, memory_order_relaxed);
	do
		t->next = head;
	while (!atomic_compare_exchange_weak_explicit(&l->inbox, &head, t, memory_order_release,
						      memory_order_relaxed));
	/* Whoever finds it empty wakes the loop; those who come before it looks need not. */
	if (!head)
		(void)eventfd_write(l->wake_fd, 1);
}

void loop_run_tasks(struct loop *l)
{
	struct task *list = atomic_exchange_explicit(&l->inbox, NULL, memory_order_acquire);
	struct task *in_order = NULL;

	while (list) { /* it is a stack: the last one came first */
		struct task *t = list;

		list = t->next;
		t->next = in_order;
		in_order = t;
	}
	while (in_order) {
		struct task *t = in_order;

		in_order = t->next; /* t may be gone, or posted again, once it has run */
		t->run(t);
	}
}

static void run_own_tasks(struct loop *l)
{
	struct task *t;

	while ((t = l->own)) {
		l->own = t->next;
		if (!l->own)
			l->own_end = &l->own;
		t->run(t);
	}
}

/* Those that are ready now, once each: who is ready again has its turn in the next one. */
static void continue_ready(struct loop *l)
{
	struct conn *c;
	size_t n = 0;

	TAILQ_FOREACH (c, &l->ready, ready_link)
		n++;
	for (; n > 0 && (c = TAILQ_FIRST(&l->ready)); n--) {
		TAILQ_REMOVE(&l->ready, c, ready_link);
		c->is_ready = false;
		conn_continue(c);
	}
}

static void send_replies(struct loop *l)
{
	struct conn *c;

	while ((c = TAILQ_FIRST(&l->dirty))) {
		TAILQ_REMOVE(&l->dirty, c, dirty_link);
		c->is_dirty = false;
		conn_flush(c);
	}
}

static void start_commits(struct loop *l)
{
	struct commit *c;

	while ((c = STAILQ_FIRST(&l->commits))) {
		STAILQ_REMOVE_HEAD(&l->commits, link);
		commit_start(c, l);
	}
}

static void tick(struct loop *l)
{
	if (TAILQ_EMPTY(&l->timed) && TAILQ_EMPTY(&l->held)) {
		l->tick_ns = CLOCK_NEVER;
		return;
	}
	if (l->tick_ns == CLOCK_NEVER) {
		l->tick_ns = l->now_ns + LOOP_TICK_MS * CLOCK_NS_PER_MS;
	} else if (l->now_ns >= l->tick_ns) {
		l->tick_ns = l->now_ns + LOOP_TICK_MS * CLOCK_NS_PER_MS;
		conn_tick(l);
		job_retry_held(l);
	}
}

/*
 * Looks for a moment whether something comes, before it sleeps: to be woken on another processor
 * takes longer than most clients need for their next request. Where it was in vain it is not tried
 * again for a while, which grows: so it costs nothing with slow clients, or with those that would
 * need this processor themselves.
 */
static bool spin(struct loop *l)
{
	uint64_t until_ns;

	if (!l->may_spin || l->n_jobs > 0) /* a disk takes longer than this */
		return false;
	if (l->spin_pause > 0) {
		l->spin_pause--;
		return false;
	}
	until_ns = clock_now_ns() + SPIN_NS;
	do
		if (l->engine->wait(l, 0)) {
			l->spin_penalty = 1;
			return true;
		}
	while (l->now_ns < until_ns);
	l->spin_pause = l->spin_penalty;
	if (l->spin_penalty < SPIN_PENALTY_MAX)
		l->spin_penalty *= 2;
	return false;
}

static void wait_for_something(struct loop *l)
{
	bool has_work = !TAILQ_EMPTY(&l->ready) || l->own;

	if (has_work)
		l->engine->wait(l, 0);
	else if (!spin(l))
		l->engine->wait(l, l->tick_ns);
}

static void run(struct loop *l)
{
	while (!l->is_ending || !TAILQ_EMPTY(&l->conns)) {
		wait_for_something(l);
		continue_ready(l);
		run_own_tasks(l);
		send_replies(l);
		start_commits(l);
		tick(l);
		conn_bury(l);
	}
}

struct start {
	struct loop *loop;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int result; /* 1: not known yet */
};

static void *loop_thread(void *arg)
{
	struct start *s = arg;
	struct loop *l = s->loop;
	int r;

	here = l;
	l->now_ns = clock_now_ns();
	r = l->engine->open(l);
	pthread_mutex_lock(&s->lock);
	s->result = r;
	pthread_cond_signal(&s->changed);
	pthread_mutex_unlock(&s->lock); /* s is gone from here on */
	if (r < 0)
		return NULL;
	run(l);
	l->engine->close(l);
	return NULL;
}

int loop_start(struct loop *l, const struct engine *engine, unsigned index, struct pool *pool,
	       struct memory *memory, bool may_spin)
{
	struct start s = { .loop = l, .result = 1 };
	int r;

	*l = (struct loop){
		.engine = engine,
		.pool = pool,
		.index = index,
		.conns = TAILQ_HEAD_INITIALIZER(l->conns),
		.ready = TAILQ_HEAD_INITIALIZER(l->ready),
		.dirty = TAILQ_HEAD_INITIALIZER(l->dirty),
		.dead = TAILQ_HEAD_INITIALIZER(l->dead),
		.timed = TAILQ_HEAD_INITIALIZER(l->timed),
		.held = TAILQ_HEAD_INITIALIZER(l->held),
		.commits = STAILQ_HEAD_INITIALIZER(l->commits),
		.tick_ns = CLOCK_NEVER,
		.may_spin = may_spin,
		.spin_penalty = 1,
	};
	l->own_end = &l->own;
	l->input = malloc(LOOP_INPUT_SIZE);
	if (!l->input)
		return -ENOMEM;
	chunk_cache_init(&l->chunks, memory);
	l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->wake_fd < 0) {
		free(l->input);
		return -errno;
	}
	pthread_mutex_init(&s.lock, NULL);
	pthread_cond_init(&s.changed, NULL);
	r = -thread_start(&l->thread, STACK, loop_thread, &s);
	if (r == 0) {
		pthread_mutex_lock(&s.lock);
		while (s.result == 1)
			pthread_cond_wait(&s.changed, &s.lock);
		r = s.result;
		pthread_mutex_unlock(&s.lock);
		if (r < 0)
			pthread_join(l->thread, NULL);
	}
	pthread_cond_destroy(&s.changed);
	pthread_mutex_destroy(&s.lock);
	if (r < 0) {
		close(l->wake_fd);
		free(l->input);
	}
	return r;
}

struct end {
	struct task task;
	struct loop *loop;
};

static void end(struct task *t)
{
	((struct end *)t)->loop->is_ending = true;
}

void loop_end(struct loop *l)
{
	struct end e = { .task.run = end, .loop = l };

	loop_post(l, &e.task);
	pthread_join(l->thread, NULL);
	chunk_cache_deinit(&l->chunks);
	free(l->input);
	close(l->wake_fd);
}
