/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mount options of an NFS root: which versions are to be tried, and what the kernel is told for
 * each (nfs(5), and the table in the kernel's fs/nfs/fs_context.c). Pure.
 */
#ifndef INIT_NFS_OPTIONS_H
#define INIT_NFS_OPTIONS_H

#include "blockfs.h"

enum {
	NFS_OPTIONS_E_BAD = 1,
	NFS_VERSIONS_MAX = 4,
	NFS_TEXT_MAX = BLOCKFS_DATA_MAX + 256,
};

struct nfs_plan {
	const char *versions[NFS_VERSIONS_MAX]; /* "4.2": in the order in which they are tried */
	size_t versions_count;
	unsigned long flags; /* of mount(2) */
	unsigned int port;   /* to knock at; 0: where the version has it */
	bool is_udp;         /* nobody can knock there */
	char rest[BLOCKFS_DATA_MAX];
};

/*
 * flags: what counts when the options say nothing of it. 0, or NFS_OPTIONS_E_BAD with the reason in
 * problem (a static text).
 */
int nfs_options_plan(const char *options, bool is_nfs4, unsigned long flags, struct nfs_plan *out,
		     const char **problem) _must_check_;

/*
 * The text for mount(2). address: the server's; client: ours, for the call-backs of version 4.0, of
 * the same kind as the server's or not used. 0 or -ENOSPC.
 */
int nfs_options_text(const struct nfs_plan *plan, const char *version, const char *address,
		     const char *client, char out[static NFS_TEXT_MAX]) _must_check_;

#endif
