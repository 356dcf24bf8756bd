/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The waits between tries: at once, then 10 ms doubling to 50 ms, and up to 1 s once the outage
 * is over a minute old, each jittered to between a half and the whole.
 */
#include "base/backoff.h"

#include "base/clock.h"

#include "tests/unit/tap.h"

enum { MS = CLOCK_NS_PER_MS };

static const uint64_t start_ns = 1234567 * CLOCK_NS_PER_S + 89;
static const uint32_t longest = UINT32_MAX;

TEST(the_first_retry_is_at_once_whatever_the_chance)
{
	struct backoff b;

	backoff_start(&b, start_ns);
	CHECK_EQ(backoff_next(&b, start_ns + 5, longest), start_ns + 5);
	CHECK_EQ(b.tries, 1);
	backoff_start(&b, start_ns);
	CHECK_EQ(backoff_next(&b, start_ns + 5, 0), start_ns + 5);
}

TEST(the_wait_doubles_from_10_ms_to_50_ms_and_stays_there)
{
	static const uint64_t expected_ms[] = { 0, 10, 20, 40, 50, 50, 50, 50 };
	uint64_t now_ns = start_ns;
	struct backoff b;

	backoff_start(&b, start_ns);
	for (size_t i = 0; i < sizeof(expected_ms) / sizeof(expected_ms[0]); i++) {
		uint64_t next_ns = backoff_next(&b, now_ns, longest);

		CHECK_EQ(next_ns - now_ns, expected_ms[i] * MS);
		CHECK_EQ(b.tries, i + 1);
		now_ns = next_ns;
	}
}

TEST(the_smallest_chance_gives_half_of_the_wait)
{
	static const uint64_t expected_ms[] = { 0, 5, 10, 20, 25, 25, 25 };
	struct backoff b;

	backoff_start(&b, start_ns);
	for (size_t i = 0; i < sizeof(expected_ms) / sizeof(expected_ms[0]); i++)
		CHECK_EQ(backoff_next(&b, start_ns, 0) - start_ns, expected_ms[i] * MS);
}

TEST(every_chance_gives_between_a_half_and_the_whole_and_more_chance_waits_longer)
{
	uint64_t last = 0;

	for (uint64_t chance = 0; chance <= UINT32_MAX; chance += UINT32_MAX / 1000) {
		struct backoff b = { .started_ns = start_ns, .wait_ns = 80 * MS, .tries = 5 };
		uint64_t wait_ns = backoff_next(&b, start_ns, (uint32_t)chance) - start_ns;

		CHECK(wait_ns >= 25 * MS && wait_ns <= 50 * MS);
		CHECK(wait_ns >= last);
		last = wait_ns;
	}
	CHECK(last > 49 * MS);
}

TEST(waits_stay_at_50_ms_until_the_outage_is_a_minute_old)
{
	uint64_t minute_ns = start_ns + 60 * CLOCK_NS_PER_S;
	struct backoff b = { .started_ns = start_ns, .wait_ns = 50 * MS, .tries = 600 };

	CHECK_EQ(backoff_next(&b, minute_ns - 1, longest) - (minute_ns - 1), 50 * MS);
	CHECK_EQ(backoff_next(&b, minute_ns, longest) - minute_ns, 100 * MS);
}

TEST(waits_double_on_to_one_second_in_a_long_outage_and_stay_there)
{
	static const uint64_t expected_ms[] = { 100, 200, 400, 800, 1000, 1000 };
	struct backoff b = { .started_ns = start_ns, .wait_ns = 50 * MS, .tries = 600 };
	uint64_t now_ns = start_ns + 61 * CLOCK_NS_PER_S;

	for (size_t i = 0; i < sizeof(expected_ms) / sizeof(expected_ms[0]); i++) {
		uint64_t next_ns = backoff_next(&b, now_ns, longest);

		CHECK_EQ(next_ns - now_ns, expected_ms[i] * MS);
		now_ns = next_ns;
	}
}

TEST(a_new_outage_begins_with_a_try_at_once_again)
{
	struct backoff b;

	backoff_start(&b, start_ns);
	for (int i = 0; i < 20; i++)
		CHECK(backoff_next(&b, start_ns, longest) >= start_ns);
	backoff_start(&b, start_ns + CLOCK_NS_PER_S);
	CHECK_EQ(b.tries, 0);
	CHECK_EQ(backoff_next(&b, start_ns + CLOCK_NS_PER_S, longest), start_ns + CLOCK_NS_PER_S);
	CHECK_EQ(backoff_next(&b, start_ns, longest) - start_ns, 10 * MS);
}

TEST(the_count_of_tries_stays_at_its_maximum_and_waits_go_on)
{
	struct backoff b = { .started_ns = start_ns, .wait_ns = 50 * MS, .tries = UINT32_MAX - 1 };

	CHECK_EQ(backoff_next(&b, start_ns, longest) - start_ns, 50 * MS);
	CHECK_EQ(b.tries, UINT32_MAX);
	CHECK_EQ(backoff_next(&b, start_ns, longest) - start_ns, 50 * MS);
	CHECK_EQ(b.tries, UINT32_MAX);
}

TEST(the_next_try_is_never_before_now_in_a_week_of_outage)
{
	uint64_t now_ns = start_ns;
	uint32_t chance = 1;
	struct backoff b;

	backoff_start(&b, start_ns);
	while (now_ns - start_ns < 7 * 24 * 3600 * CLOCK_NS_PER_S) {
		uint64_t next_ns = backoff_next(&b, now_ns, chance);

		CHECK(next_ns >= now_ns && next_ns - now_ns <= CLOCK_NS_PER_S);
		now_ns = next_ns + 100 * CLOCK_NS_PER_S; /* a try that took its time to fail */
		chance = chance * 1664525 + 1013904223;
	}
	CHECK_EQ(b.wait_ns, CLOCK_NS_PER_S);
}

TEST(a_deadline_is_turned_into_poll_milliseconds_rounded_up)
{
	CHECK_EQ(clock_poll_ms(100, CLOCK_NEVER), -1);
	CHECK_EQ(clock_poll_ms(100, 100), 0);
	CHECK_EQ(clock_poll_ms(100, 99), 0);
	CHECK_EQ(clock_poll_ms(100, 101), 1);
	CHECK_EQ(clock_poll_ms(0, MS), 1);
	CHECK_EQ(clock_poll_ms(0, MS + 1), 2);
	CHECK_EQ(clock_poll_ms(0, CLOCK_NEVER - 1), 3600000);
	CHECK_EQ(clock_poll_ms(CLOCK_NEVER - 2, CLOCK_NEVER - 1), 1);
}
