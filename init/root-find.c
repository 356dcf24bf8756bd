/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See root-find.h. */
#include "root-find.h"
#include "lease.h"
#include "root-ask.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <string.h>

/* The kernel's own, when nobody names a path (Documentation/admin-guide/nfs/nfsroot.rst). */
#define DEFAULT_PATH "/tftpboot/%s"

#define DHCP_HINT                                                                                  \
	"correct the DHCP server's option 17 (dnsmasq: dhcp-option=option:root-path,...), which "  \
	"is asked for again; or name the root on the kernel command line"

/* The root as option 17 has it. */
static int read_option17(struct boot *b, const struct lease *lease, struct root_spec *out)
{
	char problem[ROOT_SPEC_PROBLEM_MAX];

	if (root_spec_parse_option17(lease->root_path, out, problem) != 0)
		return lastwords_leave(&b->words, DHCP_HINT,
				       "the DHCP server's root path (option 17) is \"%.160s\": %s",
				       lease->root_path, problem);
	log_info("root: the DHCP server says %s (option 17)", lease->root_path);
	return 0;
}

/* root=dhcp: all of it by DHCP, but what rootfstype= and rootflags= say. */
static int take_from_dhcp(struct boot *b, const struct lease *lease)
{
	const struct root_spec *said = &b->cmdline.root;

	if (lease->root_path[0] == '\0')
		return lastwords_leave(
			&b->words, DHCP_HINT,
			"root=dhcp, but the DHCP server%s%s gives no root path (option 17)",
			lease->server[0] != '\0' ? " " : "", lease->server);
	if (read_option17(b, lease, &b->root) != 0)
		return LASTWORDS_FAILED;
	if (b->root.kind == ROOT_NBD && b->root.fstype[0] == '\0')
		memcpy(b->root.fstype, said->fstype, sizeof(b->root.fstype));
	if (root_spec_add_options(&b->root, said->options) != 0)
		return lastwords_leave(&b->words, DHCP_HINT, "the mount options are too long");
	return 0;
}

/* What an NFS root has not got from the command line. */
static int complete_nfs(struct boot *b, const struct lease *lease)
{
	struct root_spec *root = &b->root;

	if (root->path[0] == '\0' && lease->root_path[0] != '\0') {
		struct root_spec by_dhcp;

		if (read_option17(b, lease, &by_dhcp) != 0)
			return LASTWORDS_FAILED;
		if (by_dhcp.kind != ROOT_NFS)
			return lastwords_leave(&b->words, DHCP_HINT,
					       "an NFS root without a path, and the DHCP server's "
					       "(option 17) is no NFS path: \"%.160s\"",
					       lease->root_path);
		memcpy(root->path, by_dhcp.path, sizeof(root->path));
		if (root->server[0] == '\0')
			memcpy(root->server, by_dhcp.server, sizeof(root->server));
		root->is_nfs4 = root->is_nfs4 || by_dhcp.is_nfs4;
		/* The command line's, which count, come last. */
		if (root_spec_add_options(&by_dhcp, root->options) != 0)
			return lastwords_leave(&b->words, DHCP_HINT,
					       "the mount options are too long");
		memcpy(root->options, by_dhcp.options, sizeof(root->options));
	}
	if (root->path[0] == '\0') {
		memcpy(root->path, DEFAULT_PATH, sizeof(DEFAULT_PATH));
		log_info("root: nobody names a path (taking %s, as the kernel would)",
			 DEFAULT_PATH);
	}
	if (root->server[0] != '\0')
		return 0;

	const char *server = b->net.ip != NULL ? b->net.ip->server : NULL;
	const char *how = "the server of ip=";

	if (server == NULL)
		server = cmdline_ip_server(&b->cmdline);
	if (server == NULL && lease->next_server[0] != '\0') {
		server = lease->next_server;
		how = "the DHCP server's next-server";
	} else if (server == NULL && lease->server[0] != '\0') {
		server = lease->server;
		how = "the DHCP server itself";
	}
	if (server == NULL)
		return lastwords_leave(&b->words,
				       "name it: root=nfs:<server>:<path>, or <server>:<path> in "
				       "the DHCP server's option 17",
				       "the root is %s on an NFS server, but nobody says which",
				       root->path);
	snprintf(root->server, sizeof(root->server), "%s", server);
	log_info("root: nobody names the NFS server (taking %s, %s)", server, how);
	return 0;
}

/* "%s": the host name, else the address, which is what the kernel puts there. */
static int replace_percent_s(struct boot *b)
{
	char *path = b->root.path, *mark = strstr(path, "%s");
	char whole[ROOT_SPEC_PATH_MAX];
	int n;

	if (mark == NULL)
		return 0;
	n = snprintf(whole, sizeof(whole), "%.*s%s%s", (int)(mark - path), path,
		     b->net.hostname[0] != '\0' ? "{hostname}" : "{ip}", mark + 2);
	if (n < 0 || (size_t)n >= sizeof(whole))
		return lastwords_leave(&b->words, NULL, "%s: the path is too long", path);
	memcpy(path, whole, (size_t)n + 1);
	return 0;
}

static int replace_placeholders(struct boot *b, const struct values *values, char *text,
				size_t size)
{
	char whole[ROOT_SPEC_URI_MAX];
	int r = values_substitute(b, values, text, whole,
				  size < sizeof(whole) ? size : sizeof(whole));

	if (r == 0)
		memcpy(text, whole, strlen(whole) + 1);
	else
		b->words.is_final = !root_is_by_dhcp(b);
	return r;
}

int root_find(struct boot *b, const struct values *values)
{
	struct root_spec *root = &b->root;
	struct lease lease = { 0 };
	int r = 0;

	if (clock_now_ns() - b->root_asked_ns >= CLOCK_NS_PER_S) /* not just now */
		(void)root_ask(b);
	*root = b->cmdline.root;
	if (b->net.interface[0] != '\0' && lease_read(BOOT_STATE, b->net.interface, &lease) != 0)
		lease = (struct lease){ 0 };
	b->root_lease = lease;
	if (root->kind == ROOT_DHCP)
		r = take_from_dhcp(b, &lease);
	if (r == 0 && root->kind == ROOT_NFS)
		r = complete_nfs(b, &lease);
	if (r == 0)
		r = replace_percent_s(b);
	if (r == 0)
		r = replace_placeholders(b, values, root->uri, sizeof(root->uri));
	if (r == 0)
		r = replace_placeholders(b, values, root->server, sizeof(root->server));
	if (r == 0)
		r = replace_placeholders(b, values, root->path, sizeof(root->path));
	if (r != 0)
		return r;
	if (root->kind == ROOT_NFS)
		snprintf(b->root_name, sizeof(b->root_name), "%s:%s", root->server, root->path);
	else
		snprintf(b->root_name, sizeof(b->root_name), "%s", root->uri);
	return 0;
}
