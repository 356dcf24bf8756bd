/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See exitrd.h. The file systems are unmount.c's. */
#include "exitrd.h"
#include "boot.h"
#include "proc.h"
#include "unmount.h"

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

enum {
	TOTAL_S = 60,
	DETACH_S = 10,
	TERM_MS = 200,
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

static bool is_spared(pid_t pid)
{
	char path[64], text[256];
	int r;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	r = fd_read_file(path, text, sizeof(text));
	if (r <= 0 && r != -EFBIG) /* a kernel thread, or gone; a long one is cut */
		return true;
	/* systemd's mark of a process that the root's storage needs. */
	return text[0] == '@';
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
	int status;
	pid_t pid;

	snprintf(node, sizeof(node), "/dev/%.16s", name);
	pid = proc_spawn(program, argv, &(struct proc_options){ 0 });
	if (pid < 0) {
		log_warn("shutdown: nbdclient cannot be started: %s", strerror(-pid));
		return;
	}
	if (proc_wait(pid, unmount_deadline(TOTAL_S - 2, DETACH_S), &status) != 0) {
		kill(pid, SIGKILL);
		log_warn("shutdown: %s: detaching takes too long (going on without)", node);
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
