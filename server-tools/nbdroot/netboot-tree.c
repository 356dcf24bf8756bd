/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See netboot-tree.h. */
#include "netboot-tree.h"

#include "base/fd.h"
#include "base/hash.h"
#include "base/log.h"
#include "interrupt.h"
#include "outfile.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#define NETBOOT_TREE_LIST ".nbdroot-netboot"
static const char netboot_tree_list_head[] =
	"nbdroot netboot, version 1: the files here that it wrote\n";

enum { NETBOOT_TREE_LIST_MAX = 8 << 20 };

/* ---- what is wanted ----------------------------------------------------------------------- */

static int netboot_tree_add(struct netboot_tree *t, char *name, const void *data, size_t size,
			    uint32_t hash, bool is_mapped)
{
	struct netboot_tree_file *list = NULL;

	if (name)
		list = realloc(t->files, (t->n_files + 1) * sizeof(*list));
	if (!list) {
		free(name);
		return -ENOMEM;
	}
	t->files = list;
	list[t->n_files++] = (struct netboot_tree_file){
		.name = name, .data = data, .size = size, .hash = hash, .is_mapped = is_mapped
	};
	return 0;
}

int netboot_tree_add_text(struct netboot_tree *t, const char *name, char *text, size_t size)
{
	int r = netboot_tree_add(t, strdup(name), text, size, hash_bytes(HASH_START, text, size),
				 false);

	if (r < 0)
		free(text);
	return r;
}

static const struct netboot_tree_file *netboot_tree_find(const struct netboot_tree *t,
							 const char *name)
{
	for (size_t i = 0; i < t->n_files; i++)
		if (strcmp(t->files[i].name, name) == 0)
			return &t->files[i];
	return NULL;
}

/* The whole file, mapped. 0 or negative errno. */
static int netboot_tree_map(const char *path, const void **data, size_t *size)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	void *p;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	if (st.st_size > NETBOOT_TREE_FILE_MAX)
		return -EFBIG;
	if (st.st_size == 0)
		return -ENODATA;
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	*data = p;
	*size = (size_t)st.st_size;
	return 0;
}

/* name with its "%" replaced. The caller's to free; NULL: no memory. */
static char *netboot_tree_expand(const char *name, uint32_t hash)
{
	const char *percent = strchr(name, '%');
	char *out;

	if (!percent)
		return strdup(name);
	if (asprintf(&out, "%.*s%08x%s", (int)(percent - name), name, hash, percent + 1) < 0)
		return NULL;
	return out;
}

int netboot_tree_add_file(struct netboot_tree *t, const char *name, const char *source,
			  const char **out)
{
	const struct netboot_tree_file *same;
	const void *data;
	uint32_t hash;
	size_t size;
	char *expanded;
	int r;

	r = netboot_tree_map(source, &data, &size);
	if (r < 0) {
		log_error("%s: cannot be read: %s", source, strerror(-r));
		return r;
	}
	hash = hash_bytes(HASH_START, data, size);
	expanded = netboot_tree_expand(name, hash);
	same = expanded ? netboot_tree_find(t, expanded) : NULL;
	if (same && same->size == size && memcmp(same->data, data, size) == 0) {
		/* two entries with one kernel */
		munmap((void *)data, size);
		free(expanded);
	} else if (same) {
		log_error("%s: would have the name %s, as another file has (give it another name)",
			  source, expanded);
		munmap((void *)data, size);
		free(expanded);
		return -EEXIST;
	} else {
		r = netboot_tree_add(t, expanded, data, size, hash, true);
		if (r < 0) {
			munmap((void *)data, size);
			log_error("%s: out of memory", source);
			return r;
		}
		same = &t->files[t->n_files - 1];
	}
	if (out)
		*out = same->name;
	return 0;
}

void netboot_tree_deinit(struct netboot_tree *t)
{
	for (size_t i = 0; i < t->n_files; i++) {
		if (t->files[i].is_mapped)
			munmap((void *)t->files[i].data, t->files[i].size);
		else
			free((void *)t->files[i].data);
		free(t->files[i].name);
	}
	for (size_t i = 0; i < t->n_owned; i++)
		free(t->owned[i].name);
	free(t->files);
	free(t->owned);
	*t = (struct netboot_tree){ 0 };
}

/* ---- the list of what is ours ------------------------------------------------------------- */

/* The list may have been tampered with: a name in it must not lead elsewhere. */
static bool netboot_tree_is_inside(const char *name)
{
	if (*name == '\0' || *name == '/' || strlen(name) >= PATH_MAX / 2)
		return false;
	for (const char *p = name; p; p = strchr(p, '/') ? strchr(p, '/') + 1 : NULL)
		if (*p == '\0' || *p == '/' || *p == '.')
			return false;
	return true;
}

static int netboot_tree_own(struct netboot_tree *t, const char *name, size_t size, uint32_t hash,
			    int64_t unused_since)
{
	struct netboot_tree_owned *list = realloc(t->owned, (t->n_owned + 1) * sizeof(*list));
	char *copy = strdup(name);

	if (list)
		t->owned = list;
	if (!list || !copy) {
		free(copy);
		return -ENOMEM;
	}
	list[t->n_owned++] = (struct netboot_tree_owned){
		.name = copy, .size = size, .hash = hash, .unused_since = unused_since
	};
	return 0;
}

/* FOLDER/NAME, in out. */
static int netboot_tree_path(const struct netboot_tree *t, const char *name,
			     char out[static PATH_MAX])
{
	return snprintf(out, PATH_MAX, "%s/%s", t->folder, name) < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static int netboot_tree_read_list(struct netboot_tree *t)
{
	_cleanup_free_ char *text = malloc(NETBOOT_TREE_LIST_MAX);
	char path[PATH_MAX], *line, *rest;
	int r;

	if (!text)
		return -ENOMEM;
	r = netboot_tree_path(t, NETBOOT_TREE_LIST, path);
	if (r == 0)
		r = fd_read_file(path, text, NETBOOT_TREE_LIST_MAX);
	if (r == -ENOENT || r == -ENOTDIR)
		return 0;
	if (r < 0)
		return r;
	rest = text;
	line = strsep(&rest, "\n");
	if (strncmp(netboot_tree_list_head, line, strlen(line)) != 0 ||
	    strlen(line) + 1 != strlen(netboot_tree_list_head))
		return -EBADMSG;
	while ((line = strsep(&rest, "\n")) != NULL) {
		long long since;
		unsigned hash;
		size_t size;
		int at = -1;

		if (*line == '\0')
			continue;
		if (sscanf(line, "%lld %8x %zu %n", &since, &hash, &size, &at) != 3 || at < 0 ||
		    !netboot_tree_is_inside(line + at))
			return -EBADMSG;
		r = netboot_tree_own(t, line + at, size, hash, since);
		if (r < 0)
			return r;
	}
	return 0;
}

static int netboot_tree_write_list(const struct netboot_tree *t)
{
	_cleanup_outfile_ struct outfile o = { .fd = -1, .old_fd = -1 };
	_cleanup_free_ char *text = NULL;
	char path[PATH_MAX];
	size_t size;
	FILE *f = open_memstream(&text, &size);
	int r;

	if (!f)
		return -ENOMEM;
	fputs(netboot_tree_list_head, f);
	for (size_t i = 0; i < t->n_owned; i++)
		if (t->owned[i].name)
			fprintf(f, "%lld %08x %zu %s\n", (long long)t->owned[i].unused_since,
				t->owned[i].hash, t->owned[i].size, t->owned[i].name);
	if (fclose(f) != 0)
		return -ENOMEM;
	r = netboot_tree_path(t, NETBOOT_TREE_LIST, path);
	if (r == 0)
		r = outfile_open(&o, path, 0644, true);
	if (r == 0)
		r = fd_write_all(o.fd, text, size);
	if (r == 0)
		r = outfile_commit(&o);
	return r;
}

/* ---- comparing ---------------------------------------------------------------------------- */

enum netboot_tree_state {
	TREE_MISSING,
	TREE_SAME,
	TREE_OURS,    /* as we wrote it once */
	TREE_FOREIGN, /* somebody else's, or changed by somebody else */
	TREE_BLOCKED, /* no regular file, or below one: not ours to remove, not even by force */
};

static int netboot_tree_is_same(const char *path, const void *data, size_t size, bool *is_same)
{
	const void *there = NULL;
	size_t there_size = 0;
	int r = netboot_tree_map(path, &there, &there_size);

	*is_same = false;
	if (r == -ENODATA) {
		*is_same = size == 0;
		return 0;
	}
	if (r < 0)
		return r;
	*is_same = there && there_size == size && memcmp(there, data, size) == 0;
	munmap((void *)there, there_size);
	return 0;
}

/* Whether the file is as some line of our list says. */
static int netboot_tree_is_ours(const struct netboot_tree *t, const char *name, const char *path,
				bool *is_ours)
{
	const void *data = NULL;
	size_t size = 0;
	uint32_t hash;
	int r = netboot_tree_map(path, &data, &size);

	*is_ours = false;
	if (r < 0 && r != -ENODATA)
		return r;
	hash = hash_bytes(HASH_START, data, size);
	for (size_t i = 0; i < t->n_owned; i++)
		if (t->owned[i].name && strcmp(t->owned[i].name, name) == 0 &&
		    t->owned[i].hash == hash && t->owned[i].size == size)
			*is_ours = true;
	if (data)
		munmap((void *)data, size);
	return 0;
}

/* What is there in the place of a file; file NULL: of one that is not wanted any more. */
static int netboot_tree_look(const struct netboot_tree *t, const char *name,
			     const struct netboot_tree_file *file, enum netboot_tree_state *state)
{
	char path[PATH_MAX];
	struct stat st;
	bool yes;
	int r = netboot_tree_path(t, name, path);

	if (r < 0)
		return r;
	*state = TREE_MISSING;
	if (lstat(path, &st) < 0) {
		if (errno == ENOTDIR && file)
			*state = TREE_BLOCKED;
		return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
	}
	*state = TREE_BLOCKED;
	if (!S_ISREG(st.st_mode))
		return 0;
	*state = TREE_FOREIGN;
	if (file) {
		r = netboot_tree_is_same(path, file->data, file->size, &yes);
		if (r < 0)
			return r;
		if (yes) {
			*state = TREE_SAME;
			return 0;
		}
	}
	r = netboot_tree_is_ours(t, name, path, &yes);
	if (r == 0 && yes)
		*state = TREE_OURS;
	return r;
}

static int netboot_tree_report(const struct netboot_tree *t, const char *name, int r)
{
	if (r == -EBADMSG)
		log_error("%s/%s: is not a list that nbdroot netboot wrote (remove it, and give "
			  "--force: what "
			  "is there will be written over)",
			  t->folder, NETBOOT_TREE_LIST);
	else if (r < 0)
		log_error("%s/%s: %s", t->folder, name, strerror(-r));
	return r;
}

int netboot_tree_check(struct netboot_tree *t)
{
	int n = 0, r = netboot_tree_read_list(t);

	if (r < 0)
		return netboot_tree_report(t, NETBOOT_TREE_LIST, r);
	for (size_t i = 0; i < t->n_files; i++) {
		static const char *const words[] = {
			[TREE_MISSING] = "is missing",
			[TREE_SAME] = NULL,
			[TREE_OURS] = "is out of date",
			[TREE_FOREIGN] = "was not written by nbdroot netboot, or was changed since",
			[TREE_BLOCKED] =
				"is not a regular file, or a file is in the place of its folder",
		};
		enum netboot_tree_state state;

		r = netboot_tree_look(t, t->files[i].name, &t->files[i], &state);
		if (r < 0)
			return netboot_tree_report(t, t->files[i].name, r);
		if (!words[state])
			continue;
		printf("%s/%s: %s\n", t->folder, t->files[i].name, words[state]);
		n++;
	}
	for (size_t i = 0; i < t->n_owned; i++) {
		enum netboot_tree_state state;

		if (t->owned[i].unused_since > 0 || netboot_tree_find(t, t->owned[i].name))
			continue;
		r = netboot_tree_look(t, t->owned[i].name, NULL, &state);
		if (r < 0)
			return netboot_tree_report(t, t->owned[i].name, r);
		if (state == TREE_MISSING)
			continue;
		printf("%s/%s: is not needed any more\n", t->folder, t->owned[i].name);
		n++;
	}
	return n;
}

/* ---- writing ------------------------------------------------------------------------------ */

/* Every folder on the way to FOLDER/NAME. */
static int netboot_tree_make_folders(const struct netboot_tree *t, const char *name)
{
	char path[PATH_MAX];
	int r = netboot_tree_path(t, name, path);

	if (r < 0)
		return r;
	for (char *p = path + 1; (p = strchr(p, '/')) != NULL; p++) {
		*p = '\0';
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return 0;
}

static int netboot_tree_put(const struct netboot_tree *t, const struct netboot_tree_file *file)
{
	_cleanup_outfile_ struct outfile o = { .fd = -1, .old_fd = -1 };
	char path[PATH_MAX];
	int r = netboot_tree_path(t, file->name, path);

	if (r == 0)
		r = netboot_tree_make_folders(t, file->name);
	if (r < 0)
		return netboot_tree_report(t, file->name, r);
	r = outfile_open(&o, path, 0644, true);
	if (r < 0)
		return r;
	r = fchmod(o.fd, 0644) < 0 ? -errno : fd_write_all(o.fd, file->data, file->size);
	if (r < 0) {
		log_error("%s: cannot be written: %s (the files that are there still fit together)",
			  path, strerror(-r));
		return r;
	}
	return outfile_commit(&o);
}

/* Nothing is written before it is clear that all may be. */
static int netboot_tree_may_write(const struct netboot_tree *t, bool is_forced,
				  enum netboot_tree_state *states)
{
	int refused = 0;

	for (size_t i = 0; i < t->n_files; i++) {
		int r = netboot_tree_look(t, t->files[i].name, &t->files[i], &states[i]);

		if (r < 0)
			return netboot_tree_report(t, t->files[i].name, r);
		if (states[i] == TREE_BLOCKED) {
			log_error("%s/%s: is not a regular file, or a file is in the place of its "
				  "folder: not replaced (remove it first)",
				  t->folder, t->files[i].name);
			refused = -EEXIST;
		}
		if (states[i] != TREE_FOREIGN || is_forced)
			continue;
		log_error("%s/%s: was not written by nbdroot netboot, or was changed since: not "
			  "replaced "
			  "(--force replaces it)",
			  t->folder, t->files[i].name);
		refused = -EEXIST;
	}
	return refused;
}

/*
 * The list before anything is written: what was ours, and what will be. Two lines for one name are
 * both true until the file is replaced.
 */
static int netboot_tree_announce(struct netboot_tree *t, time_t now)
{
	for (size_t i = 0; i < t->n_owned; i++)
		if (t->owned[i].unused_since == 0)
			t->owned[i].unused_since = now;
	for (size_t i = 0; i < t->n_files; i++) {
		const struct netboot_tree_file *f = &t->files[i];
		bool is_known = false;

		for (size_t k = 0; k < t->n_owned; k++) {
			struct netboot_tree_owned *o = &t->owned[k];

			if (strcmp(o->name, f->name) != 0 || o->size != f->size ||
			    o->hash != f->hash)
				continue;
			o->unused_since = 0;
			is_known = true;
		}
		if (!is_known && netboot_tree_own(t, f->name, f->size, f->hash, 0) < 0)
			return -ENOMEM;
	}
	return netboot_tree_write_list(t);
}

static void netboot_tree_disown(struct netboot_tree *t, size_t i)
{
	free(t->owned[i].name);
	t->owned[i].name = NULL;
}

/* What is not wanted: after the time of grace it goes, unless somebody has made it theirs. */
static int netboot_tree_sweep(struct netboot_tree *t, time_t now,
			      struct netboot_tree_result *result)
{
	for (size_t i = 0; i < t->n_owned; i++) {
		struct netboot_tree_owned *o = &t->owned[i];
		enum netboot_tree_state state;
		char path[PATH_MAX];
		int r;

		if (o->unused_since == 0)
			continue;
		if (netboot_tree_find(t, o->name)) { /* an older content of a file that is there */
			netboot_tree_disown(t, i);
			continue;
		}
		r = netboot_tree_look(t, o->name, NULL, &state);
		if (r == 0)
			r = netboot_tree_path(t, o->name, path);
		if (r < 0)
			return netboot_tree_report(t, o->name, r);
		if (state != TREE_OURS) {
			netboot_tree_disown(t, i);
			continue;
		}
		/* A menu that is left would still be read; what menus and DHCP name may be in use.
		 */
		if (strncmp(o->name, "tftp/", 5) == 0 &&
		    strncmp(o->name, "tftp/pxelinux.cfg/", 18) != 0 &&
		    now - o->unused_since < NETBOOT_TREE_GRACE_S && now >= o->unused_since) {
			result->kept++;
			continue;
		}
		if (unlink(path) < 0 && errno != ENOENT)
			return netboot_tree_report(t, o->name, -errno);
		*strrchr(path, '/') = '\0';
		(void)!rmdir(path); /* when it is empty */
		result->removed++;
		netboot_tree_disown(t, i);
	}
	return 0;
}

static int netboot_tree_write_files(struct netboot_tree *t, const enum netboot_tree_state *states,
				    struct netboot_tree_result *result)
{
	for (size_t i = 0; i < t->n_files; i++) {
		int r;

		if (interrupt_pending())
			return -EINTR;
		if (states[i] == TREE_SAME) {
			result->unchanged++;
			continue;
		}
		r = netboot_tree_put(t, &t->files[i]);
		if (r < 0)
			return r;
		result->written++;
		if (strncmp(t->files[i].name, "dnsmasq", 7) == 0)
			result->has_changed_dnsmasq = true;
	}
	return 0;
}

int netboot_tree_write(struct netboot_tree *t, bool is_forced, struct netboot_tree_result *result)
{
	_cleanup_free_ enum netboot_tree_state *states = calloc(t->n_files + 1, sizeof(*states));
	_cleanup_close_ int lock = -1;
	time_t now = time(NULL);
	int r;

	*result = (struct netboot_tree_result){ 0 };
	umask(022); /* TFTP servers run as nobody, and must read what root writes */
	if (!states)
		return netboot_tree_report(t, "", -ENOMEM);
	r = netboot_tree_make_folders(t, NETBOOT_TREE_LIST);
	if (r < 0)
		return netboot_tree_report(t, "", r);
	lock = open(t->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (lock < 0)
		return netboot_tree_report(t, "", -errno);
	if (flock(lock, LOCK_EX | LOCK_NB) < 0) {
		log_error("%s: another nbdroot netboot is writing there (wait for it)", t->folder);
		return -EBUSY;
	}
	r = netboot_tree_read_list(t);
	if (r < 0)
		return netboot_tree_report(t, NETBOOT_TREE_LIST, r);
	r = netboot_tree_may_write(t, is_forced, states);
	if (r == 0)
		r = netboot_tree_report(t, NETBOOT_TREE_LIST, netboot_tree_announce(t, now));
	if (r == 0)
		r = netboot_tree_write_files(t, states, result);
	if (r == 0)
		r = netboot_tree_sweep(t, now, result);
	if (r == 0)
		r = netboot_tree_report(t, NETBOOT_TREE_LIST, netboot_tree_write_list(t));
	return r;
}
