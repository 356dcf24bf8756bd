/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From a member of a struct to the struct that it is in: for lists and tasks that know no more. */
#ifndef BASE_CONTAINER_H
#define BASE_CONTAINER_H

#include <stddef.h>

#define container_of(pointer, type, member)                                                        \
	((type *)((char *)(1 ? (pointer) : &((type *)0)->member) - offsetof(type, member)))

#endif
