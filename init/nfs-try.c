/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See nfs-try.h. */
#include "nfs-try.h"

#include "base/fd.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>

enum {
	NFS_PORT = 2049,
	RPCBIND_PORT = 111,
	KNOCK_MS = 5000, /* a SYN and two more */
};

static enum nfs_end absent(struct nfs_try *t, const char *why)
{
	snprintf(t->why, sizeof(t->why), "%s", why);
	return NFS_ABSENT;
}

/* The words of a person who looks for a cable; what else there is has the library's. */
static const char *network_words(int error)
{
	switch (error) {
	case ECONNREFUSED: return "refused";
	case ETIMEDOUT: return "no answer";
	case EHOSTUNREACH: return "not reachable";
	case ENETUNREACH: return "no route to it";
	case ECONNRESET: return "connection reset";
	default: return strerror(error);
	}
}

/* Whether somebody listens at the port. 0 or an errno. */
static int knock(const struct addrinfo *a, unsigned int port)
{
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} to;
	_cleanup_close_ int fd = -1;
	struct pollfd p;
	int error = 0;
	socklen_t size = sizeof(error);

	if (a->ai_addrlen > sizeof(to))
		return EAFNOSUPPORT;
	memcpy(&to, a->ai_addr, a->ai_addrlen);
	if (a->ai_family == AF_INET)
		to.v4.sin_port = htons((uint16_t)port);
	else
		to.v6.sin6_port = htons((uint16_t)port);
	fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return errno;
	if (connect(fd, &to.any, a->ai_addrlen) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return errno;
	p = (struct pollfd){ .fd = fd, .events = POLLOUT };
	if (poll(&p, 1, KNOCK_MS) <= 0)
		return ETIMEDOUT;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
		return errno;
	return error;
}

static bool has_v3(const struct nfs_plan *plan)
{
	return plan->versions[plan->versions_count - 1][0] == '3';
}

/* A server of version 3 alone may have any port, which its rpcbind knows. */
static int knock_at(const struct nfs_plan *plan, const struct addrinfo *a)
{
	int error;

	if (plan->is_udp)
		return 0;
	error = knock(a, plan->port != 0 ? plan->port : NFS_PORT);
	if (error == ECONNREFUSED && plan->port == 0 && has_v3(plan) && knock(a, RPCBIND_PORT) == 0)
		error = 0;
	return error;
}

/* Mounts with one version: 0 or an errno. */
static int mount_version(struct nfs_try *t, const char *version)
{
	char text[NFS_TEXT_MAX];

	t->version = version;
	if (nfs_options_text(&t->plan, version, t->address, t->client, text) < 0)
		return EINVAL;
	return mount(t->source, t->where, "nfs", t->plan.flags, text) == 0 ? 0 : errno;
}

/* The server is gone again, or has not finished its start. */
static bool is_absence(int error)
{
	switch (error) {
	case ECONNREFUSED:
	case ECONNRESET:
	case ECONNABORTED:
	case ETIMEDOUT:
	case EHOSTUNREACH:
	case EHOSTDOWN:
	case ENETUNREACH:
	case ENETDOWN:
	case EPIPE:
	case ENOTCONN:
	case EAGAIN:
	case EINTR:
	case ESTALE: return true;
	default: return false;
	}
}

/*
 * From the newest version to the oldest. That a path is not there, or not ours to mount, is no last
 * word: to version 4 the same server may show other paths. Nor is a refused connection: version 3
 * may have another port.
 */
static enum nfs_end mount_any(struct nfs_try *t)
{
	int errors[NFS_VERSIONS_MAX] = { 0 }, first = 0, error = 0;

	t->stage = NFS_MOUNTING;
	for (size_t i = 0; i < t->plan.versions_count; i++) {
		/* To another minor version the server is no nearer, and has the same paths. */
		if (i > 0 && t->plan.versions[i][0] == '4' && error != EPROTONOSUPPORT &&
		    error != EINVAL)
			continue;
		if (is_absence(error) && error != ECONNREFUSED)
			break;
		error = mount_version(t, t->plan.versions[i]);
		if (error == 0)
			return NFS_MOUNTED;
		errors[i] = error;
		if (first == 0)
			first = error;
	}
	/* rpcbind may be up before the server that is to register there. */
	if (is_absence(first) && (is_absence(error) || error == EPROTONOSUPPORT))
		return absent(t, network_words(first));
	memcpy(t->errors, errors, sizeof(errors));
	return NFS_REFUSED;
}

/*
 * One address after the other, until one mounts: a server may let us in by IPv4 and not by IPv6. A
 * refusal counts more than an address that does not answer; of those the first, which the resolver
 * holds for the best, is what a person is told of.
 */
static enum nfs_end try_addresses(struct nfs_try *t, const struct addrinfo *list)
{
	char address[NFS_ADDRESS_MAX], why[NFS_WHY_MAX];
	enum nfs_end end = NFS_RUNNING;

	for (const struct addrinfo *a = list; a != NULL; a = a->ai_next) {
		enum nfs_end one;
		int error;

		t->stage = NFS_CONNECTING;
		if (getnameinfo(a->ai_addr, a->ai_addrlen, t->address, sizeof(t->address), NULL, 0,
				NI_NUMERICHOST) != 0)
			continue;
		error = knock_at(&t->plan, a);
		one = error == 0 ? mount_any(t) : absent(t, network_words(error));
		if (one == NFS_MOUNTED)
			return one;
		if (end == NFS_RUNNING) {
			memcpy(address, t->address, sizeof(address));
			memcpy(why, t->why, sizeof(why));
		}
		if (end != NFS_REFUSED)
			end = one;
	}
	if (end == NFS_RUNNING)
		return absent(t, "its name has no address");
	memcpy(t->address, address, sizeof(address));
	memcpy(t->why, why, sizeof(why));
	return end;
}

void nfs_try(struct nfs_try *t)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL;
	int r;

	t->stage = NFS_RESOLVING;
	r = getaddrinfo(t->server, NULL, &hints, &list);
	if (r != 0) {
		t->end = absent(t, r == EAI_NONAME  ? "no name server knows this name"
				   : r == EAI_AGAIN ? "no name server answers"
						    : gai_strerror(r));
		return;
	}
	t->end = try_addresses(t, list);
	freeaddrinfo(list);
}
