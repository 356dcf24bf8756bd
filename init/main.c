/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * /init of the initramfs, PID 1: the boot as a table of steps. A step that fails leaves its
 * words (lastwords.h) and is tried again or ends the boot; nothing here ever exits. The same
 * program is /run/initramfs/shutdown, the way out (exitrd.h).
 */
#include "attach.h"
#include "boot.h"
#include "exitrd.h"
#include "hold.h"
#include "modules.h"
#include "mounts.h"
#include "net-keep.h"
#include "net.h"
#include "newroot.h"
#include "proc.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

static int cmdline_load(struct boot *b);
static int start_real_init(struct boot *b);

static const struct step {
	const char *name; /* for rd.break= */
	const char *title;
	int (*run)(struct boot *b);
	bool can_retry; /* unless its reason is final (lastwords.h) */
	const char *hint;
} steps[] = {
	{ "early", "mount /proc, /sys, /dev and /run", mounts_early, false,
	  "use a kernel with CONFIG_DEVTMPFS and CONFIG_TMPFS, as every distribution's is" },
	{ "cmdline", "read the kernel command line", cmdline_load, false,
	  "correct the kernel command line in the boot menu (PXELINUX: APPEND); nbdroot(7) has all "
	  "parameters" },
	{ "keep", "set aside what outlives the boot", mounts_keep, false,
	  "build the initramfs again (nbdroot initramfs); is there enough memory?" },
	{ "modules", "load kernel modules", modules_up, false,
	  "build the initramfs with the modules of this kernel: nbdroot initramfs --modules "
	  ".../lib/modules/VERSION" },
	{ "network", "bring up the network", net_up, true,
	  "look at ip= and BOOTIF= on the kernel command line, and at the network card" },
	{ "attach", "attach the network block devices", attach_all, true,
	  "look at root=, nbdroot.mount= and rpmdb= on the kernel command line, and at the "
	  "server" },
	{ "mount", "mount the root", newroot_mount, true,
	  "the kernel's messages above may say more; check the image on the server (nbdroot image "
	  "check)" },
	{ "switch", "start the real init", start_real_init, false,
	  "check the image of the root on the server; init= starts another program" },
};

enum { FIRST_BREAK = 2 /* the steps before it have run when rd.break= is known */ };

static int check_break(struct boot *b)
{
	const char *wanted = b->cmdline.break_step;
	char names[128];
	size_t used = 0;

	if (wanted == NULL || *wanted == '\0')
		return 0;
	for (size_t i = FIRST_BREAK; i < ARRAY_SIZE(steps); i++) {
		if (strcmp(steps[i].name, wanted) == 0)
			return 0;
		used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s",
					 used > 0 ? ", " : "", steps[i].name);
	}
	return lastwords_leave(&b->words, NULL, "rd.break=%s: no such step (there are: %s)", wanted,
			       names);
}

static int cmdline_load(struct boot *b)
{
	char text[CMDLINE_TEXT_MAX];
	int r = fd_read_file("/proc/cmdline", text, sizeof(text));

	if (r < 0)
		return lastwords_leave(&b->words, NULL, "/proc/cmdline: %s", strerror(-r));
	r = cmdline_parse(&b->cmdline, text);
	if (b->cmdline.is_debug)
		log_set_level(LOG_LEVEL_DEBUG);
	if (r != 0)
		return lastwords_leave(&b->words, NULL, "%s", b->cmdline.problem);
	return check_break(b);
}

/* How long each step took, and when this program began, since the kernel did. */
static uint64_t step_ns[ARRAY_SIZE(steps)], began_ns;

static void put_seconds(char *out, size_t size, const char *what, uint64_t ns)
{
	size_t used = strlen(out);
	unsigned int tenths = (unsigned int)((ns + CLOCK_NS_PER_S / 20) / (CLOCK_NS_PER_S / 10));

	snprintf(out + used, size - used, "%s%s %u.%u s", used > 0 ? ", " : "", what, tenths / 10,
		 tenths % 10);
}

/* The last line that a person reads, who asks where the time went. */
static void say_times(void)
{
	char text[256] = "";
	uint64_t now_ns = clock_now_ns();

	put_seconds(text, sizeof(text), "kernel", began_ns);
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++)
		if (step_ns[i] >= CLOCK_NS_PER_S / 20)
			put_seconds(text, sizeof(text), steps[i].name, step_ns[i]);
	put_seconds(text, sizeof(text), "together", now_ns);
	log_info("boot: %s", text);
}

static int start_real_init(struct boot *b)
{
	say_times();
	return newroot_exec(b);
}

static bool is_break(const struct boot *b, const struct step *s)
{
	const char *wanted = b->cmdline.break_step;

	if (wanted == NULL)
		return false;
	return strcmp(s->name, *wanted != '\0' ? wanted : "switch") == 0;
}

static _Noreturn void boot(char **argv)
{
	static struct boot b; /* large, and alive for ever */
	struct utsname u;

	b.argv = argv;
	began_ns = clock_now_ns();
	log_init("nbdroot");
	proc_setup();

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		const struct step *s = &steps[i];
		uint64_t since_ns = clock_now_ns();

		if (i == 1) { /* the first moment at which somebody can read it */
			uname(&u);
			log_info("boot: version " NBDROOT_VERSION ", kernel %s", u.release);
		}
		if (i >= FIRST_BREAK && is_break(&b, s)) {
			char why[128];

			snprintf(why, sizeof(why),
				 "a shell before the step \"%s\" (rd.break): \"exit\" goes on",
				 s->name);
			lastwords_shell(why);
		}
		while (s->run(&b) != 0) {
			struct lastwords_policy p = { .wants_shell = b.cmdline.wants_shell,
						      .has_panic = b.cmdline.has_panic,
						      .panic_s = b.cmdline.panic_s,
						      .can_retry =
							      s->can_retry && !b.words.is_final };

			lastwords_speak(&b.words, s->title, s->name, s->hint, &p);
		}
		b.words.said[0] = '\0';
		step_ns[i] = clock_now_ns() - since_ns;
	}
	for (;;) /* the last step does not return when it succeeds */
		proc_sleep_ms(1000);
}

int main(int argc, char **argv)
{
	const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
	const char *name = slash != NULL ? slash + 1 : argc > 0 ? argv[0] : "init";

	if (getpid() == 1) {
		if (strcmp(name, "shutdown") == 0)
			exitrd_run(argc > 1 ? argv[1] : "reboot");
		boot(argv);
	}
	if (argc == 1 && strcmp(name, HOLD_NAME) == 0)
		hold_run();
	if (argc == 2 && strcmp(name, "shutdown") == 0 && argv[1][0] != '-') {
		if (exitrd_knows(argv[1]))
			exitrd_run(argv[1]);
		fprintf(stderr, "shutdown: %s: wanted reboot, poweroff, halt or kexec\n", argv[1]);
		return 2;
	}
	if (argc >= 3 && strcmp(name, NET_KEEP_NAME) == 0)
		return net_keep_run(argv[1], argv[2], argv + 3);

	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		puts("init (nbdroot) " NBDROOT_VERSION);
		return 0;
	}
	if (argc == 2 && strcmp(argv[1], "--help") == 0) {
		puts("init is the first process of nbdroot's initramfs: the kernel starts it.\n"
		     "Parameters stand on the kernel command line, see nbdroot(7).\n"
		     "  --help     this text\n"
		     "  --version  the version");
		return 0;
	}
	fputs("init: this is the first process of an initramfs, started by the kernel; there is "
	      "nothing to run it for by hand (--help, --version)\n",
	      stderr);
	return 2;
}
