/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When does a machine have to be ended without its disk? Decides, and does nothing: pure, time is
 * an argument (way-down.h does it). Two things can end it while the server is away: a shutdown
 * that somebody has asked for, which PID 1 cannot carry out when its own pages are on that disk;
 * and an outage that is longer than the administrator wants to wait for. A shutdown that goes its
 * ordinary way is nobody's business here.
 */
#ifndef NBDCLIENT_ENDING_H
#define NBDCLIENT_ENDING_H

#include "base/clock.h"

#include <stdbool.h>
#include <stddef.h>

enum ending_verb { ENDING_NOT_ASKED, ENDING_RESTART, ENDING_POWER_OFF, ENDING_HALT };

/* What a shutdown does to a device whose server stays away. */
enum ending_role {
	ENDING_WAITS,   /* nothing: somebody else will see to it */
	ENDING_LETS_GO, /* the device fails, so that the others' way down goes on */
	ENDING_ENDS,    /* the root is on it: the machine is ended from here */
};

enum ending_todo {
	ENDING_DO_NOTHING,
	ENDING_DO_SAY,     /* a shutdown was asked for, the server is away: say how long we wait */
	ENDING_DO_PASS_ON, /* the keys meant PID 1, which can do its work again: tell it */
	ENDING_DO_LET_GO,  /* of the device */
	ENDING_DO_END,     /* end the machine as ending.asked says */
	ENDING_DO_RESTART, /* the outage is too long */
};

/* From the moment when both are so, the shutdown asked for and the server away. */
#define ENDING_PATIENCE_NS (30 * CLOCK_NS_PER_S)
/* The device with the root waits for the others' last words. */
#define ENDING_LAST_NS (1 * CLOCK_NS_PER_S)
/* Nobody shuts down for longer than this with a server that is there: it was called off. */
#define ENDING_FORGET_NS (900 * CLOCK_NS_PER_S)
/* A shutdown does not begin to wait anew for a server that was back for less than this. */
#define ENDING_STEADY_NS (10 * CLOCK_NS_PER_S)

struct ending {
	/* set by whoever starts it; all zero: nothing ever ends */
	enum ending_role role;
	unsigned outage_s; /* restart after an outage of this length; 0: wait for ever */

	/* private */
	bool is_away;
	uint64_t away_ns;    /* since when */
	uint64_t trouble_ns; /* since when with short returns only */
	uint64_t back_ns;    /* the last return; 0: there was none */
	enum ending_verb asked;
	uint64_t asked_ns;
	bool by_keys; /* asked with Ctrl-Alt-Del, of which PID 1 knows nothing */
	bool has_said;
	bool is_over; /* it was tried; once is enough */
};

/* Somebody wants the machine to be shut down. The first request sets the time, the last the way. */
void ending_ask(struct ending *e, enum ending_verb verb, bool by_keys, uint64_t now_ns);

/* It was called off. */
void ending_call_off(struct ending *e);

/* What to do now; is_away: the device has no server that answers. Ask again until it is nothing. */
enum ending_todo ending_step(struct ending *e, bool is_away, uint64_t now_ns);

/* When to ask again at the latest; CLOCK_NEVER. */
uint64_t ending_deadline(const struct ending *e);

/*
 * Our own /run/initramfs/shutdown by its command line (of /proc/PID/cmdline: words that end with a
 * zero byte): "/shutdown poweroff".
 */
enum ending_verb ending_of_shutdown_program(const char *cmdline, size_t size);

/*
 * sysvinit's shutdown(8) by its command line: "shutdown -r now". It calls sync(2) before it tells
 * anybody else, and waits there while the server is away. One that waits for its time, or only
 * pretends (-k), asks for nothing.
 */
enum ending_verb ending_of_shutdown(const char *cmdline, size_t size);

/*
 * The run level in the head of /run/utmp: sysvinit writes it there before anything else, and may
 * come no further when the next thing that it writes to is on a root that is away.
 */
enum ending_verb ending_of_utmp(const char *data, size_t size);

/* The name of a request in /run/nbdclient/down: "reboot". */
enum ending_verb ending_of_name(const char *name);

/* "restart", "power off": for log lines. */
const char *ending_name(enum ending_verb verb);

#endif
