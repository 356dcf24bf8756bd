/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See runtime-units.h. */
#include "runtime-units.h"

#include "base/fd.h"
#include "base/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define UNITS "/run/systemd/system"
#define WANTS UNITS "/sysinit.target.wants"

/* A target each, see systemd.special(7). soft-reboot.target is not one: the root's device stays. */
static const char *const targets[] = { "reboot", "poweroff", "halt", "kexec" };

/*
 * For who connects to the socket, as only root may: without a service systemd would fail the socket
 * and unlink its name, which is a request.
 */
static const char service[] = "[Unit]\n"
			      "Description=nbdroot: nothing\n"
			      "Documentation=man:nbdclient(8)\n"
			      "DefaultDependencies=no\n"
			      "\n"
			      "[Service]\n"
			      "Type=oneshot\n"
			      "ExecStart=-/bin/true\n";

static int write_unit(const char *target)
{
	char path[128], link[128], to[64], text[512];
	int r;

	snprintf(path, sizeof(path), UNITS "/nbdroot-%s.socket", target);
	snprintf(text, sizeof(text),
		 "[Unit]\n"
		 "Description=nbdroot: takes notice of %s.target\n"
		 "Documentation=man:nbdclient(8)\n"
		 "DefaultDependencies=no\n"
		 "Conflicts=%s.target\n"
		 "Before=%s.target\n"
		 "IgnoreOnIsolate=yes\n"
		 "RefuseManualStop=yes\n"
		 "\n"
		 "[Socket]\n"
		 "ListenSequentialPacket=/run/nbdclient/down/%s\n"
		 "SocketMode=0600\n"
		 "Accept=yes\n"
		 "MaxConnections=1\n"
		 "TriggerLimitIntervalSec=0\n"
		 "RemoveOnStop=yes\n",
		 target, target, target, target);
	r = fd_create_file(path, text);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), UNITS "/nbdroot-%s@.service", target);
	r = fd_create_file(path, service);
	if (r < 0)
		return r;
	snprintf(link, sizeof(link), WANTS "/nbdroot-%s.socket", target);
	snprintf(to, sizeof(to), "../nbdroot-%s.socket", target);
	return symlink(to, link) != 0 && errno != EEXIST ? -errno : 0;
}

void runtime_units_write(const char *real_init)
{
	static const char *const folders[] = { "/run/systemd", UNITS, WANTS };
	const char *slash = strrchr(real_init, '/');

	if (strcmp(slash != NULL ? slash + 1 : real_init, "systemd") != 0)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
		mkdir(folders[i], 0755);
	for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
		int r = write_unit(targets[i]);

		if (r < 0)
			log_warn("systemd: no unit that takes notice of %s.target: %s (while the "
				 "server is away, the machine may not end when it is asked to)",
				 targets[i], strerror(-r));
	}
}
