/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See net.h. */
#include "net.h"
#include "lease.h"
#include "modules.h"
#include "mounts.h"
#include "net-card.h"
#include "net-keep.h"
#include "proc.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

#include <stdio.h>
#include <string.h>

enum {
	POLL_MS = 100,
	SAY_FIRST_S = 3,
	SAY_EVERY_S = 10,
	/* A card that was named is used without a link after this: its driver may not tell. */
	NAMED_LINK_WAIT_S = 10,
};

/* When a wait is to be talked about. */
struct wait {
	uint64_t since_ns, next_ns;
};

static void wait_start(struct wait *w)
{
	w->since_ns = clock_now_ns();
	w->next_ns = w->since_ns + SAY_FIRST_S * CLOCK_NS_PER_S;
}

static unsigned int waited_s(const struct wait *w)
{
	return (unsigned int)((clock_now_ns() - w->since_ns) / CLOCK_NS_PER_S);
}

static bool wait_is_due(struct wait *w)
{
	uint64_t now = clock_now_ns();

	if (now < w->next_ns)
		return false;
	w->next_ns = now + SAY_EVERY_S * CLOCK_NS_PER_S;
	return true;
}

static bool is_named(const struct cmdline *c)
{
	return c->has_bootif || c->ip_interface != NULL;
}

static bool is_wanted(const struct cmdline *c, const struct net_card *card)
{
	if (c->has_bootif)
		return memcmp(card->mac, c->bootif, 6) == 0;
	return c->ip_interface == NULL || strcmp(card->name, c->ip_interface) == 0;
}

static void list_cards(const struct net_card *cards, size_t count, char *out, size_t size)
{
	size_t used = 0;

	snprintf(out, size, "none");
	for (size_t i = 0; i < count && used < size; i++)
		used += (size_t)snprintf(out + used, size - used, "%s%s (%s)", used > 0 ? ", " : "",
					 cards[i].name, cards[i].mac_text);
}

static void say_what_is_missing(const struct cmdline *c, const struct net_card *cards, size_t count,
				bool is_seen, unsigned int seconds)
{
	char list[256], wanted[64] = "";

	list_cards(cards, count, list, sizeof(list));
	if (c->has_bootif)
		snprintf(wanted, sizeof(wanted), " %02x:%02x:%02x:%02x:%02x:%02x (BOOTIF=)",
			 c->bootif[0], c->bootif[1], c->bootif[2], c->bootif[3], c->bootif[4],
			 c->bootif[5]);
	else if (c->ip_interface != NULL)
		snprintf(wanted, sizeof(wanted), " %s (ip=)", c->ip_interface);

	if (count == 0)
		log_warn("network card%s: none found after %u s; waiting for one (if the machine "
			 "has one, this initramfs lacks its driver)",
			 wanted, seconds);
	else if (!is_seen)
		log_warn("network card%s: not there after %u s; waiting for it (there are: %s)",
			 wanted, seconds, list);
	else
		log_warn("network link: none after %u s on %s; waiting for one (is the cable in, "
			 "the switch on?)",
			 seconds, is_named(c) ? wanted + 1 : list);
}

static bool is_out_of_patience(const struct cmdline *c, const struct wait *w)
{
	return c->wants_shell && waited_s(w) >= BOOT_PATIENCE_S;
}

/* Waits for a card that is wanted and has a link: for ever, unless rd.shell asks for a shell. */
static int pick_card(struct boot *b, struct net_card *out)
{
	const struct cmdline *c = &b->cmdline;
	struct net_card cards[NET_CARDS_MAX];
	uint64_t seen_ns = 0;
	struct wait w;

	wait_start(&w);
	for (unsigned int round = 0;; round++) {
		size_t count = net_card_scan(cards);
		bool is_seen = false;

		for (size_t i = 0; i < count; i++) {
			int r;

			if (!is_wanted(c, &cards[i]))
				continue;
			is_seen = true;
			if (seen_ns == 0)
				seen_ns = clock_now_ns();
			r = net_card_set_up(cards[i].name);
			if (r < 0)
				log_debug("%s: cannot be brought up: %s", cards[i].name,
					  strerror(-r));
			if (cards[i].has_link ||
			    (is_named(c) &&
			     clock_now_ns() - seen_ns > NAMED_LINK_WAIT_S * CLOCK_NS_PER_S)) {
				*out = cards[i];
				return 0;
			}
		}
		if (is_out_of_patience(c, &w))
			return lastwords_leave(&b->words, NULL, "no %s after %u s",
					       is_seen ? "network link" : "network card to use",
					       waited_s(&w));
		if (wait_is_due(&w))
			say_what_is_missing(c, cards, count, is_seen, waited_s(&w));
		/* USB and slow buses: their devices appear while we wait. */
		if (!is_seen && round % 5 == 4)
			modules_coldplug();
		/* The first look finds every card down; the next one may see its link. */
		proc_sleep_ms(round == 0 ? 10 : POLL_MS);
	}
}

/* It outlives this boot, and whatever it executes or opens lies in BOOT_KEEP. */
static int start_keeper(struct boot *b, const char *how)
{
	const char *argv[] = { NET_KEEP_NAME, b->net.interface, how, NULL };
	struct proc_options o = { .stdout_fd = mounts_kmsg_fd(), .is_daemon = true };
	pid_t pid = proc_spawn(BOOT_KEEP "/shutdown", argv, &o);

	if (pid < 0)
		return (int)pid;
	b->net.keeper_pid = pid;
	return 0;
}

static bool has_link_now(const char *interface)
{
	char path[64], text[8];

	snprintf(path, sizeof(path), "/sys/class/net/%s/carrier", interface);
	return fd_read_file(path, text, sizeof(text)) > 0 && text[0] == '1';
}

/* Waits for the first lease, as pick_card() does. */
static int wait_for_lease(struct boot *b)
{
	unsigned int restart_after_ms = 500;
	struct lease lease;
	struct wait w;

	wait_start(&w);
	for (;;) {
		if (b->net.keeper_pid == 0 || proc_has_ended(b->net.keeper_pid)) {
			int r;

			if (b->net.keeper_pid != 0) {
				log_warn("DHCP on %s: " NET_KEEP_NAME " has ended (starting it "
					 "again)",
					 b->net.interface);
				proc_sleep_ms(restart_after_ms);
				if (restart_after_ms < 8000)
					restart_after_ms *= 2;
			}
			r = start_keeper(b, "dhcp");
			if (r < 0)
				return lastwords_leave(&b->words, NULL,
						       NET_KEEP_NAME " cannot be started: %s",
						       strerror(-r));
		}
		if (lease_read(BOOT_STATE, b->net.interface, &lease) == 0) {
			snprintf(b->net.address, sizeof(b->net.address), "%s", lease.address);
			snprintf(b->net.hostname, sizeof(b->net.hostname), "%s", lease.hostname);
			return 0;
		}
		if (is_out_of_patience(&b->cmdline, &w))
			return lastwords_leave(
				&b->words, NULL, "DHCP on %s (link %s): no answer after %u s",
				b->net.interface, has_link_now(b->net.interface) ? "up" : "down",
				waited_s(&w));
		if (wait_is_due(&w))
			log_warn("DHCP on %s (%s, link %s): no answer after %u s; asking on",
				 b->net.interface, b->net.mac,
				 has_link_now(b->net.interface) ? "up" : "down", waited_s(&w));
		proc_sleep_ms(20);
	}
}

static int write_resolv_conf(const struct cmdline *c)
{
	FILE *f = fopen(BOOT_STATE "/resolv.conf", "we");

	if (f == NULL)
		return -errno;
	for (size_t i = 0; i < c->dns_count; i++)
		fprintf(f, "nameserver %s\n", c->dns[i]);
	return fclose(f) == 0 ? 0 : -errno;
}

/* The same file as DHCP leaves, for those who keep or take over what is set here. */
static int write_static_lease(const struct boot *b)
{
	const struct cmdline *c = &b->cmdline;
	struct lease lease = { .prefix = c->ip_prefix };
	size_t used = 0;

	snprintf(lease.address, sizeof(lease.address), "%s", c->ip_address);
	if (c->ip_gateway != NULL)
		snprintf(lease.routes, sizeof(lease.routes), "0.0.0.0/0 %s", c->ip_gateway);
	for (size_t i = 0; i < c->dns_count && used < sizeof(lease.dns); i++)
		used += (size_t)snprintf(lease.dns + used, sizeof(lease.dns) - used, "%s%s",
					 i > 0 ? " " : "", c->dns[i]);
	return lease_write(BOOT_STATE, b->net.interface, &lease);
}

static int set_static(struct boot *b)
{
	const struct cmdline *c = &b->cmdline;
	const char *name = b->net.interface;
	int r = net_card_set_address(name, c->ip_address, c->ip_prefix);

	if (r < 0)
		return lastwords_leave(&b->words, NULL, "%s: cannot set %s/%u: %s", name,
				       c->ip_address, c->ip_prefix, strerror(-r));
	if (c->ip_gateway != NULL) {
		r = net_card_add_route(name, "0.0.0.0", 0, c->ip_gateway);
		if (r < 0 && r != -EEXIST)
			return lastwords_leave(&b->words, NULL, "%s: cannot set the gateway %s: %s",
					       name, c->ip_gateway, strerror(-r));
	}
	r = write_resolv_conf(c);
	if (r == 0)
		r = write_static_lease(b);
	if (r < 0)
		return lastwords_leave(&b->words, NULL, BOOT_STATE ": cannot be written to: %s",
				       strerror(-r));
	snprintf(b->net.address, sizeof(b->net.address), "%s", c->ip_address);
	if (b->net.keeper_pid == 0 || proc_has_ended(b->net.keeper_pid)) {
		r = start_keeper(b, "static");
		if (r < 0)
			log_warn("network: " NET_KEEP_NAME " cannot be started: %s (nobody keeps "
				 "%s as it is)",
				 strerror(-r), name);
	}
	return 0;
}

static void set_hostname(struct boot *b)
{
	if (b->cmdline.ip_host != NULL)
		snprintf(b->net.hostname, sizeof(b->net.hostname), "%s", b->cmdline.ip_host);
	if (b->net.hostname[0] != '\0' &&
	    sethostname(b->net.hostname, strlen(b->net.hostname)) != 0)
		log_warn("host name %s: cannot be set: %s", b->net.hostname, strerror(errno));
}

int net_up(struct boot *b)
{
	struct net_card card;
	int r = net_card_set_up("lo");

	if (r < 0)
		log_warn("lo: cannot be brought up: %s", strerror(-r));
	/* When DHCP moves the machine inside its network, the new address must outlive the old. */
	if (fd_write_file("/proc/sys/net/ipv4/conf/all/promote_secondaries", "1") < 0)
		log_debug("network: promote_secondaries cannot be set");
	if (b->cmdline.ip == CMDLINE_IP_NONE) {
		log_info("network: left alone (ip=none)");
		set_hostname(b);
		return 0;
	}

	if (pick_card(b, &card) != 0)
		return LASTWORDS_FAILED;
	snprintf(b->net.interface, sizeof(b->net.interface), "%s", card.name);
	snprintf(b->net.mac, sizeof(b->net.mac), "%s", card.mac_text);
	log_info("network card %s (%s), link %s", card.name, card.mac_text,
		 card.has_link ? "up" : "not seen (going on without)");

	r = b->cmdline.ip == CMDLINE_IP_STATIC ? set_static(b) : wait_for_lease(b);
	if (r != 0)
		return r;
	set_hostname(b);
	log_info("network: %s has address %s (%s)%s%s", b->net.interface, b->net.address,
		 b->cmdline.ip == CMDLINE_IP_STATIC ? "ip=" : "DHCP",
		 b->net.hostname[0] != '\0' ? ", name " : "", b->net.hostname);
	return 0;
}
