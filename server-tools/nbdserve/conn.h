/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One connection from accept to close: it negotiates, takes the export's lease, serves (serve.h)
 * and gives everything back. All of it happens on its loop's thread, except where a field says
 * otherwise.
 *
 * It ends in steps, for others may still use it: first nothing new is begun (LEAVING: what is in
 * flight is answered; CLOSING: it is dropped), then the last request and the last operation of
 * the engine end, then the lease is given back, then the last task that another thread has
 * posted runs, then it is freed.
 */
#ifndef NBDSERVE_CONN_H
#define NBDSERVE_CONN_H

#include "exports.h"
#include "job.h"
#include "proto/handshake-server.h"

enum {
	CONN_HANDSHAKE_S = 10,
	CONN_TAKEOVER_S = 60,    /* how long a newer connection waits for the older one's end */
	CONN_STALL_S = 30,       /* without one byte of a reply taken, or of a payload sent */
	CONN_STALL_SCARCE_S = 5, /* the same, when others wait for the memory that it holds */
	CONN_REASON_MAX = 160,
};

enum conn_state {
	CONN_NEGOTIATING,
	CONN_WAITING, /* for the lease, or for a pattern's image to be opened */
	CONN_SERVING,
	CONN_LEAVING, /* nothing is received any more; what is in flight is answered */
	CONN_CLOSING, /* nor is it answered */
};

struct server;

struct conn {
	struct server *server;
	struct loop *loop;
	int fd;
	uint64_t id;
	struct peer peer;
	enum conn_state state;

	TAILQ_ENTRY(conn) link, ready_link, dirty_link, timed_link; /* of the loop's lists */
	bool is_ready, is_dirty, is_timed;
	TAILQ_ENTRY(conn) server_link, half_open_link; /* under the server's lock */
	bool is_half_open;
	struct served *listed;     /* what it serves, for reports and disconnections */
	atomic_bool is_pushed_out; /* by the server: it was the oldest of too many */

	/* negotiating */
	struct nbd_hss *hss;
	uint64_t deadline_ns, wait_ns;
	struct nbd_session *session;
	/* a pattern's image that is being opened, for the answer to `asked` */
	struct work opening;
	bool is_opening, has_looked;
	enum nbd_hss_event asked;
	struct served *opened;
	int open_error;

	/* serving */
	struct served *served;
	struct nbd_mode mode;
	struct nbd_export_info info;
	struct lease_user user;
	struct task begin; /* on its loop, after accept */
	bool has_lease;
	uint64_t since_ns;
	struct job_list jobs;
	unsigned n_jobs;
	size_t job_bytes;
	struct stats stats;
	unsigned now_answered[STATS_CLASSES]; /* in this turn */
	bool has_answered;                    /* any of them */

	/* input: what serve.c is in the middle of */
	uint8_t head[NBD_EXTENDED_REQUEST_SIZE];
	unsigned head_have;
	struct job *filling; /* its payload is arriving */
	size_t filled;
	struct chunk *ahead; /* a request that is likely to be a long write is received here */
	size_t last_write;
	uint64_t discard; /* bytes of a refused payload that are still to come */
	struct nbd_request refused;
	uint32_t refused_error;
	uint64_t input_ns;  /* when a byte of the payload last came */
	uint64_t output_ns; /* when a byte of a reply last went, or the wait for that began */
	bool is_stalled;    /* not one went since then */
	bool is_paused;     /* it has too much in flight */
	size_t wanted;      /* what it could not take on then */
	/* received, but not looked at yet */
	uint8_t *stash;
	size_t stash_pos, stash_size;

	/* the engine's */
	uint8_t *target; /* where input goes, when target_size is not 0 */
	size_t target_size;
	bool is_receiving, is_awaiting_room;
	bool is_drained; /* the last reception took all there was */
	unsigned n_ops;  /* the kernel or another thread has it */
	uint32_t events; /* poll.c: what is waited for */

	struct out out;

	/* for reports, from the main thread; as of the end of a turn */
	uint64_t accepted_ns;
	_Atomic uint64_t oldest_ns; /* when the oldest request in flight came */
	atomic_uint shown_jobs;
	atomic_size_t shown_unsent;

	bool said_reason, is_finished, cut_seen;
	char reason[CONN_REASON_MAX]; /* why it ends */
};

/* Begins: the greeting is sent. On the loop's thread. */
void conn_start(struct conn *c);

/* ---- from the engines --------------------------------------------------------------------- */

/* Bytes have arrived; they are the engine's again when this returns. */
void conn_input(struct conn *c, const uint8_t *data, size_t size);

/* So many bytes have arrived at c->target. */
void conn_filled(struct conn *c, size_t size);

/*
 * The socket has something: receives it, as far as a turn goes, without waiting. Returns whether
 * there was anything; nothing is no end.
 */
bool conn_receive(struct conn *c);

/* The stream has ended: error is 0, or negative errno. */
void conn_ended(struct conn *c, int error);

/* The socket takes more. */
void conn_has_room(struct conn *c);

/* ---- from the loop ------------------------------------------------------------------------ */

void conn_continue(struct conn *c); /* looks at what is stashed */
void conn_flush(struct conn *c);    /* sends what there is to send */
void conn_tick(struct loop *l);     /* ends those whose time is over */
void conn_bury(struct loop *l);     /* frees those that have ended */
void conn_job_done(struct conn *c, struct job *j);

/* ---- ends --------------------------------------------------------------------------------- */

/* Answers what is in flight, then closes. The first reason that is given is the one that counts. */
_printf_(2, 3) void conn_leave(struct conn *c, const char *fmt, ...);

/* Closes as soon as nothing of it is in flight, without answers. */
_printf_(2, 3) void conn_close(struct conn *c, const char *fmt, ...);

/* Puts it on a list of the loop's. */
void conn_set_ready(struct conn *c);
void conn_set_dirty(struct conn *c);
void conn_set_timed(struct conn *c);

#endif
