/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether an attached device answers, found out by a read past every cache. A child process does
 * the read, for on a dead device it waits for ever and cannot be killed. For an instance that takes
 * over a device; a client that knows its socket needs no such thing.
 */
#ifndef NBDCLIENT_ALIVE_H
#define NBDCLIENT_ALIVE_H

#include "identity.h"

/*
 * Reads the head of device index. True when it was answered within wait_ms; else the read goes on,
 * and the next call waits for that one. Not to be used after the first attach.
 */
bool alive_check(int index, int wait_ms, uint8_t head[static IDENTITY_HEAD_SIZE]);

#endif
