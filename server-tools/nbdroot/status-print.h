/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A server's answer as text for people. All return 0, or -1, which has been logged. */
#ifndef NBDROOT_STATUS_PRINT_H
#define NBDROOT_STATUS_PRINT_H

#include "ask.h"

/* The answer to "status": the server, its exports, its clients. */
int status_print(const struct answer *a) _must_check_;

/* The answer to "clients", or the clients in one to "status". */
int status_print_clients(const struct answer *a) _must_check_;

#endif
