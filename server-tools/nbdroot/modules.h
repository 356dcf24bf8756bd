/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which modules of a kernel's tree an initramfs needs: those asked for and all that they depend
 * on, by depmod's own text files (modules.dep, .softdep, .alias, .builtin). Pure: works on the
 * texts, never on the tree. Lines that make no sense, and paths that lead out of the tree, are as
 * good as absent. A name is a module's, with '-' and '_' alike.
 */
#ifndef NBDROOT_MODULES_H
#define NBDROOT_MODULES_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stddef.h>

/* The content of the files; NULL for one that is not there. The caller's, and outlives the rest. */
struct modules_texts {
	const char *dep, *softdep, *alias, *builtin;
};

struct module {
	char *name;       /* with '_' */
	const char *path; /* relative, perhaps compressed: "kernel/fs/ext4/ext4.ko.xz" */
	size_t path_length;
	const char *needs; /* more paths, to the end of the line */
	size_t needs_length;
	bool is_wanted;
	bool is_phy;    /* it is asked for by what a card has found on its MDIO bus */
	bool is_driver; /* it is asked for by what another bus has found */
};

struct modules {
	struct modules_texts text;
	struct module *list; /* by name */
	size_t count;
};

int modules_init(struct modules *m, const struct modules_texts *text) _must_check_;
void modules_deinit(struct modules *m);

enum {
	MODULES_E_BUILTIN = 1, /* it is in the kernel itself */
	MODULES_E_MISSING,     /* there is none of this name */
	MODULES_E_BROKEN,      /* it depends on one that is not there */
};

/* Marks a module and all it needs as wanted. 0, MODULES_E_* or -ENOMEM. */
int modules_want(struct modules *m, const char *name) _must_check_;

/*
 * Wants what the wanted ones will ask the kernel for while they run, which depmod cannot know: the
 * bus that a card sits on when that is no part of the machine (USB, virtio), and the chip between
 * card and cable (PHY) for a driver that has a choice of them. 0, MODULES_E_BROKEN or -ENOMEM.
 */
int modules_want_asked(struct modules *m) _must_check_;

/* The same for all below a folder, "kernel/drivers/net/ethernet/". *count: how many. */
int modules_want_folder(struct modules *m, const char *folder, size_t *count) _must_check_;

#endif
