/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See lastwords.h. */
#include "lastwords.h"
#include "proc.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>

enum {
	RETRY_EVERY_S = 30,
	MEMORY_SHORT_MIB = 24,
	SHELL_PAUSE_MS = 3000, /* after one that ended at once: the console has nobody to type */
};

static void _printf_(3, 0) leave(struct lastwords *w, const char *hint, const char *fmt, va_list ap)
{
	vsnprintf(w->why, sizeof(w->why), fmt, ap);
	snprintf(w->hint, sizeof(w->hint), "%s", hint != NULL ? hint : "");
}

int lastwords_leave(struct lastwords *w, const char *hint, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	leave(w, hint, fmt, ap);
	va_end(ap);
	w->is_final = false;
	return LASTWORDS_FAILED;
}

int lastwords_leave_final(struct lastwords *w, const char *hint, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	leave(w, hint, fmt, ap);
	va_end(ap);
	w->is_final = true;
	return LASTWORDS_FAILED;
}

/*
 * An error line reaches the console by way of the kernel's log, unless somebody booted with
 * loglevel=3 or less: then the console gets it directly.
 */
static void say(const char *line)
{
	char level[64];

	log_error("%s", line);
	if (fd_read_file("/proc/sys/kernel/printk", level, sizeof(level)) < 0 ||
	    strtol(level, NULL, 10) <= LOG_LEVEL_ERROR) {
		_cleanup_close_ int fd = open("/dev/console", O_WRONLY | O_NOCTTY | O_CLOEXEC);

		if (fd >= 0)
			dprintf(fd, "nbdroot: %s\n", line);
	}
}

/* One label and its text, folded at words to what a console of 80 columns shows. */
static void say_field(const char *label, const char *text)
{
	enum { WIDTH = 62 };

	while (*text != '\0') {
		size_t size = strlen(text);
		char line[128];

		if (size > WIDTH) {
			size = WIDTH;
			while (size > WIDTH / 2 && text[size] != ' ')
				size--;
			if (text[size] != ' ')
				size = strcspn(text, " "); /* a long URI is not cut */
		}
		if (size > sizeof(line) - 16)
			size = sizeof(line) - 16;
		snprintf(line, sizeof(line), "| %-5s %.*s", label, (int)size, text);
		say(line);
		text += size;
		text += strspn(text, " ");
		label = "";
	}
}

/* KiB of a line of /proc/meminfo. */
static unsigned long memory_kib(const char *meminfo, const char *name)
{
	const char *at = strstr(meminfo, name);

	return at != NULL ? strtoul(at + strlen(name), NULL, 10) : ULONG_MAX;
}

/* Most that fails for want of memory gives another reason: a file that is not there, a signal. */
static bool is_memory_short(char *words, size_t size)
{
	char text[4096];
	unsigned long available;

	if (fd_read_file("/proc/meminfo", text, sizeof(text)) < 0)
		return false;
	available = memory_kib(text, "MemAvailable:");
	if (available >= MEMORY_SHORT_MIB * 1024UL)
		return false;
	snprintf(words, size,
		 "the machine has %lu MiB of memory for its system, and %lu MiB of them are free: "
		 "that may be the reason",
		 memory_kib(text, "MemTotal:") / 1024, available / 1024);
	return true;
}

static _Noreturn void restart(void)
{
	sync();
	reboot(RB_AUTOBOOT);
	for (;;) /* the kernel has refused, which it cannot */
		proc_sleep_ms(1000);
}

void lastwords_shell(const char *why)
{
	const char *argv[] = { "-sh", NULL };
	char terminal[96] = "/dev/console", active[64];
	const char *last;
	uint64_t since_ns = clock_now_ns();
	pid_t pid;
	int status;

	/* /dev/console cannot be a controlling terminal; the device behind it can. */
	if (fd_read_file("/sys/class/tty/console/active", active, sizeof(active)) > 0) {
		last = strrchr(active, ' ');
		snprintf(terminal, sizeof(terminal), "/dev/%s", last != NULL ? last + 1 : active);
	}
	say(why);
	pid = proc_spawn("/bin/sh", argv, &(struct proc_options){ .terminal = terminal });
	if (pid < 0 || proc_wait(pid, CLOCK_NEVER, &status) != 0) {
		say("the shell could not be started");
		proc_sleep_ms(RETRY_EVERY_S * 1000);
	} else if (clock_now_ns() - since_ns < CLOCK_NS_PER_S) {
		proc_sleep_ms(SHELL_PAUSE_MS);
	}
}

void lastwords_speak(struct lastwords *w, const char *step, const char *name, const char *step_hint,
		     const struct lastwords_policy *p)
{
	char text[LASTWORDS_MAX];

	if (strcmp(w->said, w->why) != 0) {
		snprintf(text, sizeof(text), "%s [%s]", step, name);
		say("+---- this machine cannot boot ------------------------------------");
		say_field("step:", text);
		say_field("why:", w->why);
		say_field("try:", w->hint[0] != '\0' ? w->hint : step_hint);
		if (is_memory_short(text, sizeof(text)))
			say_field("mem:", text);
		if (p->wants_shell)
			snprintf(text, sizeof(text),
				 "a shell; when you leave it, the step is tried again");
		else if (p->can_retry)
			snprintf(text, sizeof(text),
				 "the step is tried again every %d s; rd.shell on the kernel "
				 "command line gives a shell here",
				 RETRY_EVERY_S);
		else if (p->has_panic && p->panic_s != 0)
			snprintf(text, sizeof(text), "restart in %d s (panic=)",
				 p->panic_s < 0 ? 0 : p->panic_s);
		else
			snprintf(text, sizeof(text),
				 "nothing: restart the machine when this is repaired; rd.shell on "
				 "the kernel command line gives a shell here");
		say_field("next:", text);
		say("+------------------------------------------------------------------");
		snprintf(w->said, sizeof(w->said), "%s", w->why);
	}

	if (p->wants_shell) {
		lastwords_shell("a shell: \"exit\" tries the failed step again");
		w->said[0] = '\0';
		return;
	}
	/* What may heal by itself does so while the words stay; a restart would not be sooner. */
	if (!p->can_retry && p->has_panic && p->panic_s != 0) {
		if (p->panic_s > 0)
			proc_sleep_ms((unsigned int)p->panic_s * 1000);
		restart();
	}
	do
		proc_sleep_ms(RETRY_EVERY_S * 1000);
	while (!p->can_retry);
}
