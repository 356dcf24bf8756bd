/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See hold.h. */
#include "hold.h"
#include "boot.h"
#include "proc.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>

enum {
	FIRST_S = 15, /* the boot has better things to do */
	AGAIN_S = 60, /* names go out of use, and an upgrade may have replaced files */
	FILES_MAX = 192,
	FILE_MAX = 16 << 20, /* larger than any program of the list: a log, say */
	LINE_MAX_BYTES = 512,
	SHARE = 16, /* of the memory, one part of so many */
};

/* In the order of their use. Those that are not there are other inits'. */
static const char *const programs[] = {
	"/proc/1/exe", "/bin/systemctl", "/lib/systemd/systemd-shutdown",
	"/sbin/init",  "/sbin/shutdown", "/sbin/halt",
};

/* What they read on their way, as strace(1) shows it; also that it is not there has to be known. */
static const char *const names[] = {
	"/etc/ld.so.preload",  "/etc/ld.so.cache",
	"/etc/selinux/config", "/usr/share/locale/locale.alias",
	"/etc/inittab",        "/etc/inittab.d",
	"/etc/initscript",     "/etc/localtime",
	"/etc/nsswitch.conf",  "/etc/passwd",
	"/var/run/utmp",       "/var/log/wtmp",
	"/var/log/wtmpx",
};

/* Where a shell looks for what a person types. */
static const char *const folders[] = { "/usr/local/sbin", "/usr/local/bin", "/usr/sbin",
				       "/usr/bin",        "/sbin",          "/bin" };
static const char *const commands[] = { "reboot",    "poweroff", "halt", "shutdown",
					"systemctl", "telinit",  "init" };

/* What systemd gives its services and logins as their language, when nobody has chosen one. */
static const char *const locale[] = {
	"LC_IDENTIFICATION", "LC_MEASUREMENT", "LC_TELEPHONE", "LC_ADDRESS",
	"LC_NAME",           "LC_PAPER",       "LC_MONETARY",  "LC_COLLATE",
	"LC_TIME",           "LC_NUMERIC",     "LC_CTYPE",     "LC_MESSAGES/SYS_LC_MESSAGES",
};

struct held {
	dev_t dev;
	ino_t ino;
	void *map;
	size_t size;
	int name_fd; /* keeps the name, also of a symlink, where the kernel finds it at once; -1 */
};

struct holding {
	struct held files[FILES_MAX];
	size_t count, bytes, limit;
	bool is_full;
	dev_t root_dev, program_dev; /* of / and of PID 1's program */
};

/* Elsewhere nothing is held: a /var of its own could not be unmounted. */
static bool is_of_the_root(const struct holding *h, dev_t dev)
{
	return dev == h->root_dev || dev == h->program_dev;
}

static void hold_file(struct holding *h, const char *path)
{
	_cleanup_close_ int name_fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC), fd = -1;
	struct held *f = &h->files[h->count];
	struct stat st;

	if (name_fd < 0 || fstat(name_fd, &st) != 0 || h->count == FILES_MAX)
		return;
	*f = (struct held){ .name_fd = -1 };
	if (is_of_the_root(h, st.st_dev))
		f->name_fd = steal_fd(&name_fd);
	h->count++;
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size == 0 ||
	    !is_of_the_root(h, st.st_dev))
		return;
	for (size_t i = 0; i + 1 < h->count; i++)
		if (h->files[i].map != NULL && h->files[i].ino == st.st_ino &&
		    h->files[i].dev == st.st_dev)
			return;
	if (h->bytes + (size_t)st.st_size > h->limit || st.st_size > FILE_MAX) {
		h->is_full = true;
		return;
	}
	f->map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (f->map == MAP_FAILED) {
		f->map = NULL;
		return;
	}
	f->dev = st.st_dev;
	f->ino = st.st_ino;
	f->size = (size_t)st.st_size;
	if (mlock(f->map, f->size) != 0)
		h->is_full = true;
	h->bytes += f->size;
}

static void hold_in(struct holding *h, const char *folder, const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	hold_file(h, path);
}

static void let_go(struct holding *h)
{
	for (size_t i = 0; i < h->count; i++) {
		if (h->files[i].map != NULL)
			munmap(h->files[i].map, h->files[i].size);
		if (h->files[i].name_fd >= 0)
			close(h->files[i].name_fd);
	}
	h->count = 0;
}

/* What PID 1 has mapped: its libraries, which the programs above share. */
static void hold_libraries(struct holding *h)
{
	char line[LINE_MAX_BYTES], last[LINE_MAX_BYTES] = "";
	FILE *maps = fopen("/proc/1/maps", "re");

	while (maps != NULL && fgets(line, sizeof(line), maps) != NULL) {
		char *path = strchr(line, '/');

		if (path == NULL || strchr(path, '\n') == NULL)
			continue;
		*strchr(path, '\n') = '\0';
		if (strcmp(path, last) == 0 || strncmp(path, "/dev/", 5) == 0)
			continue;
		snprintf(last, sizeof(last), "%s", path);
		hold_file(h, path);
	}
	if (maps != NULL)
		fclose(maps);
}

static void hold_all(struct holding *h)
{
	struct sysinfo info;
	struct stat st;

	*h = (struct holding){ .limit = SIZE_MAX };
	if (stat("/", &st) == 0)
		h->root_dev = st.st_dev;
	if (stat("/proc/1/exe", &st) == 0)
		h->program_dev = st.st_dev;
	if (sysinfo(&info) == 0)
		h->limit = (size_t)info.totalram / SHARE * info.mem_unit;
	for (size_t i = 0; i < ARRAY_SIZE(programs); i++)
		hold_file(h, programs[i]);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		hold_file(h, names[i]);
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
		for (size_t k = 0; k < ARRAY_SIZE(commands); k++)
			hold_in(h, folders[i], commands[k]);
	for (size_t i = 0; i < ARRAY_SIZE(locale); i++) {
		hold_in(h, "/usr/lib/locale/C.UTF-8", locale[i]);
		hold_in(h, "/usr/lib/locale/C.utf8", locale[i]);
	}
	hold_libraries(h);
}

_Noreturn void hold_run(void)
{
	static struct holding holdings[2];
	int kmsg = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);

	log_init("nbdroot");
	if (kmsg >= 0)
		log_set_fd(kmsg, 1);
	proc_sleep_ms(FIRST_S * 1000);
	for (unsigned turn = 0;; turn++) {
		struct holding *now = &holdings[turn % 2];

		hold_all(now);
		let_go(&holdings[(turn + 1) % 2]);
		if (turn == 0)
			log_info("hold: %zu KiB of PID 1's and the shutdown's programs stay in "
				 "memory%s",
				 now->bytes / 1024,
				 now->is_full ? " (not all: it is too small; while the server is "
						"away, \"reboot\" may not be heard)"
					      : "");
		proc_sleep_ms(AGAIN_S * 1000);
	}
}

void hold_start(void)
{
	const char *argv[] = { HOLD_NAME, NULL };
	pid_t pid = proc_spawn(BOOT_KEEP "/shutdown", argv,
			       &(struct proc_options){ .is_daemon = true });

	if (pid < 0)
		log_warn("hold: cannot be started: %s (while the server is away, \"reboot\" may "
			 "not be heard)",
			 strerror((int)-pid));
}
