/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See spare.h. */
#include "spare.h"

#include "fd.h"

#include <sys/prctl.h>

#ifndef PR_SET_IO_FLUSHER /* linux 5.6; musl 1.2.3 has it not */
#define PR_SET_IO_FLUSHER 57
#endif

int spare_from_oom_killer(void)
{
	return fd_write_file("/proc/self/oom_score_adj", "-1000");
}

int spare_be_io_flusher(void)
{
	return prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) < 0 && errno != EINVAL ? -errno : 0;
}
