/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See substitute.h. */
#include "substitute.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static bool is_harmless(const char *value)
{
	if (value[0] == '.' || value[0] == '-')
		return false;
	for (const char *p = value; *p != '\0'; p++)
		if (!isalnum((unsigned char)*p) && strchr("._-", *p) == NULL)
			return false;
	return true;
}

/* Finds the name between the braces at text. */
static const char *const *value_of(const struct substitute_values *v, const char *name,
				   size_t name_size)
{
	const struct {
		const char *name;
		const char *const *value;
	} known[] = {
		{ "mac", &v->mac },
		{ "ip", &v->ip },
		{ "hostname", &v->hostname },
		{ "uuid", &v->uuid },
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strlen(known[i].name) == name_size &&
		    memcmp(known[i].name, name, name_size) == 0)
			return known[i].value;
	return NULL;
}

int substitute(const char *text, const struct substitute_values *v, char *out, size_t out_size,
	       char *problem, size_t problem_size)
{
	size_t used = 0;

	for (const char *p = text; *p != '\0';) {
		const char *piece = p;
		size_t piece_size = 1;

		if (*p == '{') {
			size_t name_size = strcspn(p + 1, "}");
			const char *const *value = value_of(v, p + 1, name_size);

			if (p[1 + name_size] != '}' || value == NULL) {
				snprintf(problem, problem_size,
					 "\"%s\": {%.*s} is not one of {mac}, {ip}, {hostname}, "
					 "{uuid}",
					 text, (int)name_size, p + 1);
				return SUBSTITUTE_E_BAD;
			}
			if (*value == NULL || **value == '\0') {
				snprintf(problem, problem_size,
					 "\"%s\": this machine has no {%.*s}", text, (int)name_size,
					 p + 1);
				return SUBSTITUTE_E_BAD;
			}
			if (!is_harmless(*value)) {
				snprintf(problem, problem_size,
					 "\"%s\": {%.*s} is \"%s\" here, which cannot be part of a "
					 "name (letters, digits, '.', '_' and '-')",
					 text, (int)name_size, p + 1, *value);
				return SUBSTITUTE_E_BAD;
			}
			piece = *value;
			piece_size = strlen(piece);
			p += name_size + 2;
		} else {
			p++;
		}
		if (piece_size >= out_size - used) {
			snprintf(problem, problem_size, "\"%s\": longer than %zu bytes", text,
				 out_size - 1);
			return SUBSTITUTE_E_BAD;
		}
		memcpy(out + used, piece, piece_size);
		used += piece_size;
	}
	out[used] = '\0';
	return 0;
}
