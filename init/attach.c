/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See attach.h. */
#include "attach.h"
#include "modules.h"
#include "proc.h"
#include "root-ask.h"
#include "root-find.h"
#include "wait.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define NBDCLIENT BOOT_KEEP "/bin/nbdclient"

enum {
	RETRY_S = 5,
	LOOK_MS = 200, /* how often new lines of a waiting nbdclient are looked for */
	DETACH_S = 30,
	NODE_WAIT_S = 10, /* devtmpfs makes the node within milliseconds */
	STDERR_MAX = 4096,
};

/* ---- what is to be attached ---------------------------------------------------------------- */

/* mount_point NULL: it is not one of the extra mounts. */
static int add_device(struct boot *b, const struct values *values, enum boot_role role,
		      const struct cmdline_mount *m, const char *mount_point)
{
	struct boot_device *d = &b->devices[b->devices_count];

	*d = (struct boot_device){ .role = role, .fstype = m->fstype, .options = m->options };
	if (values_substitute(b, values, m->uri, d->uri, sizeof(d->uri)) != 0)
		return LASTWORDS_FAILED;
	if (mount_point != NULL &&
	    values_substitute(b, values, mount_point, d->mount_point, sizeof(d->mount_point)) != 0)
		return LASTWORDS_FAILED;
	b->devices_count++;
	return 0;
}

static void set_root(struct boot *b, struct boot_device *d)
{
	*d = (struct boot_device){ .role = BOOT_IS_ROOT, .options = b->root.options };
	if (b->root.fstype[0] != '\0')
		d->fstype = b->root.fstype;
	snprintf(d->uri, sizeof(d->uri), "%s", b->root.uri);
}

static int list_devices(struct boot *b)
{
	const struct cmdline *c = &b->cmdline;
	struct values values;
	int r;

	b->devices_count = 0;
	values_read(b, &values);
	r = root_find(b, &values);
	if (r == 0 && b->root.kind == ROOT_NBD)
		set_root(b, &b->devices[b->devices_count++]);
	if (r == 0 && c->overlay == CMDLINE_OVERLAY_DEVICE)
		r = add_device(b, &values, BOOT_IS_UPPER, &c->upper, NULL);
	for (size_t i = 0; r == 0 && i < c->mounts_count; i++)
		r = add_device(b, &values, BOOT_IS_EXTRA, &c->mounts[i], c->mounts[i].mount_point);
	if (r == 0 && c->rpmdb.uri != NULL)
		r = add_device(b, &values, BOOT_IS_EXTRA, &c->rpmdb,
			       c->rpmdb.mount_point != NULL ? c->rpmdb.mount_point : "?");
	return r;
}

/* ---- one device ----------------------------------------------------------------------------- */

/* The stderr of one nbdclient: a file in memory, for the resident one may outlive a pipe. */
struct said {
	int fd;
	size_t seen;
	char last[LASTWORDS_MAX]; /* the last line */
};

static void read_said(struct said *s)
{
	char text[STDERR_MAX];
	ssize_t n = pread(s->fd, text, sizeof(text) - 1, (off_t)s->seen);
	char *line = text, *end;

	if (n <= 0)
		return;
	text[n] = '\0';
	while ((end = strchr(line, '\n')) != NULL) {
		*end = '\0';
		/* It names itself and the device; we name what is wanted. */
		if (strncmp(line, "nbdclient: ", 11) == 0)
			line += 11;
		if (strncmp(line, "nbd", 3) == 0 && line[3 + strspn(line + 3, "0123456789")] == ':')
			line += strcspn(line, ":") + 1;
		line += strspn(line, " ");
		if (*line != '\0')
			snprintf(s->last, sizeof(s->last), "%.*s", LASTWORDS_MAX - 1, line);
		line = end + 1;
	}
	s->seen += (size_t)(line - text);
}

static pid_t start_client(const struct boot *b, const struct boot_device *d, const char *node,
			  int stderr_fd)
{
	char fallbacks[CMDLINE_FALLBACKS_MAX][BOOT_URI_MAX];
	const char *argv[12 + 2 * CMDLINE_FALLBACKS_MAX];
	char patience[16];
	size_t n = 0;

	argv[n++] = "@nbdclient";
	argv[n++] = "attach";
	argv[n++] = d->uri;
	argv[n++] = "--device";
	argv[n++] = node;
	for (size_t i = 0; i < b->cmdline.fallbacks_count; i++) {
		if (cmdline_fallback_uri(d->uri, b->cmdline.fallbacks[i], fallbacks[i],
					 sizeof(fallbacks[i])) != 0)
			continue; /* nbd+unix has no other server */
		argv[n++] = "--fallback";
		argv[n++] = fallbacks[i];
	}
	/* When the server is away, PID 1 cannot end a machine whose root is on it. */
	argv[n++] = "--on-shutdown";
	argv[n++] = d->role == BOOT_IS_EXTRA ? "detach" : "end";
	if (b->cmdline.outage != NULL) {
		argv[n++] = "--outage";
		argv[n++] = b->cmdline.outage;
	}
	if (b->cmdline.wants_shell) {
		snprintf(patience, sizeof(patience), "%d", BOOT_PATIENCE_S);
		argv[n++] = "--connect-timeout";
		argv[n++] = patience;
	}
	argv[n] = NULL;
	return proc_spawn(NBDCLIENT, argv, &(struct proc_options){ .stderr_fd = stderr_fd });
}

/* "cannot reach server 10.0.0.1:10809: Connection refused (waiting for it, ...)", in wait.h's
 * grammar. */
static void say_waiting(struct wait *w, const char *node, const char *uri, const char *last)
{
	static const char unreachable[] = "cannot reach server ";
	char what[LASTWORDS_MAX], state[LASTWORDS_MAX];
	const char *why;

	if (!wait_is_due(w))
		return;
	snprintf(what, sizeof(what), "%s", uri);
	snprintf(state, sizeof(state), "%s", *last != '\0' ? last : "no answer yet");
	why = strstr(last, ": ");
	if (strncmp(last, unreachable, strlen(unreachable)) == 0 && why != NULL) {
		last += strlen(unreachable);
		snprintf(what, sizeof(what), "the NBD server %.*s", (int)(why - last), last);
		why += 2;
		if (strncmp(why, "Connection refused", 18) == 0)
			snprintf(state, sizeof(state), "refused");
		else
			snprintf(state, sizeof(state), "%.*s", (int)strcspn(why, "("), why);
	}
	for (size_t end = strlen(state); end > 0 && state[end - 1] == ' ';)
		state[--end] = '\0';
	wait_say(w, node, what, state, NULL);
}

/*
 * Runs nbdclient until it has gone to the background or given up, or is no longer needed, for the
 * root is elsewhere. Its status, or negative errno.
 */
static int run_client(struct boot *b, const struct boot_device *d, const char *node,
		      struct said *said, struct wait *w)
{
	char shown[LASTWORDS_MAX] = "", fresh[LASTWORDS_MAX] = "";
	int status, r;
	pid_t pid;

	said->fd = memfd_create("nbdclient stderr", MFD_CLOEXEC);
	if (said->fd < 0)
		return -errno;
	pid = start_client(b, d, node, said->fd);
	if (pid < 0)
		return (int)pid;
	do {
		r = proc_wait(pid, clock_now_ns() + LOOK_MS * CLOCK_NS_PER_MS, &status);
		read_said(said);
		/*
		 * What it says while it waits, one look later: what it says at its end is for the
		 * caller, or is our own next line.
		 */
		if (r == -ETIMEDOUT && strcmp(said->last, shown) != 0 &&
		    strcmp(said->last, fresh) == 0) {
			snprintf(shown, sizeof(shown), "%s", said->last);
			log_warn("%s: %s", node, shown);
		}
		snprintf(fresh, sizeof(fresh), "%s", said->last);
		if (r == -ETIMEDOUT)
			say_waiting(w, node, d->uri, said->last);
		if (r == -ETIMEDOUT && d->role == BOOT_IS_ROOT && root_has_moved(b))
			kill(pid, SIGTERM);
	} while (r == -ETIMEDOUT);
	return r < 0 ? r : status;
}

static bool wait_for_node(const char *node, uint64_t *bytes)
{
	uint64_t deadline = clock_now_ns() + NODE_WAIT_S * CLOCK_NS_PER_S;
	char path[64], text[32];

	snprintf(path, sizeof(path), "/sys/block/%s/size", node + strlen("/dev/"));
	do {
		struct stat st;

		if (fd_read_file(path, text, sizeof(text)) > 0 &&
		    (*bytes = strtoull(text, NULL, 10) * 512) > 0 && stat(node, &st) == 0 &&
		    S_ISBLK(st.st_mode))
			return true;
		proc_sleep_ms(5);
	} while (clock_now_ns() < deadline);
	return false;
}

static int detach_root(struct boot *b)
{
	const char *argv[] = { "nbdclient", "detach", "/dev/nbd0", NULL };
	uint64_t until_ns = clock_now_ns() + DETACH_S * CLOCK_NS_PER_S;
	struct boot_device *d = &b->devices[0];
	int status = -1;
	pid_t pid;

	pid = proc_spawn(NBDCLIENT, argv, &(struct proc_options){ 0 });
	if (pid < 0 || proc_wait(pid, until_ns, &status) != 0 || status != 0)
		return lastwords_leave(&b->words, "restart this machine",
				       "the DHCP server names another root now, but %s cannot be "
				       "given up",
				       d->uri);
	d->is_attached = false;
	return 0;
}

static int attach_one(struct boot *b, size_t index)
{
	struct boot_device *d = &b->devices[index];
	char node[32], last[LASTWORDS_MAX] = "";
	uint64_t bytes = 0;
	struct wait w;

	snprintf(node, sizeof(node), "/dev/nbd%zu", index);
	wait_start(&w);
	for (;;) {
		struct said said = { .fd = -1 };
		int status = run_client(b, d, node, &said, &w);

		if (said.fd >= 0)
			close(said.fd);
		if (status < 0)
			return lastwords_leave(&b->words, NULL, "%s cannot be started: %s",
					       NBDCLIENT, strerror(-status));
		if (status == 0)
			break;
		if (d->role == BOOT_IS_ROOT && (b->root_name[0] == '\0' || root_has_moved(b)))
			return ROOT_E_MOVED;
		if (said.last[0] == '\0')
			snprintf(said.last, sizeof(said.last),
				 "nbdclient ended without a word (%s)", proc_status_text(status));
		/* 2: the URI makes no sense; 126, 127: it could not even be executed. */
		if (WIFEXITED(status) && (WEXITSTATUS(status) == 2 || WEXITSTATUS(status) > 125)) {
			(void)lastwords_leave(&b->words, NULL, "%s: %s", d->uri, said.last);
			b->words.is_final = d->role != BOOT_IS_ROOT || !root_is_by_dhcp(b);
			return LASTWORDS_FAILED;
		}
		if (b->cmdline.wants_shell && wait_s(&w) >= BOOT_PATIENCE_S)
			return lastwords_leave(&b->words, NULL, "%s: %s", d->uri, said.last);
		/* Refused: perhaps an export that is yet to be made. The same words only once. */
		if (strcmp(last, said.last) != 0)
			log_error("%s: %s (trying again every %d s)", d->uri, said.last, RETRY_S);
		else
			say_waiting(&w, node, d->uri, said.last);
		snprintf(last, sizeof(last), "%s", said.last);
		proc_sleep_ms(RETRY_S * 1000);
	}
	d->is_attached = true;
	if (d->role == BOOT_IS_ROOT && b->root_name[0] == '\0') { /* given up a moment too late */
		int r = detach_root(b);

		return r == 0 ? ROOT_E_MOVED : r;
	}
	if (!wait_for_node(node, &bytes))
		return lastwords_leave(
			&b->words, NULL,
			"%s: nbdclient says that it is attached, but the kernel shows "
			"no device with a size after %d s",
			node, NODE_WAIT_S);
	log_info("%s: attached to %s, %llu MiB", node, d->uri, (unsigned long long)(bytes >> 20));
	return 0;
}

static int attach_listed(struct boot *b)
{
	int r = 0;

	/* Once: a repeated step must not shift what is already attached. */
	if (b->root_name[0] == '\0' || (b->devices_count > 0 && !b->devices[0].is_attached)) {
		b->root_name[0] = '\0';
		r = list_devices(b);
		if (r != 0)
			b->root_name[0] = '\0';
	}
	if (r == 0 && b->devices_count > 0)
		r = modules_wait_for_nbd(b);
	for (size_t i = 0; r == 0 && i < b->devices_count; i++)
		if (!b->devices[i].is_attached)
			r = attach_one(b, i);
	return r;
}

int attach_all(struct boot *b)
{
	int r;

	do
		r = attach_listed(b);
	while (r == ROOT_E_MOVED);
	return r;
}

int attach_root_anew(struct boot *b)
{
	struct boot_device *d = &b->devices[0];
	bool was_nbd = b->devices_count > 0 && d->role == BOOT_IS_ROOT;
	struct values values;
	int r;

	if (was_nbd && d->is_attached) {
		r = detach_root(b);
		if (r != 0)
			return r;
	}
	do {
		values_read(b, &values);
		r = root_find(b, &values);
		if (r == 0 && (b->root.kind == ROOT_NBD) != was_nbd)
			r = lastwords_leave(&b->words, "restart this machine",
					    "the DHCP server's root is %s now: no longer one of "
					    "the same kind",
					    b->root_name);
		if (r == 0 && was_nbd) {
			set_root(b, d);
			r = attach_one(b, 0);
		}
	} while (r == ROOT_E_MOVED);
	if (r != 0)
		b->root_name[0] = '\0';
	return r;
}
