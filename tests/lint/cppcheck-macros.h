/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What cppcheck needs to know of <sys/queue.h>, whose macros it does not read. */
#define TAILQ_HEAD(name, type)                                                                     \
	struct name {                                                                              \
		struct type *first;                                                                \
	}
#define TAILQ_ENTRY(type)                                                                          \
	struct {                                                                                   \
		struct type *next;                                                                 \
	}
#define TAILQ_FOREACH(var, head, field) for (var = (head)->first; var; var = var->field.next)
#define STAILQ_HEAD(name, type)                                                                    \
	struct name {                                                                              \
		struct type *first;                                                                \
	}
#define STAILQ_ENTRY(type)                                                                         \
	struct {                                                                                   \
		struct type *next;                                                                 \
	}
#define STAILQ_FOREACH(var, head, field) for (var = (head)->first; var; var = var->field.next)
#define LIST_HEAD(name, type)                                                                      \
	struct name {                                                                              \
		struct type *first;                                                                \
	}
#define LIST_ENTRY(type)                                                                           \
	struct {                                                                                   \
		struct type *next;                                                                 \
	}
#define LIST_FOREACH(var, head, field) for (var = (head)->first; var; var = var->field.next)
