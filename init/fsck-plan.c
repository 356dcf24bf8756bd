/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The pure half of fsck.h. */
#include "blockfs.h"
#include "fsck.h"

enum fsck_plan fsck_plan(enum cmdline_fsck wish, const struct blockfs_ext_state *state)
{
	if (!state->is_ext)
		return FSCK_NOTHING;
	switch (wish) {
	case CMDLINE_FSCK_SKIP: return FSCK_NOTHING;
	case CMDLINE_FSCK_FORCE: return FSCK_FORCE;
	case CMDLINE_FSCK_AUTO:
		/* An ext2 that was not unmounted has no journal to make it whole. */
		if (state->has_errors || (state->is_unclean && !state->has_journal))
			return FSCK_PREEN;
		return FSCK_NOTHING;
	}
	return FSCK_NOTHING;
}

/* e2fsck(8), "EXIT CODE": bits. */
const char *fsck_verdict(int status, bool *can_go_on)
{
	enum {
		CORRECTED = 1,
		REBOOT = 2,
		UNCORRECTED = 4,
		OPERATION = 8,
		USAGE = 16,
		CANCELLED = 32
	};

	*can_go_on = (status & UNCORRECTED) == 0;
	if (status & UNCORRECTED)
		return "there is damage that e2fsck does not repair without a person";
	if (status & CANCELLED)
		return "e2fsck was stopped";
	if (status & USAGE)
		return "e2fsck does not know its options: it is too old";
	if (status & ~(CORRECTED | REBOOT))
		return "e2fsck could not do its work";
	/* REBOOT is for a root that is mounted already; this one is not. */
	return status & (CORRECTED | REBOOT) ? "repaired" : "no damage";
}
