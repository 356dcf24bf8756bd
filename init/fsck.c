/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See fsck.h. The pure half is in fsck-plan.c. */
#include "fsck.h"
#include "blockfs.h"
#include "proc.h"
#include "wait.h"

#include "base/fd.h"
#include "base/log.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define E2FSCK "/sbin/e2fsck"

enum {
	LINES_MAX = 20, /* of what e2fsck says: the rest is more of the same */
	TEXT_MAX = 8192,
};

static bool is_read_only(const char *device)
{
	char path[64], text[8];

	snprintf(path, sizeof(path), "/sys/block/%s/ro", device + strlen("/dev/"));
	return fd_read_file(path, text, sizeof(text)) > 0 && text[0] == '1';
}

/* Its lines, into the log; the last one is kept. */
static void tell(const char *device, int fd, char last[static LASTWORDS_MAX])
{
	static char text[TEXT_MAX];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	unsigned int lines = 0;

	text[n > 0 ? n : 0] = '\0';
	for (char *save, *line = strtok_r(text, "\n", &save); line != NULL;
	     line = strtok_r(NULL, "\n", &save)) {
		if (++lines <= LINES_MAX)
			log_info("%s: e2fsck: %s", device, line);
		snprintf(last, LASTWORDS_MAX, "%s", line);
	}
	if (lines > LINES_MAX)
		log_info("%s: e2fsck: (%u more lines)", device, lines - LINES_MAX);
}

/* Its exit status, or negative errno. */
static int run(const char *device, enum fsck_plan plan, char last[static LASTWORDS_MAX])
{
	const char *argv[] = { "e2fsck", plan == FSCK_FORCE ? "-fp" : "-p", device, NULL };
	_cleanup_close_ int out = memfd_create("e2fsck", MFD_CLOEXEC);
	int status = 0, r;
	pid_t pid;

	if (out < 0)
		return -errno;
	pid = proc_spawn(E2FSCK, argv,
			 &(struct proc_options){ .stdout_fd = out, .stderr_fd = out });
	if (pid < 0)
		return (int)pid;
	r = wait_for_process(pid, &status, device, "e2fsck", "at work", NULL);
	tell(device, out, last);
	if (r < 0)
		return r;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EINTR;
}

int fsck_device(struct boot *b, const char *device)
{
	static uint8_t head[BLOCKFS_HEAD_MAX];
	char last[LASTWORDS_MAX] = "";
	struct blockfs_ext_state state;
	enum fsck_plan plan;
	const char *verdict, *reason;
	bool can_go_on;
	size_t size;
	int status;

	if (blockfs_read_head(device, head, &size, &b->words) != 0)
		return LASTWORDS_FAILED;
	blockfs_ext_state(head, size, &state);
	plan = fsck_plan(b->cmdline.fsck, &state);
	reason = plan == FSCK_FORCE ? "nbdroot.fsck=force"
		 : state.has_errors ? "the file system has seen errors"
				    : "it was not unmounted, and has no journal";
	if (plan == FSCK_NOTHING) {
		if (state.is_ext && state.has_errors)
			log_warn("%s: the file system has seen errors (nbdroot.fsck=skip: mounting "
				 "it all the same)",
				 device);
		return 0;
	}
	if (is_read_only(device)) {
		if (plan == FSCK_PREEN)
			log_warn("%s: %s, but the export is read-only and cannot be repaired from "
				 "here (mounting it all the same; check the image on the server)",
				 device, reason);
		return 0;
	}
	if (access(E2FSCK, X_OK) != 0) {
		log_warn("%s: not checked: %s, but there is no e2fsck in this initramfs (mounting "
			 "it as the kernel does; nbdroot initramfs --fsck puts one in)",
			 device, reason);
		return 0;
	}

	log_info("%s: checking it: %s", device, reason);
	status = run(device, plan, last);
	if (status < 0) {
		log_warn("%s: e2fsck cannot be run: %s (mounting it as the kernel does)", device,
			 strerror(-status));
		return 0;
	}
	verdict = fsck_verdict(status, &can_go_on);
	if (!can_go_on)
		return lastwords_leave_final(
			&b->words,
			"boot once with rd.shell, and in the shell that comes: e2fsck -f the "
			"device; "
			"or repair the image on the server while this machine is off. "
			"nbdroot.fsck=skip mounts it all the same",
			"%s: %s (exit status %d): %.160s", device, verdict, status, last);
	if (status > 3)
		log_warn("%s: %s (exit status %d; mounting it as the kernel does)", device, verdict,
			 status);
	else
		log_info("%s: checked: %s", device, verdict);
	return 0;
}
