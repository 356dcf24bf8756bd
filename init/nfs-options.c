/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See nfs-options.h. */
#include "nfs-options.h"

#include "base/parse.h"

#include <stdio.h>
#include <string.h>

static const char *const newest_first[] = { "4.2", "4.1", "4.0", "3" };

/* What a word says of the version: the text behind "vers=", "nfsvers=" or "v". NULL: nothing. */
static const char *version_of(const char *word)
{
	static const char *const names[] = { "vers=", "nfsvers=" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strncmp(word, names[i], strlen(names[i])) == 0)
			return word + strlen(names[i]);
	if (word[0] == 'v' && word[1] >= '2' && word[1] <= '4' &&
	    (word[2] == '\0' || word[2] == '.'))
		return word + 1;
	return NULL;
}

/* Which of newest_first are meant; also "4" alone, which leaves the minor version open. */
static void choose(const char *wanted, int minor, bool is_nfs4, struct nfs_plan *out)
{
	out->versions_count = 0;
	for (size_t i = 0; i < ARRAY_SIZE(newest_first); i++) {
		const char *v = newest_first[i];

		if ((is_nfs4 || minor >= 0) && v[0] != '4')
			continue;
		if (minor >= 0 && v[2] - '0' != minor)
			continue;
		if (wanted != NULL && strcmp(wanted, v) != 0 &&
		    !(strcmp(wanted, "4") == 0 && v[0] == '4'))
			continue;
		out->versions[out->versions_count++] = v;
	}
}

static int add(char out[static BLOCKFS_DATA_MAX], size_t *used, const char *word)
{
	size_t size = strlen(word);

	if (size + 2 > BLOCKFS_DATA_MAX - *used)
		return -ENOSPC;
	if (*used > 0)
		out[(*used)++] = ',';
	memcpy(out + *used, word, size + 1);
	*used += size;
	return 0;
}

int nfs_options_plan(const char *options, bool is_nfs4, unsigned long flags, struct nfs_plan *out,
		     const char **problem)
{
	char data[BLOCKFS_DATA_MAX];
	const char *wanted = NULL;
	uint64_t minor, port;
	bool has_minor = false;
	size_t used = 0;

	*out = (struct nfs_plan){ .flags = flags };
	if (blockfs_options(options, &out->flags, data) < 0) {
		*problem = "the mount options are too long";
		return NFS_OPTIONS_E_BAD;
	}
	for (char *save, *word = strtok_r(data, ",", &save); word != NULL;
	     word = strtok_r(NULL, ",", &save)) {
		if (version_of(word) != NULL) {
			wanted = version_of(word);
			continue;
		}
		if (strncmp(word, "minorversion=", 13) == 0) {
			if (parse_u64(word + 13, 2, &minor) != 0) {
				*problem = "minorversion= is from 0 to 2";
				return NFS_OPTIONS_E_BAD;
			}
			has_minor = true;
			continue;
		}
		if (strncmp(word, "addr=", 5) == 0 || strncmp(word, "clientaddr=", 11) == 0) {
			*problem = "addr= and clientaddr= are found out, and cannot be given";
			return NFS_OPTIONS_E_BAD;
		}
		if (strncmp(word, "port=", 5) == 0) {
			if (parse_u64(word + 5, 65535, &port) != 0) {
				*problem = "port= is a number up to 65535";
				return NFS_OPTIONS_E_BAD;
			}
			out->port = (unsigned int)port;
		}
		if (strcmp(word, "udp") == 0 || strcmp(word, "proto=udp") == 0)
			out->is_udp = true;
		if (add(out->rest, &used, word) < 0) {
			*problem = "the mount options are too long";
			return NFS_OPTIONS_E_BAD;
		}
	}
	choose(wanted, has_minor ? (int)minor : -1, is_nfs4, out);
	if (out->versions_count == 0) {
		*problem = "the options ask for a version of NFS that there is not (there are 3, "
			   "4.0, 4.1, 4.2; nfs4: and minorversion= mean one of 4)";
		return NFS_OPTIONS_E_BAD;
	}
	return 0;
}

int nfs_options_text(const struct nfs_plan *plan, const char *version, const char *address,
		     const char *client, char out[static NFS_TEXT_MAX])
{
	bool is_v3 = version[0] == '3', is_ipv6 = strchr(address, ':') != NULL;
	/* To the kernel "tcp" means IPv4, and contradicts an address of the other kind (EINVAL). */
	const char *proto = is_ipv6 ? "proto=tcp6," : "proto=tcp,";
	int n;

	/* Nobody can be called back from one to the other: no delegations, which are a luxury. */
	if (is_ipv6 && strchr(client, ':') == NULL)
		client = "::";
	/*
	 * Ours come first: of two that contradict each other the kernel takes the last. Without
	 * statd, which would have to be there before the root, version 3 has no locks on the
	 * server.
	 */
	n = snprintf(out, NFS_TEXT_MAX, "hard,%s%s%s%svers=%s,addr=%s%s%s",
		     plan->is_udp ? "" : proto, is_v3 ? "nolock," : "", plan->rest,
		     plan->rest[0] != '\0' ? "," : "", version, address,
		     is_v3 ? "" : ",clientaddr=", is_v3 ? "" : client);

	return n < 0 || n >= NFS_TEXT_MAX ? -ENOSPC : 0;
}
