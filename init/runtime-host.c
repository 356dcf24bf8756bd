/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See runtime-host.h. What each program reads, and when it does not, is in docs/roots.md. */
#include "runtime-host.h"
#include "ask.h"
#include "lease.h"
#include "machine-id.h"
#include "net-card.h"
#include "values.h"

#include "base/fd.h"
#include "base/log.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define MACHINE_ID "/run/machine-id" /* where systemd has it that finds none in /etc */
/* A copy: what is mounted over a file does not see that another has taken the name. */
#define RESOLV_CONF_COPY BOOT_STATE "/resolv.conf.root"

enum { TEXT_MAX = 1536 };

#define HEAD "# Written by nbdroot at boot, see nbdroot(7).\n"

void runtime_write_file(const char *path, const char *text, const char *consequence)
{
	int r = fd_create_file(path, text);

	if (r < 0)
		log_warn("%s: %s (%s)", path, strerror(-r), consequence);
}

static void write_file(const char *path, const char *text)
{
	runtime_write_file(path, text, "going on without it");
}

/* file, of /run, on a file of the root, whose symlinks have been followed. 0 or an errno. */
static int mount_over(const char *file, const char *real, unsigned long flags)
{
	char where[PATH_MAX + sizeof(BOOT_NEWROOT)];

	snprintf(where, sizeof(where), "%s%s", BOOT_NEWROOT, real);
	if (mount(file, where, NULL, MS_BIND, NULL) != 0)
		return errno;
	if (flags != 0)
		(void)mount(NULL, where, NULL, MS_BIND | MS_REMOUNT | flags, NULL);
	return 0;
}

/* Of a file in the root, symlinks followed; its text, or negative errno. */
static int read_in_root(const char *path, char real[static PATH_MAX], char *out, size_t size)
{
	char whole[PATH_MAX + sizeof(BOOT_NEWROOT)];
	int r = ask(ASK_IS_FILE, path, real);

	if (r < 0)
		return r;
	snprintf(whole, sizeof(whole), "%s%s", BOOT_NEWROOT, real);
	return fd_read_file(whole, out, size);
}

/* ---- machine id ----------------------------------------------------------------------------- */

/*
 * The address that stands for the machine; "" without a card. What BOOTIF= has is the firmware's
 * choice of a card, and in the boot entry, so that it is the same for as long as that is.
 */
static void machine_mac(const struct boot *b, char out[static 18])
{
	struct net_card cards[NET_CARDS_MAX];
	struct machine_id_card own[NET_CARDS_MAX];
	const uint8_t *mac = b->cmdline.bootif;

	if (!b->cmdline.has_bootif) {
		size_t count = net_card_scan(cards), own_count = 0;
		const struct machine_id_card *chosen;

		for (size_t i = 0; i < count; i++)
			if (net_card_own_mac(cards[i].name, own[own_count].mac))
				own[own_count++].is_usb = net_card_is_usb(cards[i].name);
		chosen = machine_id_choose(own, own_count);
		if (chosen == NULL) {
			*out = '\0';
			return;
		}
		mac = chosen->mac;
	}
	snprintf(out, 18, "%02x-%02x-%02x-%02x-%02x-%02x", mac[0], mac[1], mac[2], mac[3], mac[4],
		 mac[5]);
}

static void give_machine_id(struct boot *b)
{
	char real[PATH_MAX], text[64] = "", id[MACHINE_ID_TEXT], line[MACHINE_ID_TEXT + 1], mac[18];
	struct values values;
	int r = read_in_root("/etc/machine-id", real, text, sizeof(text));

	if (r >= 0 && !machine_id_is_open(text))
		return; /* the root's own */
	values_read(b, &values);
	machine_mac(b, mac);
	if (machine_id_derive(values.uuid, mac, id) != 0) {
		log_info("machine id: this machine has neither a UUID nor a network card to derive "
			 "one from (left to the root)");
		return;
	}
	if (r == -ENOENT) {
		/* Nothing to mount it on; systemd takes it as an argument instead. */
		memcpy(b->machine_id, id, sizeof(b->machine_id));
		return;
	}
	snprintf(line, sizeof(line), "%s\n", id);
	if (r < 0 || fd_create_file(MACHINE_ID, line) < 0 || chmod(MACHINE_ID, 0444) != 0 ||
	    mount_over(MACHINE_ID, real, MS_RDONLY | MS_NOSUID | MS_NODEV) != 0)
		log_warn(
			"/etc/machine-id: cannot be given to the root: %s (the root finds its own)",
			strerror(r < 0 ? -r : errno));
	else
		log_info("machine id: %s", id);
}

/* ---- name servers --------------------------------------------------------------------------- */

/* The path in /run that a symlink in /etc leads to, or NULL. */
static const char *in_run(const char *link)
{
	static const char *const ways[] = { "/run/", "../run/", "/var/run/", "../var/run/" };

	for (size_t i = 0; i < ARRAY_SIZE(ways); i++)
		if (strncmp(link, ways[i], strlen(ways[i])) == 0 && strstr(link, "/../") == NULL)
			return link + strlen(ways[i]);
	return NULL;
}

static void give_resolv_conf(void)
{
	char text[TEXT_MAX], old[8], real[PATH_MAX], link[PATH_MAX], path[PATH_MAX + 8];
	const char *rest;
	int r;

	if (fd_read_file(BOOT_STATE "/resolv.conf", text, sizeof(text)) < 0 ||
	    strstr(text, "nameserver") == NULL)
		return;
	r = read_in_root("/etc/resolv.conf", real, old, sizeof(old));
	if (r == 0) { /* empty */
		size_t size = strlen(text);

		snprintf(text + size, sizeof(text) - size, "\n");
		r = fd_create_file(RESOLV_CONF_COPY, text);
		if (r == 0)
			r = -mount_over(RESOLV_CONF_COPY, real, 0);
		if (r < 0)
			log_warn("/etc/resolv.conf: cannot be given to the root: %s", strerror(-r));
		return;
	}
	if (r != -ENOENT)
		return; /* somebody has written one */
	if (ask(ASK_LINK, "/etc/resolv.conf", link) < 0) {
		log_info("/etc/resolv.conf: the root has none (the name servers are in " BOOT_STATE
			 "/resolv.conf: make it a symbolic link to that)");
		return;
	}
	/* Its manager is not there yet, or never; systemd-resolved makes its own folder. */
	rest = in_run(link);
	if (rest == NULL || strncmp(rest, "systemd/", 8) == 0 || strncmp(rest, "nbdroot/", 8) == 0)
		return;
	snprintf(path, sizeof(path), "/run/%s", rest);
	if (fd_create_file(path, "") < 0 || unlink(path) != 0 ||
	    symlink(BOOT_STATE "/resolv.conf", path) != 0)
		log_warn("%s: cannot be made: %s", path, strerror(errno));
}

/* ---- what managers read in /run ------------------------------------------------------------- */

/* The words of a list that are addresses or names, each behind before: none can add a line. */
static size_t add_words(char out[static TEXT_MAX], size_t used, const char *list,
			const char *before, const char *after)
{
	while (*list != '\0') {
		size_t size = strcspn(list, " ");
		bool is_good = size > 0 && size < 256;

		for (size_t i = 0; i < size; i++)
			is_good = is_good && (isalnum((unsigned char)list[i]) ||
					      strchr(".:_-", list[i]) != NULL);
		if (is_good && used + size + strlen(before) + strlen(after) < TEXT_MAX)
			used += (size_t)snprintf(out + used, TEXT_MAX - used, "%s%.*s%s", before,
						 (int)size, list, after);
		list += size;
		list += strspn(list, " ");
	}
	return used;
}

static void write_resolved(const struct lease *lease)
{
	char text[TEXT_MAX] = HEAD "[Resolve]\nDNS=";
	size_t head = strlen(text), used = add_words(text, head, lease->dns, " ", "");

	if (used == head)
		return;
	if (lease->search[0] != '\0' && used + 16 < sizeof(text)) {
		used += (size_t)snprintf(text + used, sizeof(text) - used, "\nDomains=");
		used = add_words(text, used, lease->search, " ", "");
	}
	snprintf(text + used, sizeof(text) - used, "\n");
	write_file("/run/systemd/resolved.conf.d/00-nbdroot.conf", text);
}

static void write_time_servers(const struct lease *lease)
{
	char text[TEXT_MAX] = HEAD "[Time]\nNTP=";
	size_t head = strlen(text), used = add_words(text, head, lease->ntp, " ", "");

	if (used == head)
		return;
	snprintf(text + used, sizeof(text) - used, "\n");
	write_file("/run/systemd/timesyncd.conf.d/00-nbdroot.conf", text);

	/* chrony of Debian, Fedora and EL reads what DHCP clients leave here. */
	snprintf(text, sizeof(text), HEAD);
	add_words(text, strlen(text), lease->ntp, "server ", " iburst\n");
	write_file("/run/chrony-dhcp/nbdroot.sources", text);
}

void runtime_host_write(struct boot *b)
{
	struct lease lease;

	/*
	 * For SELinux: when its policy is loaded, systemd labels /run anew, but no tmpfs of its own
	 * below it, unless it is told to.
	 */
	write_file("/run/systemd/relabel-extra.d/nbdroot.relabel", BOOT_KEEP "\n");
	give_machine_id(b);
	if (b->net.interface[0] == '\0' || lease_read(BOOT_STATE, b->net.interface, &lease) != 0)
		return;
	give_resolv_conf();
	write_resolved(&lease);
	write_time_servers(&lease);
}
