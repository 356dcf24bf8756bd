/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See net.h. Which card it is, net-hunt.c finds out; what is found is set up here. */
#include "net.h"
#include "lease.h"
#include "modules.h"
#include "mounts.h"
#include "net-card.h"
#include "net-hunt.h"
#include "net-keep.h"
#include "proc.h"
#include "rtnl.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

#include <stdio.h>
#include <string.h>

enum {
	OTHER_PATIENCE_S = 10, /* for the cards that the root does not hang on */
	KEEPER_ARGS_MAX = 4,
};

/* DHCP on whatever card there is: what no ip= means. */
static const struct cmdline_net any_net = { .how = CMDLINE_IP_DHCP };

/* ---- a card that was found ------------------------------------------------------------------ */

static struct boot_card *add_card(struct boot *b, const struct net_card *card)
{
	struct boot_card *c = &b->net.cards[b->net.cards_count];

	if (b->net.cards_count == ARRAY_SIZE(b->net.cards))
		return NULL;
	*c = (struct boot_card){ .is_vlan = !card->is_physical };
	snprintf(c->interface, sizeof(c->interface), "%s", card->name);
	snprintf(c->mac, sizeof(c->mac), "%s", card->mac_text);
	b->net.cards_count++;
	return c;
}

/*
 * It outlives this boot, and whatever it executes or opens lies in BOOT_KEEP. lower: the card below
 * a VLAN, which is kept as well, or NULL.
 */
static void start_keeper(struct boot_card *card, const struct cmdline_net *n, const char *lower)
{
	char arguments[KEEPER_ARGS_MAX][96];
	const char *argv[3 + KEEPER_ARGS_MAX + 1] = { NET_KEEP_NAME, card->interface,
						      n->how == CMDLINE_IP_DHCP ? "dhcp"
										: "static" };
	struct proc_options o = { .stdout_fd = mounts_kmsg_fd(), .is_daemon = true };
	size_t count = 0;

	if (lower != NULL)
		snprintf(arguments[count++], sizeof(*arguments), "lower=%s", lower);
	if (n->host != NULL && strlen(n->host) < 65)
		snprintf(arguments[count++], sizeof(*arguments), "host=%s", n->host);
	if (n->mtu != 0)
		snprintf(arguments[count++], sizeof(*arguments), "mtu=%u", n->mtu);
	for (size_t i = 0; i < count; i++)
		argv[3 + i] = arguments[i];
	if (card->keeper_pid != 0 && !proc_has_ended(card->keeper_pid))
		return;
	card->keeper_pid = proc_spawn(BOOT_KEEP "/shutdown", argv, &o);
	if (card->keeper_pid < 0) {
		log_warn("network: " NET_KEEP_NAME
			 " cannot be started: %s (nobody keeps %s as it is%s)",
			 strerror(-card->keeper_pid), card->interface,
			 n->how == CMDLINE_IP_DHCP ? ", and nobody renews its lease" : "");
		card->keeper_pid = 0;
	}
}

/* nameserver= counts before what ip= and DHCP say; udhcpc.script reads the file, too. */
static int write_nameservers(const struct cmdline *c, FILE *f)
{
	for (size_t i = 0; i < c->nameservers_count; i++)
		fprintf(f, "nameserver %s\n", c->nameservers[i]);
	return ferror(f) ? -EIO : 0;
}

static int write_resolv_conf(const struct cmdline *c, const struct lease *l)
{
	char dns[sizeof(l->dns)], *save, *word;
	FILE *f;
	int r;

	if (c->nameservers_count > 0) {
		f = fopen(BOOT_STATE "/nameservers", "we");
		if (f == NULL)
			return -errno;
		r = write_nameservers(c, f);
		if (fclose(f) != 0 || r < 0)
			return -EIO;
	}
	f = fopen(BOOT_STATE "/resolv.conf", "we");
	if (f == NULL)
		return -errno;
	if (l->search[0] != '\0')
		fprintf(f, "search %s\n", l->search);
	r = write_nameservers(c, f);
	memcpy(dns, l->dns, sizeof(dns));
	for (word = strtok_r(dns, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save))
		fprintf(f, "nameserver %s\n", word);
	return fclose(f) == 0 ? r : -errno;
}

/* The file that DHCP leaves, for those who keep or take over what ip= says. */
static void lease_of(const struct cmdline_net *n, struct lease *l)
{
	size_t used = 0;

	*l = (struct lease){ .prefix = n->prefix };
	snprintf(l->address, sizeof(l->address), "%s", n->address);
	if (n->gateway != NULL)
		snprintf(l->routes, sizeof(l->routes), "0.0.0.0/0 %s", n->gateway);
	for (size_t i = 0; i < n->dns_count && used < sizeof(l->dns); i++)
		used += (size_t)snprintf(l->dns + used, sizeof(l->dns) - used, "%s%s",
					 i > 0 ? " " : "", n->dns[i]);
	if (n->ntp != NULL)
		snprintf(l->ntp, sizeof(l->ntp), "%s", n->ntp);
}

static void set_routes(const char *interface, const struct lease *l)
{
	const char *rest = l->routes;
	struct lease_route to;

	while (lease_next_route(&rest, &to)) {
		int r = net_card_add_route(interface, to.to, to.prefix, to.gateway);

		if (r < 0 && r != -EEXIST)
			log_warn("network: the route to %s/%u by %s cannot be set on %s: %s (going "
				 "on without it)",
				 to.to, to.prefix, to.gateway, interface, strerror(-r));
	}
}

static int set_up(struct boot *b, struct boot_card *card, const struct cmdline_net *n,
		  const struct hunt_result *found)
{
	struct lease lease;
	int r;

	if (found->has_lease)
		lease = found->lease.lease;
	else
		lease_of(n, &lease);
	if (found->has_lease && found->lease.mtu != 0 && n->mtu == 0 &&
	    net_card_set_mtu(card->interface, found->lease.mtu) < 0)
		log_warn("network: %s does not take the MTU %u of the DHCP server (going on with "
			 "its "
			 "own)",
			 card->interface, found->lease.mtu);
	r = net_card_set_address(card->interface, lease.address, lease.prefix);
	if (r < 0)
		return lastwords_leave(&b->words, NULL, "%s: cannot set %s/%u: %s", card->interface,
				       lease.address, lease.prefix, strerror(-r));
	set_routes(card->interface, &lease);
	r = write_resolv_conf(&b->cmdline, &lease);
	if (r == 0)
		r = lease_write(BOOT_STATE, card->interface, &lease);
	if (r < 0)
		return lastwords_leave(&b->words, NULL, BOOT_STATE ": cannot be written to: %s",
				       strerror(-r));
	return 0;
}

/* The card that the root hangs on. */
static void set_boot_card(struct boot *b, const struct boot_card *card, const struct cmdline_net *n,
			  const struct hunt_result *found)
{
	struct boot_net *net = &b->net;

	snprintf(net->interface, sizeof(net->interface), "%s", card->interface);
	snprintf(net->mac, sizeof(net->mac), "%s", card->mac);
	snprintf(net->address, sizeof(net->address), "%s",
		 found->has_lease ? found->lease.lease.address : n->address);
	net->ip = n;
	if (n->host != NULL)
		snprintf(net->hostname, sizeof(net->hostname), "%s", n->host);
	else if (found->has_lease)
		snprintf(net->hostname, sizeof(net->hostname), "%s", found->lease.lease.hostname);
}

static void set_hostname(struct boot *b)
{
	if (b->net.hostname[0] != '\0' &&
	    sethostname(b->net.hostname, strlen(b->net.hostname)) != 0)
		log_warn("host name %s: cannot be set: %s", b->net.hostname, strerror(errno));
}

/* ---- one ip= -------------------------------------------------------------------------------- */

static int leave_words(struct boot *b, int missing, unsigned int seconds)
{
	static const char *const what[] = {
		"place for one more card", [HUNT_E_NO_CARD] = "network card to use",
		[HUNT_E_NO_LINK] = "network link", [HUNT_E_NO_LEASE] = "answer by DHCP"
	};

	return lastwords_leave(&b->words, NULL, "no %s after %u s", what[missing], seconds);
}

static unsigned int patience_s(const struct boot *b, bool is_boot)
{
	if (!is_boot)
		return OTHER_PATIENCE_S;
	return b->cmdline.wants_shell ? BOOT_PATIENCE_S : 0;
}

/* How vlan= names the card below it; mac NULL and device NULL: any. */
static void name_lower(const struct cmdline *c, struct hunt_goal *goal)
{
	goal->device = c->vlan.card;
	goal->why = "vlan=";
	if (c->vlan.card == NULL) {
		goal->mac = c->vlan.mac;
	} else if (strcmp(c->vlan.card, "BOOTIF") == 0) {
		goal->device = NULL;
		goal->mac = c->has_bootif ? c->bootif : NULL;
		goal->why = "BOOTIF=";
	}
}

/* An earlier try, or an ip= of its own, may have set it up. */
static const char *find_lower(const struct boot *b, const struct hunt_goal *goal)
{
	for (size_t i = 0; i < b->net.cards_count; i++) {
		const char *name = b->net.cards[i].interface;
		struct net_card card;

		if (!b->net.cards[i].is_vlan && net_card_read(name, &card) &&
		    net_card_is(&card, goal->device, goal->mac, NULL))
			return name;
	}
	return NULL;
}

/* The card below the VLAN, up, and the VLAN on it. The name of the card, or NULL with words left.
 */
static const char *make_vlan(struct boot *b, bool is_boot)
{
	const struct cmdline_vlan *v = &b->cmdline.vlan;
	struct hunt_goal goal = { .patience_s = patience_s(b, is_boot) };
	struct hunt_result found;
	struct boot_card *card;
	const char *lower;
	int r;

	name_lower(&b->cmdline, &goal);
	lower = find_lower(b, &goal);
	if (lower == NULL) {
		r = net_hunt(b, &goal, &found);
		card = r == 0 ? add_card(b, &found.card) : NULL;
		if (card == NULL) {
			leave_words(b, r, goal.patience_s);
			return NULL;
		}
		lower = card->interface;
	}
	if (modules_load("8021q", NULL) < 0)
		log_debug("network: no 8021q");
	r = rtnl_add_vlan(v->name, lower, v->id);
	if (r == -EEXIST && net_card_read(v->name, &found.card) && !found.card.is_physical)
		r = 0; /* by an earlier try */
	if (r < 0) {
		lastwords_leave(&b->words,
				"VLANs need the module 8021q in the initramfs: build it again "
				"(nbdroot initramfs)",
				"%s: cannot make VLAN %u on %s: %s", v->name, v->id, lower,
				strerror(-r));
		return NULL;
	}
	log_info("network: %s is VLAN %u on %s", v->name, v->id, lower);
	return lower;
}

static bool is_vlan(const struct boot *b, const struct cmdline_net *n)
{
	const char *vlan = b->cmdline.vlan.name;

	if (vlan == NULL || n->has_mac)
		return false;
	return n->device == NULL || strcmp(n->device, vlan) == 0;
}

static int bring_up(struct boot *b, const struct cmdline_net *n, bool is_boot)
{
	const struct cmdline *c = &b->cmdline;
	uint64_t began_ns = clock_now_ns();
	struct hunt_goal goal = { .device = n->device,
				  .mac = n->has_mac ? n->mac : NULL,
				  .why = "ip=",
				  .net = n,
				  .wants_root_path = is_boot && c->root.kind == ROOT_DHCP,
				  .patience_s = patience_s(b, is_boot) };
	struct hunt_result found;
	const char *lower = NULL;
	struct boot_card *card;
	uint64_t ms;
	int r;

	if (is_vlan(b, n)) {
		goal.device = c->vlan.name;
		goal.why = "vlan=";
		lower = make_vlan(b, is_boot);
		if (lower == NULL)
			return LASTWORDS_FAILED;
	} else if (c->has_bootif && (n->device == NULL || c->nets_count < 2) && !n->has_mac) {
		goal.device = NULL;
		goal.mac = c->bootif;
		goal.why = "BOOTIF=";
	}
	r = net_hunt(b, &goal, &found);
	if (r != 0)
		return leave_words(b, r, goal.patience_s);

	log_info("network card %s (%s), link %s", found.card.name, found.card.mac_text,
		 found.card.has_link ? "up" : "not seen (going on without)");
	if (found.has_lease && found.lease.left_out[0] != '\0')
		log_warn("network: the DHCP server %s sends what no machine can use: %s (left out)",
			 found.lease.lease.server, found.lease.left_out);
	card = add_card(b, &found.card);
	if (card == NULL)
		return lastwords_leave(&b->words, NULL, "more network cards than ip= can have");
	r = set_up(b, card, n, &found);
	if (r != 0) {
		b->net.cards_count--;
		return r;
	}
	if (is_boot) {
		set_boot_card(b, card, n, &found);
		set_hostname(b);
	}
	start_keeper(card, n, lower);
	ms = (clock_now_ns() - began_ns) / CLOCK_NS_PER_MS;
	log_info("network: %s has address %s (%s)%s%s, %u.%u s", card->interface,
		 found.has_lease ? found.lease.lease.address : n->address,
		 found.has_lease ? "DHCP" : "ip=",
		 is_boot && b->net.hostname[0] != '\0' ? ", name " : "",
		 is_boot ? b->net.hostname : "", (unsigned int)(ms / 1000),
		 (unsigned int)(ms % 1000 / 100));
	return 0;
}

/* ---- all of them ---------------------------------------------------------------------------- */

static bool is_for_boot(const struct cmdline_net *n, const char *device)
{
	return n->how != CMDLINE_IP_NONE && n->device != NULL && strcmp(n->device, device) == 0;
}

/*
 * Which ip= is the root's: bootdev=, else the VLAN's, else BOOTIF's (in no card's name), else the
 * first, of those that do not leave their card alone. count: all do.
 */
static size_t find_boot_net(const struct boot *b, const struct cmdline_net *nets, size_t count)
{
	const struct cmdline *c = &b->cmdline;

	for (size_t i = 0; c->bootdev != NULL && i < count; i++)
		if (is_for_boot(&nets[i], c->bootdev))
			return i;
	for (size_t i = 0; c->vlan.name != NULL && i < count; i++)
		if (is_for_boot(&nets[i], c->vlan.name))
			return i;
	for (size_t i = 0; c->has_bootif && i < count; i++)
		if (nets[i].how != CMDLINE_IP_NONE &&
		    (nets[i].has_mac ? memcmp(nets[i].mac, c->bootif, 6) == 0
				     : nets[i].device == NULL))
			return i;
	for (size_t i = 0; i < count; i++)
		if (nets[i].how != CMDLINE_IP_NONE)
			return i;
	return count;
}

int net_up(struct boot *b)
{
	const struct cmdline *c = &b->cmdline;
	const struct cmdline_net *nets = c->nets_count > 0 ? c->nets : &any_net;
	size_t count = c->nets_count > 0 ? c->nets_count : 1;
	size_t boot = find_boot_net(b, nets, count);
	int r = net_card_set_up("lo", NULL);

	if (r < 0)
		log_warn("lo: cannot be brought up: %s", strerror(-r));
	/* When DHCP moves the machine inside its network, the new address must outlive the old. */
	if (fd_write_file("/proc/sys/net/ipv4/conf/all/promote_secondaries", "1") < 0)
		log_debug("network: promote_secondaries cannot be set");
	if (boot == count) {
		log_info("network: left alone (ip=none)");
		return 0;
	}
	if (b->net.interface[0] == '\0') {
		r = bring_up(b, &nets[boot], true);
		if (r != 0)
			return r;
	}
	for (size_t i = 0; i < count; i++)
		if (i != boot && nets[i].how != CMDLINE_IP_NONE &&
		    bring_up(b, &nets[i], false) != 0)
			log_warn("network: %s: %s (going on, for the root does not hang on it)",
				 nets[i].device != NULL ? nets[i].device : "ip=", b->words.why);
	return 0;
}
