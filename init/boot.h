/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the steps of a boot share: one struct, filled from step to step, owned by main.c.
 * Plus the places on which init, the scripts in images/ and the exit path agree.
 */
#ifndef INIT_BOOT_H
#define INIT_BOOT_H

#include "cmdline.h"
#include "lastwords.h"

#include <net/if.h>
#include <sys/types.h>

/*
 * Everything that must outlive switch_root lives in this tmpfs. Processes that execute or open
 * files later (the DHCP client) have it as their root directory: their old one is emptied.
 * After the real init has shut down, systemd-shutdown makes it / and executes /shutdown.
 */
#define BOOT_KEEP "/run/initramfs"
/* Leases and resolv.conf, seen from the kept tmpfs as BOOT_STATE_INSIDE. */
#define BOOT_STATE "/run/nbdroot"
#define BOOT_STATE_INSIDE "/nbdroot"

#define BOOT_NEWROOT "/newroot"

enum {
	/*
	 * Cards, leases and servers are waited for without end; with rd.shell, a person who asked
	 * for a shell gets it after this long.
	 */
	BOOT_PATIENCE_S = 60,

	BOOT_DEVICES_MAX = 1 + CMDLINE_MOUNTS_MAX + 1, /* root, extra mounts, rpmdb */
	BOOT_URI_MAX = 1024,
	BOOT_PATH_MAX = 512,
};

/* One network block device: /dev/nbd<its place in the array>. */
struct boot_device {
	char uri[BOOT_URI_MAX];
	char mount_point[BOOT_PATH_MAX]; /* "" for the root; "?" when the root decides (rpmdb) */
	const char *fstype, *options;    /* NULL: look at the device; none */
	bool is_attached, is_mounted;
};

struct boot_net {
	char interface[IF_NAMESIZE];
	char mac[18];     /* 52:54:00:12:34:56 */
	char address[64]; /* "" without a network */
	char hostname[65];
	pid_t keeper_pid; /* net-keep.h */
};

struct boot {
	struct cmdline cmdline;
	struct boot_net net;
	struct boot_device devices[BOOT_DEVICES_MAX];
	size_t devices_count;
	struct lastwords words;
	char real_init[BOOT_PATH_MAX];
	char **argv; /* of /init: the kernel passes what it does not know */
};

#endif
