/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One try at mounting from an NFS server: the child of nfs.h, and what it leaves its parent. */
#ifndef INIT_NFS_TRY_H
#define INIT_NFS_TRY_H

#include "nfs-options.h"

enum {
	NFS_ADDRESS_MAX = 64,
	NFS_WHY_MAX = 96,
};

enum nfs_stage {
	NFS_RESOLVING,
	NFS_CONNECTING,
	NFS_MOUNTING,
};

enum nfs_end {
	NFS_RUNNING,
	NFS_MOUNTED,
	NFS_ABSENT,  /* the server cannot be reached, says why: another try may find it */
	NFS_REFUSED, /* by the errors below */
};

struct nfs_try {
	/* from the parent */
	const char *server; /* a name or address, without brackets */
	const char *source; /* server:path */
	const char *where;
	const char *client; /* our address, or 0.0.0.0 */
	struct nfs_plan plan;

	/* from the child, in memory that both have */
	enum nfs_stage stage;
	char address[NFS_ADDRESS_MAX]; /* the server's, once it is known */
	const char *version;           /* that is tried, or was mounted */
	char why[NFS_WHY_MAX];
	int errors[NFS_VERSIONS_MAX]; /* of each version; 0: not tried */
	enum nfs_end end;
};

void nfs_try(struct nfs_try *t);

#endif
