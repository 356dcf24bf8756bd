/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The server's state as a report (report.h): copied under its locks, from the main thread. */
#ifndef NBDSERVE_SNAPSHOT_H
#define NBDSERVE_SNAPSHOT_H

#include "report.h"
#include "server.h"

/* Fills a zeroed report. -1 for want of memory; the caller frees it in both cases. */
int snapshot_take(struct server *sv, time_t started, bool is_draining,
		  struct report *out) _must_check_;

#endif
