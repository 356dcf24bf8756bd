/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel command line as options of the boot. Pure: text in, a struct out, no I/O.
 * Words are split and unquoted as the kernel does it; unknown parameters are the business of
 * others and ignored; a parameter of ours that makes no sense, or that only a later version
 * understands, is named with its reason and never guessed at. Placeholders such as {mac} stay
 * in the results: substitute.h replaces them when the network is up.
 */
#ifndef INIT_CMDLINE_H
#define INIT_CMDLINE_H

#include "root-spec.h"

#include "base/cleanup.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	CMDLINE_TEXT_MAX = 4096, /* x86 passes 2048, s390 4096 bytes */
	CMDLINE_MOUNTS_MAX = 16,
	CMDLINE_FALLBACKS_MAX = 8,
	CMDLINE_NETS_MAX = 4,
	CMDLINE_DNS_MAX = 2, /* of one ip= */
	CMDLINE_NAMESERVERS_MAX = 3,
	CMDLINE_PROBLEM_MAX = 320,
};

enum {
	CMDLINE_E_BAD = 1, /* problem says which parameter, and why */
};

enum cmdline_ip {
	CMDLINE_IP_DHCP,
	CMDLINE_IP_STATIC,
	CMDLINE_IP_NONE, /* ip=none: the network is left alone */
};

/* Where writes to a root go that is read-only itself. */
enum cmdline_overlay {
	CMDLINE_OVERLAY_NONE,
	CMDLINE_OVERLAY_TMPFS,
	CMDLINE_OVERLAY_DEVICE,
};

enum cmdline_fsck {
	CMDLINE_FSCK_AUTO, /* what its superblock asks for */
	CMDLINE_FSCK_SKIP,
	CMDLINE_FSCK_FORCE,
};

/* One ip=. Absent texts are NULL. */
struct cmdline_net {
	enum cmdline_ip how;
	const char *device; /* the name of a card, or of the VLAN; NULL: any */
	bool has_mac;       /* the card was named by its address instead */
	uint8_t mac[6];

	/* By DHCP, address is only what to ask for: PXELINUX' IPAPPEND 1 means no more. */
	const char *address, *gateway, *host;
	const char *server; /* the second field: where an NFS root without a server is */
	unsigned int prefix;
	const char *dns[CMDLINE_DNS_MAX];
	size_t dns_count;
	const char *ntp;
	unsigned int mtu; /* 0: the card's own */
	bool has_new_mac;
	uint8_t new_mac[6]; /* the card gets this address */
};

/* vlan=<name>:<card>. The card may be a name, an address with dashes, or "BOOTIF". */
struct cmdline_vlan {
	const char *name; /* NULL: none */
	unsigned int id;
	const char *card; /* NULL when it was named by its address */
	uint8_t mac[6];
};

/* A network block device and where it goes. Absent texts are NULL. */
struct cmdline_mount {
	const char *uri;
	const char *mount_point; /* overlay: NULL; rpmdb: NULL means "look at the root" */
	const char *fstype;
	const char *options;
};

struct cmdline {
	struct root_spec root; /* ROOT_NONE: no usable root= */
	enum cmdline_overlay overlay;
	struct cmdline_mount upper; /* tmpfs: options alone */
	enum cmdline_fsck fsck;
	struct cmdline_mount mounts[CMDLINE_MOUNTS_MAX];
	size_t mounts_count;
	struct cmdline_mount rpmdb; /* uri NULL: none */
	const char *fallbacks[CMDLINE_FALLBACKS_MAX];
	size_t fallbacks_count;

	struct cmdline_net nets[CMDLINE_NETS_MAX]; /* none: DHCP on whatever card there is */
	size_t nets_count;
	const char *bootdev; /* which of several the root hangs on */
	struct cmdline_vlan vlan;
	const char *nameservers[CMDLINE_NAMESERVERS_MAX];
	size_t nameservers_count;
	bool has_bootif;
	uint8_t bootif[6];

	const char *outage; /* nbdclient's --outage; NULL: wait */

	bool is_rw;
	bool is_debug;
	bool wants_shell;
	bool has_panic;
	int panic_s;
	const char *break_step; /* "" for a bare rd.break */
	const char *init;

	char problem[CMDLINE_PROBLEM_MAX]; /* the first one */

	/* What the pointers above point into. */
	char store[4 * CMDLINE_TEXT_MAX];
	size_t store_used;
};

/*
 * Reads all of text, also behind a bad parameter (so that rd.shell and panic= count).
 * 0 or CMDLINE_E_BAD. The struct must not be moved or copied afterwards.
 */
int cmdline_parse(struct cmdline *c, const char *text) _must_check_;

/* The server of the first ip= that has one, or NULL. */
const char *cmdline_ip_server(const struct cmdline *c);

/*
 * The same export of another server: uri with its host, and its port if server names one,
 * replaced. 0, -ENOSPC, or CMDLINE_E_BAD when the URI has no host (nbd+unix).
 */
int cmdline_fallback_uri(const char *uri, const char *server, char *out,
			 size_t out_size) _must_check_;

#endif
