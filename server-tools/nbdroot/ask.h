/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One question to a running nbdserve, over its control socket (docs/control.md), and its answer.
 * The answer is bounded in size and time and is checked to be what the protocol says before
 * anybody looks at it. Logs its errors itself.
 */
#ifndef NBDROOT_ASK_H
#define NBDROOT_ASK_H

#include "base/json.h"

#define ASK_DEFAULT_SOCKET "/run/nbdserve/control"

struct answer {
	char *text; /* one JSON object, without the newline */
	size_t size;
	struct json_token *root; /* and all tokens in it */
};

/*
 * Sends a request, which is one JSON object without a newline, and waits. 0 when the answer says
 * "ok", else -1 (and nothing is to be freed).
 */
int ask(const char *socket_path, const char *request, struct answer *out) _must_check_;
void answer_free(struct answer *a);

/* Numbers and texts in an answer; what is missing or of another kind is 0 and "". */
uint64_t answer_number(const struct answer *a, const struct json_token *object, const char *name);
double answer_decimal(const struct answer *a, const struct json_token *object, const char *name);
int answer_is_true(const struct answer *a, const struct json_token *object, const char *name);

/*
 * A text that is fit for a terminal: names come from strangers, so control characters become
 * question marks. To be freed; NULL without memory.
 */
char *answer_text(const struct answer *a, const struct json_token *object, const char *name);

#endif
