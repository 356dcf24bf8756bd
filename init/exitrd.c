/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See exitrd.h. The file systems are unmount.c's. */
#include "exitrd.h"
#include "boot.h"
#include "proc.h"
#include "unmount.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/reboot.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/wait.h>

enum {
	TOTAL_S = 60,
	DETACH_S = 10,
	TERM_MS = 200,
	LOOK_MS = 250, /* at another process */
};

static bool is_init; /* else somebody calls us in a machine that runs, where others live on */

static int reboot_command(const char *verb)
{
	if (strcmp(verb, "poweroff") == 0)
		return RB_POWER_OFF;
	if (strcmp(verb, "halt") == 0)
		return RB_HALT_SYSTEM;
	if (strcmp(verb, "kexec") == 0)
		return (int)LINUX_REBOOT_CMD_KEXEC;
	return RB_AUTOBOOT;
}

bool exitrd_knows(const char *verb)
{
	return strcmp(verb, "reboot") == 0 || reboot_command(verb) != RB_AUTOBOOT;
}

/* A child that ends the machine even if we never come to it. */
static pid_t start_watchdog(int command)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	proc_sleep_ms(TOTAL_S * 1000);
	log_error("shutdown: not done after %d s (ending now; what was not written is lost)",
		  TOTAL_S);
	reboot(command);
	_exit(1);
}

/* ---- processes ------------------------------------------------------------------------------ */

/* systemd's mark of a process that the root's storage needs. */
static bool has_mark(pid_t pid)
{
	char path[64], text[256];
	int r;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	r = fd_read_file(path, text, sizeof(text));
	return (r > 0 || r == -EFBIG) && text[0] == '@'; /* a long one is cut */
}

/*
 * For a command line the kernel takes the lock of that process' memory, and one that sleeps on a
 * dead root may hold it (docs/way-down.md). What keeps the root's storage alive never does.
 */
static bool is_marked(pid_t pid)
{
	pid_t child = fork();
	int status;

	if (child < 0)
		return true;
	if (child == 0)
		_exit(has_mark(pid) ? 1 : 0);
	if (proc_wait(child, clock_now_ns() + LOOK_MS * CLOCK_NS_PER_MS, &status) == 0)
		return WIFEXITED(status) && WEXITSTATUS(status) == 1;
	kill(child, SIGKILL);
	return false;
}

/* What proc(5) says in stat needs no such lock: the state and the flags behind the name. */
static bool is_spared(pid_t pid)
{
	enum { KERNEL_THREAD = 0x00200000 /* PF_KTHREAD */ };
	char path[64], text[1024], state;
	const char *rest;
	unsigned int flags;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (fd_read_file(path, text, sizeof(text)) <= 0)
		return true; /* gone */
	rest = strrchr(text, ')');
	if (rest == NULL || sscanf(rest, ") %c %*d %*d %*d %*d %*d %u", &state, &flags) != 2)
		return true;
	if ((flags & KERNEL_THREAD) != 0 || state == 'Z')
		return true;
	/* In an outage it may be hard to ask: its sender can sleep in the driver. */
	return strstr(text, " (nbdclient) ") != NULL || is_marked(pid);
}

/* The DHCP client and whoever else is left: they hold mounts. The watchdog is our child. */
static size_t kill_others(int signal_number, pid_t watchdog)
{
	size_t count = 0;
	DIR *dir = opendir("/proc");
	struct dirent *d;

	while (dir != NULL && (d = readdir(dir)) != NULL) {
		pid_t pid = (pid_t)strtol(d->d_name, NULL, 10);

		if (pid > 1 && pid != watchdog && !is_spared(pid) && kill(pid, signal_number) == 0)
			count++;
	}
	if (dir != NULL)
		closedir(dir);
	return count;
}

/* ---- devices -------------------------------------------------------------------------------- */

/* by_force: nobody who still has it open needs it for more than the next moment. */
static void detach(const char *name, bool by_force)
{
	char node[32];
	const char *argv[] = { "nbdclient", "detach", node, by_force ? "--force" : NULL, NULL };
	const char *program = is_init ? "/bin/nbdclient" : BOOT_KEEP "/bin/nbdclient";
	int status, r;
	pid_t pid;

	snprintf(node, sizeof(node), "/dev/%.16s", name);
	pid = proc_spawn(program, argv, &(struct proc_options){ 0 });
	if (pid < 0) {
		log_warn("shutdown: nbdclient cannot be started: %s", strerror(-pid));
		return;
	}
	r = proc_wait(pid, unmount_deadline(TOTAL_S - 2, DETACH_S), &status);
	if (r < 0) {
		kill(pid, SIGKILL);
		log_warn("shutdown: %s: not detached: %s (going on without)", node,
			 r == -ETIMEDOUT ? "it takes too long" : strerror(-r));
	} else if (status != 0) {
		log_warn("shutdown: %s: not detached: nbdclient: %s (going on without)", node,
			 proc_status_text(status));
	}
}

static void detach_all(bool by_force)
{
	DIR *dir = opendir("/sys/block");
	struct dirent *d;

	while (dir != NULL && (d = readdir(dir)) != NULL) {
		char path[300];

		snprintf(path, sizeof(path), "/sys/block/%s/pid", d->d_name);
		if (strncmp(d->d_name, "nbd", 3) == 0 && strlen(d->d_name) < 16 &&
		    access(path, F_OK) == 0)
			detach(d->d_name, by_force);
	}
	if (dir != NULL)
		closedir(dir);
}

_Noreturn void exitrd_run(const char *verb)
{
	int command = reboot_command(verb), kmsg;
	pid_t watchdog;
	bool is_clean, in_use = false;

	is_init = getpid() == 1;
	unmount_begin(is_init);
	log_init("nbdroot");
	proc_setup();
	if (!is_init) { /* whoever has called us may end before us */
		signal(SIGHUP, SIG_IGN);
		signal(SIGINT, SIG_IGN);
		signal(SIGTERM, SIG_IGN);
	}
	/* First: on an NFS root whose server is away, any path may be the one that sleeps. */
	watchdog = start_watchdog(command);
	/* systemd brings these along; another caller may not. Twice is refused, which is fine. */
	if (access("/proc/self/mountinfo", F_OK) != 0)
		(void)mount("proc", "/proc", "proc", 0, NULL);
	if (access("/sys/block", F_OK) != 0)
		(void)mount("sysfs", "/sys", "sysfs", 0, NULL);
	if (access("/dev/kmsg", F_OK) != 0)
		(void)mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	kmsg = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	if (kmsg >= 0)
		log_set_fd(kmsg, 1);
	if (!is_init)
		(void)chdir("/");
	if (is_init && kill_others(SIGTERM, watchdog) > 0) {
		proc_sleep_ms(TERM_MS);
		kill_others(SIGKILL, watchdog);
	}
	if (!unmount_sync())
		log_warn("shutdown: writing takes long: a server is slow or away");
	is_clean = unmount_all(&in_use);
	if (is_clean)
		detach_all(in_use);
	log_info("shutdown: %s%s", verb,
		 is_clean ? ", everything is written" : ", not everything could be written");
	reboot(command);
	/* kexec without a loaded kernel, or a refusal: a restart is what comes closest. */
	reboot(RB_AUTOBOOT);
	for (;;)
		proc_sleep_ms(1000);
}
