/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One thread and the connections that are its own. Everything that happens to a connection
 * happens on its loop's thread, so nothing of a connection needs a lock; other threads send the
 * loop a task. How a loop waits for sockets and files is its engine's: io_uring (ring.c), or
 * epoll with the pool's threads for files (poll.c).
 *
 * A turn of the loop: wait; take what came, each connection in its turn and none for long; send
 * the replies; start the syncs that were asked for. So what arrives together is written, synced
 * and answered together.
 */
#ifndef NBDSERVE_LOOP_H
#define NBDSERVE_LOOP_H

#include "base/clock.h"
#include "base/container.h"
#include "out.h"

#include <pthread.h>

struct conn;
struct job;
struct commit;
struct pool;
struct loop;
TAILQ_HEAD(conn_list, conn);

/* Something to be run on a loop's thread, once. It may be posted again when it has run. */
struct task {
	struct task *next;
	void (*run)(struct task *t);
};

/* A call that may block, for a thread of the pool (pool.h). */
struct work {
	STAILQ_ENTRY(work) link;
	void (*run)(struct work *w); /* on a thread of the pool */
	int fd;                      /* of the image that it may wait for; -1: of none */
	struct task done;            /* on the loop, afterwards */
	struct loop *loop;
};

enum disk_kind { DISK_READ, DISK_WRITE, DISK_SYNC };

/* A call on a file that may block, and may be the engine's to carry out. */
struct disk_op {
	enum disk_kind kind;
	int fd;
	uint8_t *data;
	size_t size, moved;
	uint64_t offset;
	int result; /* 0 or negative errno; -ENODATA: the file ended */
	/* the engine's own */
	struct loop *loop;
	struct work work;
	atomic_bool is_cancelled;
	void (*done)(struct disk_op *op);
};

struct engine {
	const char *name;
	bool is_blocking; /* sockets have no O_NONBLOCK */
	/* On the loop's thread. 0 or negative errno. */
	int (*open)(struct loop *l);
	void (*close)(struct loop *l);
	/* A new connection, whose fd stays open until remove(). 0 or negative errno. */
	int (*add)(struct loop *l, struct conn *c);
	void (*remove)(struct loop *l, struct conn *c);
	/*
	 * Asks for input, once: conn_input() or conn_filled() or conn_ended() follows. With
	 * c->target_size the bytes go to c->target, else to a buffer of the loop's.
	 */
	void (*receive)(struct loop *l, struct conn *c);
	/* Asks, once, for conn_has_room() when the socket takes more. */
	void (*await_room)(struct loop *l, struct conn *c);
	/* op->done follows, never from within this call. */
	void (*submit)(struct loop *l, struct disk_op *op);
	/* Nobody wants its result any more: it may end early, with -ECANCELED. */
	void (*cancel)(struct loop *l, struct disk_op *op);
	/*
	 * Waits until something happens or until deadline_ns, and tells about all of it; 0: looks
	 * without waiting. Returns whether there was anything.
	 */
	bool (*wait)(struct loop *l, uint64_t deadline_ns);
};

extern const struct engine engine_io_uring;
extern const struct engine engine_epoll;

/* Whether the kernel lets us use io_uring as ring.c needs it; why not, in words. */
bool ring_is_usable(char *why, size_t why_size);

enum {
	/* What a loop looks at now and then: connections with a deadline, held requests. */
	LOOP_TICK_MS = 250,
	/* A turn's input, whose same memory stays in the processor's cache. */
	LOOP_INPUT_SIZE = 512 * 1024,
};

struct loop {
	const struct engine *engine;
	void *ring; /* the engine's own */
	struct pool *pool;
	pthread_t thread;
	unsigned index;
	int wake_fd; /* eventfd: a task was posted */
	_Atomic(struct task *) inbox;
	struct task *own, **own_end; /* posted by the loop's own thread, in order */

	struct chunk_cache chunks;
	uint8_t *input;         /* LOOP_INPUT_SIZE bytes, for one connection at a time */
	struct conn_list conns; /* all */
	struct conn_list ready; /* with input that was received and not looked at yet */
	struct conn_list dirty; /* with replies to send at the end of the turn */
	struct conn_list timed; /* with a deadline */
	struct conn_list dead; /* ended in this turn; events may still name them until it is over */
	STAILQ_HEAD(, commit) commits; /* to be started at the end of the turn */
	TAILQ_HEAD(, job) held;        /* waiting for a disk with room */
	uint64_t now_ns;               /* of this turn */
	/* see spin() in loop.c: waits that are not to be spun, and how many after the next failure
	 */
	unsigned spin_pause, spin_penalty;
	bool may_spin;
	unsigned n_jobs;     /* of all connections, without those whose data is still to come */
	uint64_t tick_ns;    /* the next look at timed and held */
	atomic_uint n_conns; /* for whoever spreads connections */
	bool is_ending;
};

/*
 * Starts a thread. 0 or negative errno, which is the engine's too. may_spin: there is a processor
 * for somebody else while this thread looks whether there is something to do.
 */
int loop_start(struct loop *l, const struct engine *engine, unsigned index, struct pool *pool,
	       struct memory *memory, bool may_spin) _must_check_;

/* Ends it. It must have no connections any more. From another thread. */
void loop_end(struct loop *l);

/* Has the loop run a task. From any thread; t must stay until it has run. */
void loop_post(struct loop *l, struct task *t);

/* Runs what was posted; for engines, when wake_fd was readable. */
void loop_run_tasks(struct loop *l);

#endif
