/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See runtime-net.h. Each file is one that its manager reads from /run, with a name that sorts
 * before all others where the first one counts; a file of the same name in /etc takes its place,
 * for an administrator who wants it otherwise. dhcpcd and ConnMan read nothing from /run.
 */
#include "runtime-net.h"
#include "lease.h"

#include "base/fd.h"
#include "base/log.h"

#include <stdio.h>
#include <string.h>

enum { TEXT_MAX = 1536 };

#define HEAD "# Written by nbdroot at boot: the root hangs on this card, see nbdroot(7).\n"

static void write_file(const char *path, const char *text)
{
	int r = fd_create_file(path, text);

	if (r < 0)
		log_warn("%s: %s (a network manager in the root may take the card over)", path,
			 strerror(-r));
}

/*
 * systemd-networkd. Managed, but told to keep what is there: of a card that is Unmanaged=,
 * systemd-networkd-wait-online takes no notice, and with no other card it delays
 * network-online.target by two minutes and fails. So it also knows the name servers.
 * Type=ether: a VLAN or bridge on top has the same address and must not match.
 */
static void write_networkd(const struct boot *b, const struct lease *lease)
{
	char text[TEXT_MAX];

	snprintf(text, sizeof(text),
		 HEAD "[Match]\nMACAddress=%s\nType=ether\n\n"
		      "[Network]\nKeepConfiguration=yes\n%s%s%s%s%s%s",
		 b->net.mac, lease->dns[0] != '\0' ? "DNS=" : "", lease->dns,
		 lease->dns[0] != '\0' ? "\n" : "", lease->search[0] != '\0' ? "Domains=" : "",
		 lease->search, lease->search[0] != '\0' ? "\n" : "");
	write_file("/run/systemd/network/00-nbdroot.network", text);

	/* udev: no other name, but more names, and no other address for a card in use. */
	snprintf(text, sizeof(text),
		 HEAD "[Match]\nMACAddress=%s\nType=ether\n\n[Link]\nMACAddressPolicy=none\n"
		      "AlternativeNamesPolicy=database onboard slot path mac\n",
		 b->net.mac);
	write_file("/run/systemd/network/00-nbdroot.link", text);
}

/* NetworkManager. The section [device] outranks all else; old versions know only [keyfile]. */
static void write_network_manager(const struct boot *b)
{
	char text[TEXT_MAX];

	snprintf(text, sizeof(text),
		 HEAD "[keyfile]\nunmanaged-devices+=mac:%s\n\n"
		      "[device-nbdroot]\nmatch-device=mac:%s\nmanaged=0\n",
		 b->net.mac, b->net.mac);
	write_file("/run/NetworkManager/conf.d/00-nbdroot.conf", text);
}

/*
 * Debian's ifupdown takes a card that its state names for configured, and does nothing: neither
 * with "auto" and "allow-hotplug" at boot, nor, for want of a definition of that name, in the
 * "ifdown -a" of a shutdown.
 */
static void write_ifupdown(const struct boot *b)
{
	char path[64], text[64];

	snprintf(text, sizeof(text), "%s=nbdroot\n", b->net.interface);
	write_file("/run/network/ifstate", text);
	snprintf(path, sizeof(path), "/run/network/ifstate.%s", b->net.interface);
	write_file(path, "nbdroot\n");
}

void runtime_net_write(const struct boot *b)
{
	struct lease lease;

	if (b->net.interface[0] == '\0') /* ip=none */
		return;
	if (lease_read(BOOT_STATE, b->net.interface, &lease) != 0)
		lease = (struct lease){ 0 };
	write_networkd(b, &lease);
	write_network_manager(b);
	write_ifupdown(b);
}
