/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See net-keep.h. Everything that is executed or opened lies in BOOT_KEEP, which is the root
 * directory here: the real root may be away, and what hangs on the network would wait for us. The
 * process is mlocked; its children inherit that the OOM killer spares it.
 *
 * Signals are blocked, not handled, for a mask is inherited over exec: kill(-1, TERM) and SIGUSR2
 * ("release the lease") do not reach udhcpc either. Only SIGKILL does. When udhcpc dies, it is
 * started again; when this process dies, udhcpc goes on. The kernel was given no lifetimes, so the
 * address stays in any case.
 */
#include "net-keep.h"
#include "boot.h"
#include "dhcp.h"
#include "lease.h"
#include "net-card.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/spare.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum {
	/*
	 * Whoever takes an address away may be about to give another. Less than the second after
	 * which nbdclient gives up a link whose address is gone.
	 */
	ADDRESS_AWAY_MS = 500,
	LINK_DOWN_MS = 3000, /* for who takes the card down to change something about it */
	AGAIN_MS = 1000,     /* the same once more: doubled each time */
	AGAIN_MAX_MS = 60000,
	/* init has the first lease: who renews it lets the boot have the processors first. */
	DHCP_FIRST_MS = 1000,
	CALM_S = 120, /* without it, the doubling begins anew */
	READ_MAX = 8192,
};

/* How long to wait before doing again what was done before. */
struct patience {
	uint64_t last_ns;
	unsigned int ms;
};

static uint64_t next_time(struct patience *p, uint64_t now_ns)
{
	if (p->ms == 0 || now_ns - p->last_ns > CALM_S * CLOCK_NS_PER_S)
		p->ms = AGAIN_MS;
	else
		p->ms = p->ms < AGAIN_MAX_MS / 2 ? p->ms * 2 : AGAIN_MAX_MS;
	p->last_ns = now_ns;
	return now_ns + p->ms * CLOCK_NS_PER_MS;
}

struct keeper {
	char name[IF_NAMESIZE];
	unsigned int index; /* 0: the card is gone */
	bool is_up, has_master;
	uint64_t down_ns;  /* since when, if not is_up */
	uint64_t check_ns; /* when to look at the card; CLOCK_NEVER */
	uint64_t not_before_ns;
	struct patience mending, routing;
	bool lacks_routes; /* which was said */

	unsigned int lower; /* the card below a VLAN, which goes down and up with it; 0: none */
	char lower_name[IF_NAMESIZE];

	const char *host; /* told to the DHCP server; NULL: none */
	char mtu[32];     /* "fixed_mtu=1400" for the script, or "" */
	bool is_dhcp;
	pid_t dhcp_pid;   /* 0: none */
	uint64_t dhcp_ns; /* when to start one; CLOCK_NEVER */
	struct patience starting;

	int netlink_fd, signal_fd;
	sigset_t blocked;
};

/* ---- the DHCP client ------------------------------------------------------------------------ */

static void start_dhcp(struct keeper *k)
{
	const char *environment[] = { "PATH=/bin", k->mtu[0] != '\0' ? k->mtu : NULL, NULL };
	/* busybox takes the applet from what stands behind the last '/'; systemd spares '@'. */
	const char *argv[32] = { "@/udhcpc", "-f", "-i", k->name, "-s", "/etc/udhcpc.script",
				 /* three tries, 1 s apart; then 3 s later again, for ever */
				 "-t", "3", "-T", "1", "-A", "3",
				 /* the same words as init's own request, dhcp.h */
				 "-V", DHCP_VENDOR,
				 /*
				  * Root path, MTU, search list, classless routes: not asked for by
				  * default, as 1, 3, 6, 12, 15, 28 and 42 are.
				  */
				 "-O", "17", "-O", "26", "-O", "119", "-O", "121" };
	char host[96];
	size_t n = 0;
	struct lease lease;

	while (argv[n] != NULL)
		n++;
	/* What the card has already: asked for first by one that is started again. */
	if (lease_read(BOOT_STATE_INSIDE, k->name, &lease) == 0) {
		argv[n++] = "-r";
		argv[n++] = lease.address;
	}
	if (k->host != NULL) {
		snprintf(host, sizeof(host), "hostname:%s", k->host);
		argv[n++] = "-x";
		argv[n++] = host;
	}
	k->dhcp_ns = CLOCK_NEVER;
	k->dhcp_pid = fork();
	if (k->dhcp_pid == 0) {
		sigset_t set;

		sigemptyset(&set);
		sigaddset(&set, SIGCHLD);
		sigprocmask(SIG_UNBLOCK, &set, NULL);
		execve("/bin/busybox", (char *const *)argv, (char *const *)environment);
		_exit(127);
	}
	if (k->dhcp_pid < 0) {
		k->dhcp_pid = 0;
		k->dhcp_ns = next_time(&k->starting, clock_now_ns());
		log_warn("network: udhcpc cannot be started: %s (trying again in %u s)",
			 strerror(errno), k->starting.ms / 1000);
	}
}

static void on_child(struct keeper *k)
{
	struct signalfd_siginfo info;
	int status;
	pid_t pid;

	while (read(k->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid != k->dhcp_pid)
			continue;
		k->dhcp_pid = 0;
		if (k->dhcp_ns != CLOCK_NEVER) /* we ended it ourselves */
			continue;
		k->dhcp_ns = next_time(&k->starting, clock_now_ns());
		log_warn("network: the DHCP client of %s has ended (%s %d; starting it again in "
			 "%u s)",
			 k->name, WIFSIGNALED(status) ? "signal" : "exit status",
			 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
			 k->starting.ms / 1000);
	}
}

/* ---- the card ------------------------------------------------------------------------------- */

static void look_at(struct keeper *k, uint64_t when_ns)
{
	if (when_ns < k->not_before_ns)
		when_ns = k->not_before_ns;
	if (when_ns < k->check_ns)
		k->check_ns = when_ns;
}

/* Adds what is missing of the lease's routes; what cannot be added, later. How many it added. */
static unsigned int add_routes(struct keeper *k, const struct lease *lease, uint64_t now_ns)
{
	const char *rest = lease->routes;
	unsigned int added = 0, failed = 0;
	struct lease_route to;

	while (lease_next_route(&rest, &to)) {
		int r = net_card_add_route(k->name, to.to, to.prefix, to.gateway);

		added += r == 0;
		if (r == 0 || r == -EEXIST)
			continue;
		failed++;
		if (!k->lacks_routes)
			log_warn("network: the route to %s/%u by %s cannot be given back to %s: %s "
				 "(trying again, at growing intervals)",
				 to.to, to.prefix, to.gateway, k->name, strerror(-r));
	}
	k->lacks_routes = failed > 0;
	if (failed > 0)
		look_at(k, next_time(&k->routing, now_ns));
	return added;
}

/* Part of a bridge or a bond, replaced, or moved elsewhere: then it is somebody else's business. */
static bool is_ours(const struct keeper *k, const struct lease *lease, bool *has_address)
{
	bool is_elsewhere;

	if (k->index == 0 || k->has_master)
		return false;
	*has_address = net_card_has_address(k->name, lease->address, &is_elsewhere);
	return !is_elsewhere;
}

static void mend(struct keeper *k, uint64_t now_ns)
{
	bool was_up = k->is_up, has_address;
	struct lease lease;
	unsigned int routes;
	int r = 0;

	k->check_ns = CLOCK_NEVER;
	if (lease_read(BOOT_STATE_INSIDE, k->name, &lease) != 0 ||
	    !is_ours(k, &lease, &has_address))
		return;
	if (!was_up && now_ns - k->down_ns < LINK_DOWN_MS * CLOCK_NS_PER_MS) {
		look_at(k, k->down_ns + LINK_DOWN_MS * CLOCK_NS_PER_MS);
		return;
	}
	/* A VLAN's card may have got another name. */
	if (!was_up && k->lower != 0 && if_indextoname(k->lower, k->lower_name) != NULL)
		r = net_card_set_up(k->lower_name, NULL);
	if (r == 0 && !was_up)
		r = net_card_set_up(k->name, NULL);
	if (r == 0 && !has_address)
		r = net_card_set_address(k->name, lease.address, lease.prefix);
	if (r < 0) {
		look_at(k, next_time(&k->mending, now_ns));
		log_warn("network: %s was taken down or has lost its address %s, which cannot be "
			 "given back: %s (trying again in %u s)",
			 k->name, lease.address, strerror(-r), k->mending.ms / 1000);
		return;
	}
	routes = add_routes(k, &lease, now_ns);
	if (was_up && has_address && routes == 0)
		return;
	k->not_before_ns = next_time(&k->mending, now_ns);
	log_warn("network: somebody took from %s what a root hangs on:%s%s%s%s (given back)",
		 k->name, was_up ? "" : " link", has_address ? "" : " address ",
		 has_address ? "" : lease.address, routes > 0 ? " routes" : "");
}

static void on_name(struct keeper *k)
{
	char name[IF_NAMESIZE], from[96], to[96];

	if (if_indextoname(k->index, name) == NULL || strcmp(name, k->name) == 0)
		return;
	log_info("network: %s is called %s now", k->name, name);
	snprintf(from, sizeof(from), BOOT_STATE_INSIDE "/lease.%s", k->name);
	snprintf(to, sizeof(to), BOOT_STATE_INSIDE "/lease.%s", name);
	(void)rename(from, to);
	snprintf(k->name, sizeof(k->name), "%s", name);
	/* udhcpc knows its card by name. */
	if (k->dhcp_pid > 0) {
		k->dhcp_ns = clock_now_ns();
		kill(k->dhcp_pid, SIGKILL);
	}
}

/* The attribute of this type, as a number; 0 when there is none. */
static unsigned int attribute(const struct nlmsghdr *h, size_t head, unsigned short type)
{
	const struct rtattr *a =
		(const struct rtattr *)((const char *)NLMSG_DATA(h) + NLMSG_ALIGN(head));
	size_t left = h->nlmsg_len - NLMSG_LENGTH(head);
	unsigned int value = 0;

	for (; RTA_OK(a, left); a = RTA_NEXT(a, left))
		if (a->rta_type == type && RTA_PAYLOAD(a) == sizeof(value))
			memcpy(&value, RTA_DATA(a), sizeof(value));
	return value;
}

static void on_link(struct keeper *k, const struct nlmsghdr *h, uint64_t now_ns)
{
	const struct ifinfomsg *link = NLMSG_DATA(h);
	bool is_up = (link->ifi_flags & IFF_UP) != 0, had_master = k->has_master;

	if (link->ifi_family != AF_UNSPEC) /* a bridge's view of its ports */
		return;
	if (k->index == 0 && h->nlmsg_type == RTM_NEWLINK && /* unplugged, and back? */
	    if_nametoindex(k->name) == (unsigned int)link->ifi_index) {
		k->index = (unsigned int)link->ifi_index;
		k->is_up = !is_up;
	}
	if (k->index == 0 || (unsigned int)link->ifi_index != k->index)
		return;
	if (h->nlmsg_type == RTM_DELLINK) {
		log_warn("network: the card %s is gone (waiting for it)", k->name);
		k->index = 0;
		return;
	}
	on_name(k);
	k->has_master = attribute(h, sizeof(*link), IFLA_MASTER) != 0;
	if (is_up == k->is_up && had_master == k->has_master)
		return;
	if (!is_up && k->is_up)
		k->down_ns = now_ns;
	k->is_up = is_up;
	/* With the link go its routes, and the kernel does not say so. */
	look_at(k, now_ns + (is_up ? ADDRESS_AWAY_MS : LINK_DOWN_MS) * CLOCK_NS_PER_MS);
}

static void on_message(struct keeper *k, const struct nlmsghdr *h, uint64_t now_ns)
{
	const struct ifaddrmsg *address = NLMSG_DATA(h);

	switch (h->nlmsg_type) {
	case RTM_NEWLINK:
	case RTM_DELLINK:
		if (h->nlmsg_len >= NLMSG_LENGTH(sizeof(struct ifinfomsg)))
			on_link(k, h, now_ns);
		break;
	case RTM_DELADDR:
		if (h->nlmsg_len >= NLMSG_LENGTH(sizeof(*address)) &&
		    address->ifa_index == k->index)
			look_at(k, now_ns + ADDRESS_AWAY_MS * CLOCK_NS_PER_MS);
		break;
	case RTM_DELROUTE:
		if (h->nlmsg_len < NLMSG_LENGTH(sizeof(struct rtmsg)) || k->index == 0 ||
		    attribute(h, sizeof(struct rtmsg), RTA_OIF) != k->index)
			break;
		look_at(k, now_ns + ADDRESS_AWAY_MS * CLOCK_NS_PER_MS);
		break;
	default: break;
	}
}

/*
 * Messages were lost, of our card perhaps: has the kernel tell of all cards again. What comes is
 * read as news. Not before the socket is empty, or there is no room for the answer.
 */
static void ask_anew(struct keeper *k, uint64_t now_ns)
{
	const struct {
		struct nlmsghdr head;
		struct ifinfomsg link;
	} request = { .head = { .nlmsg_len = sizeof(request),
				.nlmsg_type = RTM_GETLINK,
				.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP } };
	char name[IF_NAMESIZE];

	if (if_indextoname(k->index, name) == NULL)
		k->index = 0;
	if (send(k->netlink_fd, &request, sizeof(request), 0) < 0)
		log_warn("network: the kernel does not tell how %s is: %s", k->name,
			 strerror(errno));
	look_at(k, now_ns + ADDRESS_AWAY_MS * CLOCK_NS_PER_MS);
}

static void on_network(struct keeper *k)
{
	char bytes[READ_MAX] __attribute__((aligned(NLMSG_ALIGNTO)));
	bool has_lost = false;

	for (;;) {
		const struct nlmsghdr *h = (const struct nlmsghdr *)bytes;
		ssize_t n = recv(k->netlink_fd, bytes, sizeof(bytes), 0);
		uint64_t now_ns = clock_now_ns();

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == ENOBUFS) {
			has_lost = true;
			continue;
		}
		if (n < 0 && !has_lost)
			return;
		if (n < 0) {
			has_lost = false;
			ask_anew(k, now_ns);
			continue;
		}
		for (size_t left = (size_t)n; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left))
			on_message(k, h, now_ns);
	}
}

/* ---- the process ---------------------------------------------------------------------------- */

static int open_netlink(void)
{
	const struct sockaddr_nl addr = {
		.nl_family = AF_NETLINK,
		.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE,
	};
	_cleanup_close_ int fd =
		socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);

	if (fd < 0 || bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	return steal_fd(&fd);
}

static int prepare(struct keeper *k)
{
	static const int blocked[] = { SIGHUP,  SIGINT,  SIGQUIT, SIGTERM, SIGUSR1,
				       SIGUSR2, SIGALRM, SIGPIPE, SIGCHLD };
	sigset_t children;
	char pid[16];

	(void)prctl(PR_SET_NAME, "nbdroot-net");
	/* Both are inherited by udhcpc and its script; a kernel without them is no reason to end.
	 */
	if (spare_from_oom_killer() < 0)
		log_debug("network: the OOM killer does not spare " NET_KEEP_NAME);
	if (spare_be_io_flusher() < 0)
		log_debug("network: " NET_KEEP_NAME " is no I/O flusher");
	snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
	if (fd_create_file(SPARE_FOLDER "/nbdroot-net", pid) < 0)
		log_debug("network: killall5 does not spare " NET_KEEP_NAME);
	if (chroot(BOOT_KEEP) != 0 || chdir("/") != 0)
		return -errno;

	sigemptyset(&k->blocked);
	for (size_t i = 0; i < ARRAY_SIZE(blocked); i++)
		sigaddset(&k->blocked, blocked[i]);
	sigprocmask(SIG_SETMASK, &k->blocked, NULL);
	sigemptyset(&children);
	sigaddset(&children, SIGCHLD);
	k->signal_fd = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
	if (k->signal_fd < 0)
		return -errno;
	k->netlink_fd = open_netlink();
	if (k->netlink_fd < 0)
		return k->netlink_fd;
	return mlockall(MCL_CURRENT | MCL_FUTURE) == 0 ? 0 : -errno;
}

static void read_options(struct keeper *k, char *const options[])
{
	for (; *options != NULL; options++) {
		const char *value = strchr(*options, '=');

		if (value == NULL)
			continue;
		value++;
		if (strncmp(*options, "lower=", 6) == 0)
			k->lower = if_nametoindex(value);
		else if (strncmp(*options, "host=", 5) == 0)
			k->host = value;
		else if (strncmp(*options, "mtu=", 4) == 0)
			snprintf(k->mtu, sizeof(k->mtu), "fixed_mtu=%s", value);
	}
}

int net_keep_run(const char *interface, const char *how, char *const options[])
{
	static struct keeper k; /* alive for ever */
	int r;

	log_init("nbdroot");
	log_set_fd(STDOUT_FILENO, 1);
	snprintf(k.name, sizeof(k.name), "%s", interface);
	k.is_dhcp = strcmp(how, "dhcp") == 0;
	read_options(&k, options);
	r = prepare(&k);
	if (r < 0) {
		log_error("network: nobody keeps %s as it is: %s", interface, strerror(-r));
		return 1;
	}
	k.index = if_nametoindex(k.name);
	k.is_up = true;
	k.check_ns = CLOCK_NEVER;
	k.dhcp_ns = k.is_dhcp ? clock_now_ns() + DHCP_FIRST_MS * CLOCK_NS_PER_MS : CLOCK_NEVER;

	/* From here on it never ends by itself. */
	for (;;) {
		struct pollfd pfd[] = { { .fd = k.netlink_fd, .events = POLLIN },
					{ .fd = k.signal_fd, .events = POLLIN } };
		uint64_t now_ns = clock_now_ns();
		uint64_t deadline_ns = k.check_ns < k.dhcp_ns ? k.check_ns : k.dhcp_ns;

		(void)poll(pfd, ARRAY_SIZE(pfd), clock_poll_ms(now_ns, deadline_ns));
		on_network(&k);
		on_child(&k);
		now_ns = clock_now_ns();
		if (now_ns >= k.check_ns)
			mend(&k, now_ns);
		if (k.dhcp_pid == 0 && now_ns >= k.dhcp_ns)
			start_dhcp(&k);
	}
}
