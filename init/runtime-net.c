/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See runtime-net.h. Each file is one that its manager reads from /run, with a name that sorts
 * before all others where the first one counts; a file of the same name in /etc takes its place,
 * for an administrator who wants it otherwise. dhcpcd and ConnMan read nothing from /run.
 */
#include "runtime-net.h"
#include "lease.h"
#include "runtime-host.h"

#include <stdio.h>
#include <string.h>

enum { TEXT_MAX = 1536 };

#define HEAD "# Written by nbdroot at boot: the root hangs on this card, see nbdroot(7).\n"

static void write_file(const char *path, const char *text)
{
	runtime_write_file(path, text, "a network manager in the root may take the card over");
}

/* What names the card to systemd. Type=ether: a VLAN on top has the same address. */
static void match_of(const struct boot_card *card, char out[static 96])
{
	if (card->is_vlan)
		snprintf(out, 96, "Name=%s\nType=vlan", card->interface);
	else
		snprintf(out, 96, "MACAddress=%s\nType=ether", card->mac);
}

/*
 * systemd-networkd. Managed, but told to keep what is there: of a card that is Unmanaged=,
 * systemd-networkd-wait-online takes no notice, and with no other card it delays
 * network-online.target by two minutes and fails. So it also knows the name servers.
 */
static void write_networkd(const struct boot_card *card, bool is_first)
{
	char text[TEXT_MAX], match[96], path[96], suffix[IF_NAMESIZE + 1] = "";
	struct lease lease;

	if (lease_read(BOOT_STATE, card->interface, &lease) != 0)
		lease = (struct lease){ 0 };
	if (!is_first)
		snprintf(suffix, sizeof(suffix), "-%s", card->interface);
	match_of(card, match);
	snprintf(text, sizeof(text),
		 HEAD "[Match]\n%s\n\n"
		      "[Network]\nKeepConfiguration=yes\n%s%s%s%s%s%s",
		 match, lease.dns[0] != '\0' ? "DNS=" : "", lease.dns,
		 lease.dns[0] != '\0' ? "\n" : "", lease.search[0] != '\0' ? "Domains=" : "",
		 lease.search, lease.search[0] != '\0' ? "\n" : "");
	snprintf(path, sizeof(path), "/run/systemd/network/00-nbdroot%s.network", suffix);
	write_file(path, text);

	/* udev: no other name, but more names, and no other address for a card in use. */
	if (card->is_vlan) /* which it does not rename */
		return;
	snprintf(text, sizeof(text),
		 HEAD "[Match]\n%s\n\n[Link]\nMACAddressPolicy=none\n"
		      "AlternativeNamesPolicy=database onboard slot path mac\n",
		 match);
	snprintf(path, sizeof(path), "/run/systemd/network/00-nbdroot%s.link", suffix);
	write_file(path, text);
}

/* NetworkManager. The section [device] outranks all else; old versions know only [keyfile]. */
static void write_network_manager(const struct boot_net *net)
{
	char text[TEXT_MAX], list[512] = "";
	size_t used = 0;

	for (size_t i = 0; i < net->cards_count && used < sizeof(list); i++)
		used += (size_t)snprintf(
			list + used, sizeof(list) - used, "%s%s%s", used > 0 ? "," : "",
			net->cards[i].is_vlan ? "interface-name:" : "mac:",
			net->cards[i].is_vlan ? net->cards[i].interface : net->cards[i].mac);
	snprintf(text, sizeof(text),
		 HEAD "[keyfile]\nunmanaged-devices+=%s\n\n"
		      "[device-nbdroot]\nmatch-device=%s\nmanaged=0\n",
		 list, list);
	write_file("/run/NetworkManager/conf.d/00-nbdroot.conf", text);
}

/*
 * Debian's ifupdown takes a card that its state names for configured, and does nothing: neither
 * with "auto" and "allow-hotplug" at boot, nor, for want of a definition of that name, in the
 * "ifdown -a" of a shutdown.
 */
static void write_ifupdown(const struct boot_net *net)
{
	char path[64], text[256] = "";
	size_t used = 0;

	for (size_t i = 0; i < net->cards_count; i++) {
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s=nbdroot\n",
					 net->cards[i].interface);
		snprintf(path, sizeof(path), "/run/network/ifstate.%s", net->cards[i].interface);
		write_file(path, "nbdroot\n");
	}
	write_file("/run/network/ifstate", text);
}

void runtime_net_write(const struct boot *b)
{
	const struct boot_net *net = &b->net;

	if (net->cards_count == 0) /* ip=none */
		return;
	for (size_t i = 0; i < net->cards_count; i++)
		write_networkd(&net->cards[i],
			       strcmp(net->cards[i].interface, net->interface) == 0);
	write_network_manager(net);
	write_ifupdown(net);
}
