/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See way-down.h. */
#include "way-down.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/spare.h"
#include "client.h"
#include "link.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/klog.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define FOLDER "/run/nbdclient"
#define REQUESTS FOLDER "/down"

enum {
	LOOK_MS = 1000,
	CONSOLE_MS = 300, /* for the last line to get out: a serial line is slow */
	PATIENCE_S = ENDING_PATIENCE_NS / CLOCK_NS_PER_S,
};

static char spared[64]; /* our file in SPARE_FOLDER */
/* The ways there lead through a root that is left later. */
static int run_fd = -1, proc_fd = -1;

/* Its Ctrl-C is a SIGINT of the kernel, too. */
static bool has_terminal(void)
{
	_cleanup_close_ int fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);

	return fd >= 0;
}

void way_down_open(struct way_down *w, enum ending_role role, unsigned outage_s)
{
	*w = (struct way_down){ .ending = { .role = role, .outage_s = outage_s },
				.watch_fd = -1,
				.keys_fd = -1,
				.memory_fd = -1 };
	if (role == ENDING_WAITS && outage_s == 0)
		return;
	w->memory_fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
	if (role == ENDING_WAITS)
		return;
	if (role == ENDING_ENDS && !has_terminal())
		w->keys_fd = open("/proc/sys/kernel/cad_pid", O_RDWR | O_CLOEXEC);
	w->has_keys = w->keys_fd >= 0; /* perhaps one before us had them */
	(void)mkdir(FOLDER, 0755);
	(void)mkdir(REQUESTS, 0755);
	w->watch_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (w->watch_fd < 0 ||
	    inotify_add_watch(w->watch_fd, REQUESTS, IN_CREATE | IN_DELETE | IN_MOVED_FROM) < 0)
		log_warn("cannot watch " REQUESTS ": %s (while the server is away, a shutdown that "
			 "is asked of systemd is not noticed)",
			 strerror(errno));
}

void way_down_spare(pid_t helper)
{
	char text[32];

	run_fd = open("/run", O_PATH | O_DIRECTORY | O_CLOEXEC);
	proc_fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	snprintf(spared, sizeof(spared), SPARE_FOLDER "/nbdclient.%d", (int)getpid());
	snprintf(text, sizeof(text), helper > 0 ? "%d\n%d\n" : "%d\n", (int)getpid(), (int)helper);
	if (fd_create_file(spared, text) < 0)
		log_debug("%s: cannot be written (no /run?)", spared);
}

static bool is_away(const struct client *c)
{
	const struct session *s = &c->session;

	if (!s->was_attached || s->link == LINK_DETACHING)
		return false;
	return s->link == LINK_NONE || s->link == LINK_SUSPECT;
}

/* ---- Ctrl-Alt-Del ------------------------------------------------------------------------- */

static void set_keys(struct client *c, pid_t pid)
{
	char text[16];
	int n = snprintf(text, sizeof(text), "%d\n", (int)pid);

	if (pwrite(c->down.keys_fd, text, (size_t)n, 0) < 0)
		log_debug("%s: the kernel does not let Ctrl-Alt-Del go elsewhere: %s", c->name,
			  strerror(errno));
	else
		c->down.has_keys = pid != 1;
}

static bool is_alive(pid_t pid)
{
	return kill(pid, 0) == 0 || errno != ESRCH;
}

/*
 * Nobody but PID 1, or one of us that was killed, may lose them to us; and they are given back
 * only if they are still ours.
 */
static void look_at_keys(struct client *c, bool away)
{
	char text[16];
	ssize_t n;
	pid_t owner;

	if (c->down.keys_fd < 0)
		return;
	n = pread(c->down.keys_fd, text, sizeof(text) - 1, 0);
	text[n > 0 ? n : 0] = '\0';
	owner = (pid_t)strtol(text, NULL, 10);
	if (owner != 1 && !is_alive(owner))
		set_keys(c, away ? getpid() : 1);
	else if (away && owner == 1)
		set_keys(c, getpid());
	else if (!away && owner == getpid())
		set_keys(c, 1);
	else
		c->down.has_keys = owner == getpid();
}

void way_down_close(struct client *c)
{
	if (c->down.has_keys)
		look_at_keys(c, false);
	if (run_fd >= 0)
		(void)unlinkat(run_fd, spared + strlen("/run/"), 0);
}

/* ---- requests ----------------------------------------------------------------------------- */

/* A file of a file system in memory, as a string; the way there does not lead through the root. */
static size_t read_in(int folder_fd, const char *path, char *out, size_t size)
{
	_cleanup_close_ int fd = openat(folder_fd, path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, out, size - 1);

	out[n > 0 ? n : 0] = '\0';
	return n > 0 ? (size_t)n : 0;
}

/* The name of process 1, without the newline. */
static void read_init_name(char *out, size_t size)
{
	size_t n = read_in(proc_fd, "1/comm", out, size);

	if (n > 0)
		out[n - 1] = '\0';
}

/* systemd signals nobody at a shutdown, for that it becomes another program: `systemctl kill`. */
static bool is_of_systemctl(void)
{
	char name[32];

	read_init_name(name, sizeof(name));
	return strcmp(name, "systemd") == 0;
}

bool way_down_on_signal(struct client *c, const struct signalfd_siginfo *si)
{
	struct ending *e = &c->down.ending;

	if (e->role == ENDING_WAITS)
		return false;
	if (si->ssi_signo == SIGINT && si->ssi_code == SI_KERNEL && c->down.keys_fd >= 0)
		ending_ask(e, ENDING_RESTART, true, clock_now_ns());
	else if (si->ssi_signo == SIGTERM && si->ssi_pid == 1 && !is_of_systemctl())
		ending_ask(e, e->asked == ENDING_NOT_ASKED ? ENDING_RESTART : e->asked, false,
			   clock_now_ns());
	else
		return false;
	return true;
}

void way_down_on_watch(struct client *c)
{
	char events[1024] __attribute__((aligned(__alignof__(struct inotify_event))));
	const struct inotify_event *ev;
	ssize_t n = read(c->down.watch_fd, events, sizeof(events));

	for (char *p = events; n > 0 && p < events + n; p += sizeof(*ev) + ev->len) {
		enum ending_verb verb;

		ev = (const struct inotify_event *)p;
		verb = ev->len > 0 ? ending_of_name(ev->name) : ENDING_NOT_ASKED;
		if (verb == ENDING_NOT_ASKED)
			continue;
		if (ev->mask & IN_CREATE)
			ending_call_off(&c->down.ending);
		else
			ending_ask(&c->down.ending, verb, false, clock_now_ns());
	}
}

/*
 * Never lightly: for its command line a process is asked for its memory, and one that sleeps inside
 * mmap(2) of a file of the root keeps whoever asks waiting, until the server is back.
 */
static size_t read_cmdline(const char *pid, char *out, size_t size)
{
	char path[32];

	snprintf(path, sizeof(path), "%.16s/cmdline", pid);
	return read_in(proc_fd, path, out, size);
}

/* Whether it is shutdown(8), asleep in sync(2); then its memory is nobody's. */
static bool is_in_sync(const char *pid)
{
	char path[32], text[2048];

	snprintf(path, sizeof(path), "%.16s/comm", pid);
	if (read_in(proc_fd, path, text, sizeof(text)) == 0 || strcmp(text, "shutdown\n") != 0)
		return false;
	snprintf(path, sizeof(path), "%.16s/stack", pid);
	return read_in(proc_fd, path, text, sizeof(text)) > 0 && strstr(text, "sys_sync");
}

/* Of sysvinit: what it has left in memory, else who is about to tell it. */
static enum ending_verb ask_sysvinit(void)
{
	/* See getdents64(2); readdir(3) would want memory. */
	struct entry {
		uint64_t ino;
		int64_t off;
		uint16_t size;
		uint8_t type;
		char name[];
	} * d;
	static char entries[4096] __attribute__((aligned(8)));
	char data[4096];
	size_t n = read_in(run_fd, "utmp", data, sizeof(data));
	enum ending_verb verb = ending_of_utmp(data, n);
	long got;

	(void)lseek(proc_fd, 0, SEEK_SET);
	while (verb == ENDING_NOT_ASKED &&
	       (got = syscall(SYS_getdents64, proc_fd, entries, sizeof(entries))) > 0)
		for (long at = 0; at < got && verb == ENDING_NOT_ASKED; at += d->size) {
			d = (struct entry *)(entries + at);
			if (d->name[0] < '1' || d->name[0] > '9' || !is_in_sync(d->name))
				continue;
			n = read_cmdline(d->name, data, sizeof(data));
			verb = ending_of_shutdown(data, n);
		}
	return verb;
}

static void look_at_init(struct client *c, uint64_t now_ns)
{
	struct ending *e = &c->down.ending;
	enum ending_verb verb = ENDING_NOT_ASKED;
	char text[128];
	size_t n;

	read_init_name(text, sizeof(text));
	if (strcmp(text, "init") == 0) {
		verb = ask_sysvinit();
	} else if (strcmp(text, "shutdown") == 0) { /* ours, which maps no files */
		n = read_cmdline("1", text, sizeof(text));
		verb = ending_of_shutdown_program(text, n);
	} else if (strcmp(text, "systemd-shutdow") == 0 && e->asked == ENDING_NOT_ASKED) {
		verb = ENDING_RESTART;
	}
	if (verb != ENDING_NOT_ASKED)
		ending_ask(e, verb, false, now_ns);
}

/* ---- doing it ----------------------------------------------------------------------------- */

/* The number behind a name in /proc/meminfo. */
static uint64_t memory_kb(const char *meminfo, const char *name)
{
	const char *line = strstr(meminfo, name);

	return line ? strtoull(line + strlen(name), NULL, 10) : 0;
}

/* What is lost, as far as anybody can know. */
static void say_lost(const struct client *c, char *out, size_t size)
{
	char text[2048];
	uint64_t in_flight = kernel_in_flight(&c->files);
	ssize_t n = pread(c->down.memory_fd, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	snprintf(out, size,
		 "NOT WRITTEN: %" PRIu64 " requests in flight, and up to %" PRIu64
		 " KiB in memory of this and other file systems",
		 in_flight, memory_kb(text, "\nDirty:") + memory_kb(text, "\nWriteback:"));
}

static uint64_t away_s(const struct client *c)
{
	return (clock_now_ns() - c->down.ending.away_ns) / CLOCK_NS_PER_S;
}

static void end_machine(struct client *c, enum ending_verb verb, const char *why)
{
	const struct timespec moment = { .tv_nsec = CONSOLE_MS * CLOCK_NS_PER_MS };
	char lost[200];
	int how = RB_AUTOBOOT;

	if (verb == ENDING_POWER_OFF)
		how = RB_POWER_OFF;
	else if (verb == ENDING_HALT)
		how = RB_HALT_SYSTEM;
	say_lost(c, lost, sizeof(lost));
	(void)klogctl(8, NULL, 7); /* the console's level: it has to be seen there */
	log_error("%s: %s and server %s has been away for %" PRIu64 " s: this machine is ended now "
		  "(%s). %s",
		  c->name, why, client_server(c), away_s(c), ending_name(verb), lost);
	nanosleep(&moment, NULL);
	reboot(how);
	log_error("%s: the kernel refuses to end the machine: %s (do it by hand: write \"b\" to "
		  "/proc/sysrq-trigger)",
		  c->name, strerror(errno));
}

static void let_go(struct client *c)
{
	char lost[200];

	say_lost(c, lost, sizeof(lost));
	log_error("%s: the machine is shut down and server %s has been away for %" PRIu64
		  " s: letting go of the device, its users get errors. %s",
		  c->name, client_server(c), away_s(c), lost);
	link_cut(c);
	client_step(c, EV_DETACH);
}

void way_down_look(struct client *c, uint64_t now_ns)
{
	struct way_down *w = &c->down;
	bool away = is_away(c);
	const char *what;

	if (w->has_keys && !away)
		look_at_keys(c, false);
	if (away && now_ns >= w->next_look_ns && w->ending.role != ENDING_WAITS) {
		w->next_look_ns = now_ns + LOOK_MS * CLOCK_NS_PER_MS;
		look_at_keys(c, true);
		look_at_init(c, now_ns);
	}
	switch (ending_step(&w->ending, away, now_ns)) {
	case ENDING_DO_NOTHING: break;
	case ENDING_DO_SAY:
		what = ending_name(w->ending.asked);
		log_warn("%s: the machine is to %s, but server %s is away (waiting %d s for it, "
			 "then %s)",
			 c->name, what, client_server(c), PATIENCE_S,
			 w->ending.role == ENDING_ENDS
				 ? "the machine is ended without writing what is left"
				 : "the device is let go of, and what is left is not written");
		break;
	case ENDING_DO_PASS_ON:
		log_info("%s: Ctrl-Alt-Del is passed on to process 1", c->name);
		(void)kill(1, SIGINT);
		break;
	case ENDING_DO_LET_GO: let_go(c); break;
	case ENDING_DO_END: end_machine(c, w->ending.asked, "a shutdown was asked for"); break;
	case ENDING_DO_RESTART:
		end_machine(c, ENDING_RESTART, "the outage is longer than --outage allows");
		break;
	}
}

uint64_t way_down_deadline(const struct client *c)
{
	const struct way_down *w = &c->down;
	uint64_t deadline_ns = ending_deadline(&w->ending);

	if (is_away(c) != w->ending.is_away)
		return 0;
	if (w->ending.is_away && w->ending.role != ENDING_WAITS && w->next_look_ns < deadline_ns)
		deadline_ns = w->next_look_ns;
	return deadline_ns;
}
