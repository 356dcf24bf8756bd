/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a root is: what root= and nfsroot= of the command line say, and what a DHCP server says in
 * option 17. Pure: text in, a struct out. Each form has its meaning from whoever made it up (the
 * kernel, dracut, Debian); one that has none is refused in words and never guessed at. Placeholders
 * such as {mac} stay in the results.
 */
#ifndef INIT_ROOT_SPEC_H
#define INIT_ROOT_SPEC_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stddef.h>

enum {
	ROOT_SPEC_E_BAD = 1, /* problem says why */

	ROOT_SPEC_URI_MAX = 1024,
	ROOT_SPEC_SERVER_MAX = 256, /* a DNS name */
	ROOT_SPEC_PATH_MAX = 512,
	ROOT_SPEC_OPTIONS_MAX = 512,
	ROOT_SPEC_FSTYPE_MAX = 32,
	ROOT_SPEC_PROBLEM_MAX = 256,
};

enum root_kind {
	ROOT_NONE,
	ROOT_NBD,
	ROOT_NFS,
	ROOT_DHCP, /* what option 17 says */
};

/* What was not said is "". */
struct root_spec {
	enum root_kind kind;
	char uri[ROOT_SPEC_URI_MAX];       /* NBD */
	char fstype[ROOT_SPEC_FSTYPE_MAX]; /* NBD */
	char server[ROOT_SPEC_SERVER_MAX]; /* NFS: a name, an address, or [an IPv6 address] */
	char path[ROOT_SPEC_PATH_MAX];     /* NFS */
	bool is_nfs4;                      /* NFS: the version was named by the form itself */
	char options[ROOT_SPEC_OPTIONS_MAX];
};

/* All three: 0, or ROOT_SPEC_E_BAD with the reason in problem and *out as good as empty. */
int root_spec_parse(const char *text, struct root_spec *out,
		    char problem[static ROOT_SPEC_PROBLEM_MAX]) _must_check_;
/* Fills in the path, and what else nfsroot= says, of an NFS root (root=/dev/nfs, root=nfs). */
int root_spec_parse_nfsroot(const char *text, struct root_spec *out,
			    char problem[static ROOT_SPEC_PROBLEM_MAX]) _must_check_;
int root_spec_parse_option17(const char *text, struct root_spec *out,
			     char problem[static ROOT_SPEC_PROBLEM_MAX]) _must_check_;

/* More mount options, behind those that are there. 0, or ROOT_SPEC_E_BAD: too long. */
int root_spec_add_options(struct root_spec *s, const char *options) _must_check_;

/* Whether text begins as a URI of the NBD project does. */
bool root_spec_is_nbd_uri(const char *text);

#endif
