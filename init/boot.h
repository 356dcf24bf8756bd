/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the steps of a boot share: one struct, filled from step to step, owned by main.c.
 * Plus the places on which init, the scripts in images/ and the exit path agree.
 */
#ifndef INIT_BOOT_H
#define INIT_BOOT_H

#include "cmdline.h"
#include "lastwords.h"
#include "lease.h"
#include "machine-id.h"

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

	BOOT_DEVICES_MAX = 2 + CMDLINE_MOUNTS_MAX + 1, /* root, overlay, extra mounts, rpmdb */
	BOOT_URI_MAX = 1024,
	BOOT_PATH_MAX = 512,
	BOOT_NAME_MAX = ROOT_SPEC_URI_MAX,
};

/*
 * Where the two halves of a root with an overlay are mounted: below BOOT_KEEP, for what is there
 * systemd leaves alone on its way down.
 */
#define BOOT_LOWER BOOT_KEEP "/lower"
#define BOOT_UPPER BOOT_KEEP "/upper"

enum boot_role {
	BOOT_IS_ROOT,
	BOOT_IS_UPPER, /* what is written to a root with an overlay */
	BOOT_IS_EXTRA,
};

/* One network block device: /dev/nbd<its place in the array>. */
struct boot_device {
	char uri[BOOT_URI_MAX];
	enum boot_role role;
	char mount_point[BOOT_PATH_MAX]; /* extra: "?" when the root decides (rpmdb) */
	const char *fstype, *options;    /* NULL: look at the device; none */
	bool is_attached, is_mounted;
};

/* A card that the boot has set up, and that nobody else is to touch. */
struct boot_card {
	char interface[IF_NAMESIZE];
	char mac[18];
	bool is_vlan;
	pid_t keeper_pid; /* net-keep.h; 0: what is on top of it has one */
};

/* What the root hangs on, and all cards that were set up: it, the one below a VLAN, more ip=. */
struct boot_net {
	char interface[IF_NAMESIZE];
	char mac[18];     /* 52:54:00:12:34:56 */
	char address[64]; /* "" without a network */
	char hostname[65];
	const struct cmdline_net *ip; /* what ip= says of it; NULL without a network */
	struct boot_card cards[CMDLINE_NETS_MAX + 1];
	size_t cards_count;
};

struct boot {
	struct cmdline cmdline;
	struct boot_net net;
	struct root_spec root;         /* found (root-find.h): placeholders replaced */
	char root_name[BOOT_NAME_MAX]; /* for messages; "": to be found (again) */
	struct lease root_lease;       /* by which it was found */
	uint64_t root_asked_ns;        /* when DHCP was last asked for it (root-ask.h) */
	bool is_root_mounted;
	bool is_root_refused; /* by an earlier try to mount it */
	struct boot_device devices[BOOT_DEVICES_MAX];
	size_t devices_count;
	struct lastwords words;
	char real_init[BOOT_PATH_MAX];
	char machine_id[MACHINE_ID_TEXT]; /* for a systemd whose root has no file for it; or "" */
	char **argv;                      /* of /init: the kernel passes what it does not know */
};

#endif
