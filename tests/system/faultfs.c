/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk that fails, stalls and remembers, as a FUSE file system: the files of one folder, with
 * faults on command and a record of what a power cut would leave. It is below the server whatever
 * engine that uses (pread, io_uring, ...), for the kernel brings every call here: no page cache
 * (FOPEN_DIRECT_IO), no attribute cache. Locks are the kernel's own.
 *
 *	faultfs FOLDER MOUNTPOINT [LOG DATA]
 *
 * Commands come on stdin, a line each, and are answered on stdout by "ok ..." or "error ...";
 * when stdin ends (whoever started it died), it unmounts and exits.
 *
 *	add ACTION OP FILE OFFSET LENGTH COUNT VALUE    ok ID
 *	    ACTION freeze (until cleared), delay (VALUE ms), fail (errno VALUE), short (VALUE bytes)
 *	    OP read, write, fsync, fallocate; FILE a name or *; COUNT how often, -1 for ever
 *	clear ID | clear all                            ok
 *	hits ID                                         ok N
 *	count                                           ok read STARTED DONE write ... frozen N
 *
 * What it cannot show: the kernel holds the inode's lock over an fsync and a fallocate, so no
 * write of the same file gets here while one of those is running or waits for a frozen write.
 * A short write is EIO to io_uring.
 */
#define FUSE_USE_VERSION FUSE_MAKE_VERSION(3, 12)
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"

#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#ifndef FOPEN_PARALLEL_DIRECT_WRITES
#define FOPEN_PARALLEL_DIRECT_WRITES (1 << 6) /* Linux 6.2 */
#endif

enum { FILES_MAX = 64, RULES_MAX = 64, THREADS_MAX = 400, NODE_ANY = 0, NODE_FIRST = 2 };
enum op { OP_READ, OP_WRITE, OP_FSYNC, OP_FALLOCATE, N_OPS };
enum action { ACTION_FREEZE, ACTION_DELAY, ACTION_FAIL, ACTION_SHORT, N_ACTIONS };

static const char *const op_names[] = { "read", "write", "fsync", "fallocate" };
static const char *const action_names[] = { "freeze", "delay", "fail", "short" };

struct rule {
	int id; /* 0: the slot is free; rules apply in the order of their ids */
	enum action action;
	enum op op;
	fuse_ino_t node;
	uint64_t offset, length;
	long count; /* how often it still applies; negative: for ever */
	long value;
	unsigned long hits;
};

/*
 * What happened to the disk, in the order in which it did. A sync covers what was written before
 * it was asked for (the first `covers` events), not what came while it ran.
 */
enum event_kind { EVENT_WRITE, EVENT_ZERO, EVENT_SYNC };
struct event {
	uint64_t kind, node, offset, length;
	uint64_t data_at; /* of a write: where its bytes are in the data file */
	uint64_t covers;
	uint64_t at_ns; /* CLOCK_BOOTTIME; of a sync: its end, before the server hears of it */
};

static int folder = -1;
static char *names[FILES_MAX]; /* node NODE_FIRST + i is names[i] */
static size_t n_names;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* rules, counts, names */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct rule rules[RULES_MAX];
static int last_id;
static unsigned long started[N_OPS], done[N_OPS], frozen;

static pthread_mutex_t disk = PTHREAD_MUTEX_INITIALIZER; /* order of changes = order of events */
static int log_fd = -1, data_fd = -1;
static uint64_t n_events, data_end;

static _Noreturn void die(const char *what)
{
	perror(what);
	_exit(1);
}

/* ---- faults ------------------------------------------------------------------------------- */

static bool rule_matches(const struct rule *r, enum op op, fuse_ino_t node, uint64_t offset,
			 uint64_t length)
{
	if (r->id == 0 || r->op != op || r->count == 0 || (r->node != NODE_ANY && r->node != node))
		return false;
	if (op == OP_FSYNC)
		return true;
	return offset < r->offset ? r->offset - offset < length : offset - r->offset < r->length;
}

static struct rule *rule_by_id(int id)
{
	for (size_t i = 0; i < RULES_MAX; i++)
		if (id != 0 && rules[i].id == id)
			return &rules[i];
	return NULL;
}

static struct rule *rule_after(int id, enum op op, fuse_ino_t node, uint64_t offset,
			       uint64_t length)
{
	struct rule *next = NULL;

	for (size_t i = 0; i < RULES_MAX; i++)
		if (rules[i].id > id && (!next || rules[i].id < next->id) &&
		    rule_matches(&rules[i], op, node, offset, length))
			next = &rules[i];
	return next;
}

static void sleep_ms(long ms)
{
	nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000 }, NULL);
}

/* Does what the rules say about a call. The errno to fail with, or 0; *limit may shrink. */
static int suffer(enum op op, fuse_ino_t node, uint64_t offset, uint64_t length, size_t *limit)
{
	struct rule *r;
	int error = 0, id = 0;

	pthread_mutex_lock(&lock);
	started[op]++;
	while (error == 0 && (r = rule_after(id, op, node, offset, length))) {
		long value = r->value;

		id = r->id;
		r->hits++;
		if (r->count > 0)
			r->count--;
		switch (r->action) {
		case ACTION_FREEZE:
			frozen++;
			while (rule_by_id(id))
				pthread_cond_wait(&changed, &lock);
			frozen--;
			break;
		case ACTION_DELAY:
			pthread_mutex_unlock(&lock);
			sleep_ms(value);
			pthread_mutex_lock(&lock);
			break;
		case ACTION_FAIL: error = (int)value; break;
		case ACTION_SHORT:
			if ((size_t)value < *limit)
				*limit = (size_t)value;
			break;
		case N_ACTIONS: break;
		}
	}
	pthread_mutex_unlock(&lock);
	return error;
}

/* Counted before the answer: who has it must find the call among those that are done. */
static void count_done(enum op op)
{
	pthread_mutex_lock(&lock);
	done[op]++;
	pthread_mutex_unlock(&lock);
}

/* ---- the record --------------------------------------------------------------------------- */

/* With the disk's lock held. */
static void record(struct event e, const void *data)
{
	if (log_fd < 0)
		return;
	if (e.kind == EVENT_WRITE) {
		e.data_at = data_end;
		if (fd_pwrite_all(data_fd, data, e.length, (off_t)data_end) < 0)
			die("faultfs: cannot record data");
		data_end += e.length;
	}
	e.at_ns = clock_now_ns();
	if (fd_write_all(log_fd, &e, sizeof(e)) < 0)
		die("faultfs: cannot record an event");
	n_events++;
}

/* ---- the file system ---------------------------------------------------------------------- */

static const char *name_of(fuse_ino_t node)
{
	const char *name;

	pthread_mutex_lock(&lock);
	name = node == FUSE_ROOT_ID                                ? "."
	       : node >= NODE_FIRST && node < NODE_FIRST + n_names ? names[node - NODE_FIRST]
								   : NULL;
	pthread_mutex_unlock(&lock);
	return name;
}

/* With the lock held. 0: no room. */
static fuse_ino_t node_of(const char *name)
{
	for (size_t i = 0; i < n_names; i++)
		if (strcmp(names[i], name) == 0)
			return NODE_FIRST + i;
	if (n_names == FILES_MAX || !(names[n_names] = strdup(name)))
		return 0;
	return NODE_FIRST + n_names++;
}

static int stat_node(fuse_ino_t node, struct stat *st)
{
	const char *name = name_of(node);

	if (!name || fstatat(folder, name, st, AT_SYMLINK_NOFOLLOW) < 0)
		return name ? errno : ENOENT;
	st->st_ino = node;
	return 0;
}

static void do_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = { 0 };
	struct stat st;

	if (parent != FUSE_ROOT_ID || fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    !S_ISREG(st.st_mode)) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	pthread_mutex_lock(&lock);
	e.ino = node_of(name);
	pthread_mutex_unlock(&lock);
	if (e.ino == 0 || stat_node(e.ino, &e.attr) != 0)
		fuse_reply_err(req, ENOENT);
	else
		fuse_reply_entry(req, &e);
}

static void do_getattr(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct stat st;
	int error = stat_node(node, &st);

	(void)fi;
	if (error)
		fuse_reply_err(req, error);
	else
		fuse_reply_attr(req, &st, 0);
}

static void do_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	const char *name = name_of(node);
	/* By hand, for libfuse 3.14 knows no parallel writes; serial ones are no disk. */
	struct fuse_open_out out = { .open_flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES };
	int fd = name ? openat(folder, name, (fi->flags & O_ACCMODE) | O_CLOEXEC) : -1;

	if (fd < 0) {
		fuse_reply_err(req, name ? errno : ENOENT);
		return;
	}
	out.fh = (uint64_t)fd;
	if (fuse_reply_buf(req, (const char *)&out, sizeof(out)) < 0)
		close(fd);
}

static void do_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	(void)node;
	close((int)fi->fh);
	fuse_reply_err(req, 0);
}

static void do_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset,
		    struct fuse_file_info *fi)
{
	_cleanup_free_ char *data = malloc(size ? size : 1);
	int error = suffer(OP_READ, node, (uint64_t)offset, size, &size);
	ssize_t n = -1;

	if (error == 0) {
		n = data ? pread((int)fi->fh, data, size, offset) : -1;
		error = data ? errno : ENOMEM;
	}
	count_done(OP_READ);
	if (n < 0)
		fuse_reply_err(req, error);
	else
		fuse_reply_buf(req, data, (size_t)n);
}

static void do_write(fuse_req_t req, fuse_ino_t node, const char *data, size_t size, off_t offset,
		     struct fuse_file_info *fi)
{
	int error = suffer(OP_WRITE, node, (uint64_t)offset, size, &size);
	ssize_t n = -1;

	if (error == 0) {
		pthread_mutex_lock(&disk);
		n = pwrite((int)fi->fh, data, size, offset);
		error = errno;
		if (n > 0)
			record((struct event){ .kind = EVENT_WRITE,
					       .node = node,
					       .offset = (uint64_t)offset,
					       .length = (uint64_t)n },
			       data);
		pthread_mutex_unlock(&disk);
	}
	count_done(OP_WRITE);
	if (n < 0)
		fuse_reply_err(req, error);
	else
		fuse_reply_write(req, (size_t)n);
}

/* Syncs nothing: that the backing file survives a real power cut is of no use to a test. */
static void do_fsync(fuse_req_t req, fuse_ino_t node, int is_data_only, struct fuse_file_info *fi)
{
	uint64_t covers;
	size_t limit = 0;
	int error;

	(void)is_data_only;
	(void)fi;
	pthread_mutex_lock(&disk);
	covers = n_events;
	pthread_mutex_unlock(&disk);
	error = suffer(OP_FSYNC, node, 0, 0, &limit);
	if (error == 0) {
		pthread_mutex_lock(&disk);
		record((struct event){ .kind = EVENT_SYNC, .node = node, .covers = covers }, NULL);
		pthread_mutex_unlock(&disk);
	}
	count_done(OP_FSYNC);
	fuse_reply_err(req, error);
}

static void do_fallocate(fuse_req_t req, fuse_ino_t node, int mode, off_t offset, off_t length,
			 struct fuse_file_info *fi)
{
	size_t limit = 0;
	int error = suffer(OP_FALLOCATE, node, (uint64_t)offset, (uint64_t)length, &limit);

	if (error == 0) {
		pthread_mutex_lock(&disk);
		if (fallocate((int)fi->fh, mode, offset, length) < 0)
			error = errno;
		else if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
			record((struct event){ .kind = EVENT_ZERO,
					       .node = node,
					       .offset = (uint64_t)offset,
					       .length = (uint64_t)length },
			       NULL);
		pthread_mutex_unlock(&disk);
	}
	count_done(OP_FALLOCATE);
	fuse_reply_err(req, error);
}

static void do_lseek(fuse_req_t req, fuse_ino_t node, off_t offset, int whence,
		     struct fuse_file_info *fi)
{
	off_t at = lseek((int)fi->fh, offset, whence);

	(void)node;
	if (at < 0)
		fuse_reply_err(req, errno);
	else
		fuse_reply_lseek(req, at);
}

static void do_init(void *data, struct fuse_conn_info *conn)
{
	(void)data;
	conn->max_background = THREADS_MAX; /* io_uring's calls are "background" to the kernel */
	conn->congestion_threshold = THREADS_MAX;
}

static const struct fuse_lowlevel_ops operations = {
	.init = do_init,
	.lookup = do_lookup,
	.getattr = do_getattr,
	.open = do_open,
	.release = do_release,
	.read = do_read,
	.write = do_write,
	.fsync = do_fsync,
	.fallocate = do_fallocate,
	.lseek = do_lseek,
};

/* ---- commands ----------------------------------------------------------------------------- */

static int index_of(const char *word, const char *const *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(word, list[i]) == 0)
			return (int)i;
	return -1;
}

/* With the lock held. Its id, or 0 with words in *why. */
static int add_rule(const char *args, const char **why)
{
	char action[16], op[16], file[256];
	struct rule r = { .id = last_id + 1 };
	int a, o;

	if (sscanf(args, "%15s %15s %255s %lu %lu %ld %ld", action, op, file, &r.offset, &r.length,
		   &r.count, &r.value) != 7) {
		*why = "a rule is ACTION OP FILE OFFSET LENGTH COUNT VALUE";
		return 0;
	}
	a = index_of(action, action_names, N_ACTIONS);
	o = index_of(op, op_names, N_OPS);
	r.node = strcmp(file, "*") == 0 ? NODE_ANY : node_of(file);
	if (a < 0 || o < 0 || (r.node == NODE_ANY && strcmp(file, "*") != 0)) {
		*why = "no such action or operation, or too many files";
		return 0;
	}
	r.action = (enum action)a;
	r.op = (enum op)o;
	for (size_t i = 0; i < RULES_MAX; i++)
		if (rules[i].id == 0) {
			rules[i] = r;
			return last_id = r.id;
		}
	*why = "too many rules";
	return 0;
}

static void clear_rules(int id) /* 0: all */
{
	for (size_t i = 0; i < RULES_MAX; i++)
		if (id == 0 || rules[i].id == id)
			rules[i].id = 0;
	pthread_cond_broadcast(&changed);
}

static void obey(const char *line)
{
	const char *why = "no such command";
	struct rule *r;
	int id;

	pthread_mutex_lock(&lock);
	if (strncmp(line, "add ", 4) == 0 && (id = add_rule(line + 4, &why)) != 0) {
		printf("ok %d\n", id);
	} else if (strcmp(line, "clear all") == 0) {
		clear_rules(0);
		printf("ok\n");
	} else if (sscanf(line, "clear %d", &id) == 1 && id > 0) {
		clear_rules(id);
		printf("ok\n");
	} else if (sscanf(line, "hits %d", &id) == 1 && (r = rule_by_id(id))) {
		printf("ok %lu\n", r->hits);
	} else if (strcmp(line, "count") == 0) {
		printf("ok");
		for (size_t i = 0; i < N_OPS; i++)
			printf(" %s %lu %lu", op_names[i], started[i], done[i]);
		printf(" frozen %lu\n", frozen);
	} else {
		printf("error %s\n", why);
	}
	pthread_mutex_unlock(&lock);
	fflush(stdout);
}

static void *take_commands(void *session)
{
	char line[512];

	printf("ok ready\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = '\0';
		obey(line);
	}
	/* Frozen calls have threads that will never come back: no orderly end. */
	fuse_session_unmount(session);
	_exit(0);
}

static int open_record(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

	if (fd < 0)
		die(path);
	return fd;
}

int main(int argc, char **argv)
{
	char *args[] = { argv[0], (char *)"-o", (char *)"fsname=faultfs,subtype=faultfs" };
	struct fuse_args fuse_args = FUSE_ARGS_INIT(ARRAY_SIZE(args), args);
	struct fuse_loop_config *loop = fuse_loop_cfg_create();
	struct fuse_session *session;
	pthread_t thread;

	if (argc != 3 && argc != 5) {
		fprintf(stderr, "usage: faultfs FOLDER MOUNTPOINT [LOG DATA]\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN); /* nobody waits for the answer: stdin's end is next */
	folder = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder < 0)
		die(argv[1]);
	if (argc == 5) {
		log_fd = open_record(argv[3]);
		data_fd = open_record(argv[4]);
	}
	session = fuse_session_new(&fuse_args, &operations, sizeof(operations), NULL);
	if (!loop || !session || fuse_session_mount(session, argv[2]) != 0) {
		fprintf(stderr, "faultfs: cannot mount on %s\n", argv[2]);
		return 1;
	}
	if (pthread_create(&thread, NULL, take_commands, session) != 0)
		die("faultfs: cannot start a thread");
	fuse_loop_cfg_set_max_threads(loop, THREADS_MAX);
	fuse_loop_cfg_set_idle_threads(loop, THREADS_MAX);
	return fuse_session_loop_mt(session, loop) == 0 ? 0 : 1;
}
