/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A unit test in the Test Anything Protocol, run by prove(1). A file of tests is
 *
 *	#include "tests/unit/tap.h"
 *	TEST(sentence_about_behaviour) { CHECK_EQ(1 + 1, 2); }
 *
 * and has main() from here. A failed check ends its test, not the program.
 */
#ifndef TESTS_UNIT_TAP_H
#define TESTS_UNIT_TAP_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tap_test {
	const char *name;
	void (*run)(void);
};

static struct tap_test tap_tests[512];
static size_t tap_count;
static int tap_failed;

#define TEST(name)                                                                                 \
	static void name(void);                                                                    \
	__attribute__((constructor)) static void tap_add_##name(void)                              \
	{                                                                                          \
		if (tap_count == sizeof(tap_tests) / sizeof(tap_tests[0]))                         \
			abort();                                                                   \
		tap_tests[tap_count++] = (struct tap_test){ #name, name };                         \
	}                                                                                          \
	static void name(void)

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			printf("# %s:%d: %s\n", __FILE__, __LINE__, #condition);                   \
			tap_failed = 1;                                                            \
			return;                                                                    \
		}                                                                                  \
	} while (0)

#define CHECK_EQ(a, b)                                                                             \
	do {                                                                                       \
		long long tap_a = (long long)(a), tap_b = (long long)(b);                          \
		if (tap_a != tap_b) {                                                              \
			printf("# %s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #a, tap_a,   \
			       tap_b);                                                             \
			tap_failed = 1;                                                            \
			return;                                                                    \
		}                                                                                  \
	} while (0)

#define CHECK_STR(a, b)                                                                            \
	do {                                                                                       \
		const char *tap_a = (a), *tap_b = (b);                                             \
		if (!tap_a || strcmp(tap_a, tap_b) != 0) {                                         \
			printf("# %s:%d: %s is \"%s\", not \"%s\"\n", __FILE__, __LINE__, #a,      \
			       tap_a ? tap_a : "(null)", tap_b);                                   \
			tap_failed = 1;                                                            \
			return;                                                                    \
		}                                                                                  \
	} while (0)

int main(void)
{
	int failures = 0;

	printf("1..%zu\n", tap_count);
	for (size_t i = 0; i < tap_count; i++) {
		tap_failed = 0;
		tap_tests[i].run();
		printf("%sok %zu - %s\n", tap_failed ? "not " : "", i + 1, tap_tests[i].name);
		fflush(stdout);
		failures += tap_failed;
	}
	return failures != 0;
}

#endif
