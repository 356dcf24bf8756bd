/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The state of the server as plain structs, which the server fills from its own, and their two
 * forms: JSON for the control socket, and the Prometheus text format. A report is a copy: when
 * it is made no lock is held and no connection is looked at any more.
 */
#ifndef NBDSERVE_REPORT_H
#define NBDSERVE_REPORT_H

#include "stats.h"

#include "base/cleanup.h"

#include <stdbool.h>
#include <stdio.h>
#include <time.h>

enum { REPORT_TEXT_MAX = 160 };

enum report_state {
	REPORT_OK,
	REPORT_HOLDING, /* the disk is full: requests wait for room */
	REPORT_LATCHED, /* a sync failed: every flush fails until it is released */
};

struct report_server {
	const char *version; /* texts that outlive the report */
	const char *engine;
	pid_t pid;
	time_t started; /* seconds since 1970 */
	unsigned threads;
	bool is_draining;
	uint64_t memory_used, memory_limit; /* of payloads, bytes */
	uint64_t half_open;                 /* negotiating now */
	/* since the start: */
	uint64_t accepted;
	uint64_t refused;           /* by allow=, by a holder, or for want of such an export */
	uint64_t dropped_half_open; /* too slow, or the oldest of too many */
	uint64_t dropped_deaf;      /* did not read their replies */
	uint64_t dropped_dead;      /* the network said that they are gone */
};

struct report_export {
	const char *name; /* texts that outlive the report */
	const char *path;
	const char *durability; /* "write", "flush" */
	const char *on_full;    /* "hold", "error" */
	uint64_t size;
	bool is_read_only;
	enum report_state state;
	char state_text[REPORT_TEXT_MAX]; /* "fdatasync failed: Input/output error", say */
	uint64_t held;                    /* requests that wait for room on the disk */
	uint64_t connections;
	char holder[REPORT_TEXT_MAX]; /* of a writable export: who writes to it; "": nobody */
	uint64_t reconnections;
	uint64_t in_flight, oldest_in_flight_ns;
	char last_error[REPORT_TEXT_MAX]; /* "": none yet */
	struct stats totals;              /* of closed and of open connections */
	struct stats_latency latency;     /* of all threads */
};

struct report_client {
	uint64_t id; /* never used again in the life of the server */
	char address[REPORT_TEXT_MAX];
	const char *export_name; /* outlives the report; NULL while negotiating */
	uint64_t age_ns;         /* since accept */
	bool is_read_only;
	/* what nbdclient says of itself, "" for other clients */
	char session[REPORT_TEXT_MAX];
	char machine[REPORT_TEXT_MAX];
	char host[REPORT_TEXT_MAX];
	uint64_t in_flight, oldest_in_flight_ns;
	uint64_t unsent; /* bytes of replies that the client has not taken */
	struct stats totals;
};

/* Zero it, fill it, write it, free it. */
struct report {
	struct report_server server;
	struct report_export *exports;
	size_t n_exports;
	struct report_client *clients;
	size_t n_clients;
	struct report_kept *kept; /* see report_keep() */
};

/* A new zeroed element, or NULL without memory. The next call of its kind may move it. */
struct report_export *report_add_export(struct report *r);
struct report_client *report_add_client(struct report *r);
void report_free(struct report *r);

/*
 * A copy of a text that may not outlive the report; the copy does until report_free(). Without
 * memory it is NULL, and so is that of NULL.
 */
const char *report_keep(struct report *r, const char *text);

enum report_part {
	REPORT_SERVER = 1,
	REPORT_EXPORTS = 2,
	REPORT_CLIENTS = 4,
	REPORT_ALL = 7,
};

/*
 * Writes members of a JSON object on one line without its braces: "server":{...},
 * "exports":[...],"clients":[...], those of parts (of enum report_part).
 */
void report_json(FILE *out, const struct report *r, unsigned parts);

/* The text exposition format, version 0.0.4: of the server and of each export. */
void report_prometheus(FILE *out, const struct report *r);

#endif
