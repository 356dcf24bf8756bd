/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See net-card.h. */
#include "net-card.h"
#include "rtnl.h"

#include "base/fd.h"
#include "base/parse.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

enum { ADDRESSES_MAX = 128 };

static bool read_attribute(const char *card, const char *name, char *out, size_t size)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/class/net/%s/%s", card, name);
	return fd_read_file(path, out, size) >= 0;
}

static bool has_entry(const char *card, const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/class/net/%s/%s", card, name);
	return access(path, F_OK) == 0;
}

/*
 * Not the operational state, which follows up to a second later. What is sent in between may be
 * lost, and is sent again.
 */
static bool has_link(const char *name)
{
	char text[16];

	return read_attribute(name, "carrier", text, sizeof(text)) && strcmp(text, "1") == 0;
}

/* Bridges, VLANs and tunnels have no device behind them; lo neither. */
static bool is_physical(const char *name)
{
	return has_entry(name, "device") && !has_entry(name, "phy80211") &&
	       !has_entry(name, "wireless");
}

bool net_card_read(const char *name, struct net_card *card)
{
	char text[64];

	*card = (struct net_card){ 0 };
	if (!read_attribute(name, "type", text, sizeof(text)) ||
	    strtol(text, NULL, 10) != ARPHRD_ETHER)
		return false;
	if (!read_attribute(name, "address", text, sizeof(text)) || parse_mac(text, card->mac) != 0)
		return false;
	snprintf(card->name, sizeof(card->name), "%s", name);
	snprintf(card->mac_text, sizeof(card->mac_text), "%.17s", text);
	card->is_physical = is_physical(name);
	card->is_up = read_attribute(name, "flags", text, sizeof(text)) &&
		      (strtoul(text, NULL, 16) & IFF_UP) != 0;
	card->has_link = card->is_up && has_link(name);
	return true;
}

bool net_card_is(const struct net_card *card, const char *name, const uint8_t *mac,
		 const uint8_t *given)
{
	if (name != NULL && strcmp(card->name, name) != 0)
		return false;
	return mac == NULL || memcmp(card->mac, mac, 6) == 0 ||
	       (given != NULL && memcmp(card->mac, given, 6) == 0);
}

static int by_index(const void *a, const void *b)
{
	unsigned int ia = if_nametoindex(((const struct net_card *)a)->name);
	unsigned int ib = if_nametoindex(((const struct net_card *)b)->name);

	return (ia > ib) - (ia < ib);
}

size_t net_card_scan(struct net_card out[static NET_CARDS_MAX])
{
	DIR *dir = opendir("/sys/class/net");
	struct dirent *d;
	size_t count = 0;

	while (dir != NULL && count < NET_CARDS_MAX && (d = readdir(dir)) != NULL)
		if (d->d_name[0] != '.' && strlen(d->d_name) < IF_NAMESIZE &&
		    net_card_read(d->d_name, &out[count]) && out[count].is_physical)
			count++;
	if (dir != NULL)
		closedir(dir);
	qsort(out, count, sizeof(*out), by_index);
	return count;
}

static int control(unsigned long request, void *argument)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	return ioctl(fd, (int)request, argument) == 0 ? 0 : -errno;
}

static void set_name(struct ifreq *r, const char *name)
{
	*r = (struct ifreq){ 0 };
	snprintf(r->ifr_name, sizeof(r->ifr_name), "%s", name);
}

static int set_flags(const char *name, bool is_up, bool *was_other)
{
	struct ifreq r;
	int result;

	set_name(&r, name);
	result = control(SIOCGIFFLAGS, &r);
	if (was_other != NULL)
		*was_other = result == 0 && ((r.ifr_flags & IFF_UP) != 0) != is_up;
	if (result < 0 || ((r.ifr_flags & IFF_UP) != 0) == is_up)
		return result;
	r.ifr_flags ^= IFF_UP;
	return control(SIOCSIFFLAGS, &r);
}

int net_card_set_up(const char *name, bool *was_down)
{
	return set_flags(name, true, was_down);
}

int net_card_set_down(const char *name)
{
	return set_flags(name, false, NULL);
}

int net_card_set_mtu(const char *name, unsigned int mtu)
{
	struct ifreq r;

	set_name(&r, name);
	r.ifr_mtu = (int)mtu;
	return control(SIOCSIFMTU, &r);
}

int net_card_set_mac(const char *name, const uint8_t mac[static 6])
{
	struct ifreq r;

	set_name(&r, name);
	r.ifr_hwaddr.sa_family = ARPHRD_ETHER;
	memcpy(r.ifr_hwaddr.sa_data, mac, 6);
	return control(SIOCSIFHWADDR, &r);
}

bool net_card_own_mac(const char *name, uint8_t out[static 6])
{
	union {
		struct ethtool_perm_addr ask;
		uint8_t bytes[sizeof(struct ethtool_perm_addr) + 32]; /* MAX_ADDR_LEN */
	} answer = { .ask = { .cmd = ETHTOOL_GPERMADDR, .size = 32 } };
	static const uint8_t none[6];
	struct net_card card;
	struct ifreq r;
	char text[8];

	set_name(&r, name);
	r.ifr_data = (char *)&answer;
	if (control(SIOCETHTOOL, &r) == 0 && answer.ask.size == 6 &&
	    memcmp(answer.ask.data, none, 6) != 0) {
		memcpy(out, answer.ask.data, 6);
		return true;
	}
	/* 1, NET_ADDR_RANDOM: another one at the next boot. */
	if (!net_card_read(name, &card) ||
	    (read_attribute(name, "addr_assign_type", text, sizeof(text)) &&
	     strcmp(text, "1") == 0))
		return false;
	memcpy(out, card.mac, 6);
	return true;
}

bool net_card_is_usb(const char *name)
{
	char path[128], target[256];
	const char *bus;
	ssize_t n;

	snprintf(path, sizeof(path), "/sys/class/net/%s/device/subsystem", name);
	n = readlink(path, target, sizeof(target) - 1);
	if (n <= 0)
		return false;
	target[n] = '\0';
	bus = strrchr(target, '/');
	return bus != NULL && strcmp(bus, "/usb") == 0;
}

static struct sockaddr inet_of(uint32_t host_order)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(host_order) };
	struct sockaddr any;

	memcpy(&any, &in, sizeof(any));
	return any;
}

static uint32_t address_of(const char *text)
{
	uint32_t address;

	return parse_ipv4(text, &address) == 0 ? address : 0;
}

static uint32_t mask_of(unsigned int prefix)
{
	return prefix == 0 ? 0 : UINT32_MAX << (32 - prefix);
}

int net_card_set_address(const char *name, const char *address, unsigned int prefix)
{
	uint32_t mask = mask_of(prefix);
	uint32_t host = address_of(address);
	struct ifreq r;
	int result;

	set_name(&r, name);
	r.ifr_addr = inet_of(host);
	result = control(SIOCSIFADDR, &r);
	if (result < 0)
		return result;
	r.ifr_netmask = inet_of(mask);
	result = control(SIOCSIFNETMASK, &r);
	if (result < 0 || prefix >= 31)
		return result;
	r.ifr_broadaddr = inet_of(host | ~mask);
	return control(SIOCSIFBRDADDR, &r);
}

int net_card_add_route(const char *name, const char *to, unsigned int prefix, const char *gateway)
{
	return rtnl_add_route(name, address_of(to), prefix, address_of(gateway));
}

bool net_card_has_address(const char *name, const char *address, bool *is_elsewhere)
{
	struct ifreq list[ADDRESSES_MAX] = { 0 };
	struct ifconf all = { .ifc_len = sizeof(list), .ifc_req = list };
	bool has_any = false, has_this = false, is_somewhere = false;
	uint32_t wanted = address_of(address);

	if (control(SIOCGIFCONF, &all) < 0)
		all.ifc_len = 0;
	for (size_t i = 0; i < (size_t)all.ifc_len / sizeof(*list); i++) {
		struct sockaddr_in in;
		/* "eth0:1" is a label of an address on eth0 */
		size_t size = strcspn(list[i].ifr_name, ":");
		bool is_here = strlen(name) == size && memcmp(name, list[i].ifr_name, size) == 0;

		memcpy(&in, &list[i].ifr_addr, sizeof(in));
		has_any |= is_here;
		has_this |= is_here && ntohl(in.sin_addr.s_addr) == wanted;
		is_somewhere |= ntohl(in.sin_addr.s_addr) == wanted;
	}
	*is_elsewhere = !has_this && (has_any || is_somewhere);
	return has_this;
}
