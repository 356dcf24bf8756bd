/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The reconnect machine, every state against every event, and the paths through it. */
#include "nbdclient/session.h"
#include "tests/unit/tap.h"

static const uint64_t T0 = 1000 * CLOCK_NS_PER_S;

static struct session fresh(void)
{
	struct session s;

	session_init(&s, T0);
	return s;
}

/* A session in each state, reached by the events that lead there. */
static struct session in_state(enum session_state state)
{
	struct session s = fresh();

	switch (state) {
	case SESSION_WAITING: break;
	case SESSION_DIALLING: session_step(&s, EV_START, T0, 0); break;
	case SESSION_NEGOTIATING:
		s = in_state(SESSION_DIALLING);
		session_step(&s, EV_CONNECTED, T0, 0);
		break;
	case SESSION_CHECKING:
		s = in_state(SESSION_NEGOTIATING);
		session_step(&s, EV_AGREED, T0, 0);
		break;
	case SESSION_READY:
		s = in_state(SESSION_CHECKING);
		session_step(&s, EV_SAME, T0, 0);
		break;
	case SESSION_ATTACHED:
		s = in_state(SESSION_READY);
		session_step(&s, EV_HANDED, T0, 0);
		break;
	case SESSION_REFUSED:
		s = in_state(SESSION_CHECKING);
		session_step(&s, EV_DIFFERENT, T0, 0);
		break;
	case SESSION_DETACHING:
		s = in_state(SESSION_ATTACHED);
		session_step(&s, EV_DETACH, T0, 0);
		break;
	}
	return s;
}

TEST(every_state_answers_every_event_as_the_table_says)
{
	enum { W = SESSION_WAITING, D, N, C, R, A, X, E }; /* the states in their order */
	/* clang-format off */
	static const struct { enum session_todo todo; int state; } table[8][11] = {
		/* START, ADOPTED, CONNECTED, AGREED, SAME, DIFFERENT, FAILED, HANDED, LINK_DEAD,
		 * DEADLINE, DETACH */
		[SESSION_WAITING] = { {DO_DIAL, D}, {DO_NOTHING, A}, {DO_NOTHING, W}, {DO_NOTHING, W},
			{DO_NOTHING, W}, {DO_NOTHING, W}, {DO_NOTHING, W}, {DO_NOTHING, W},
			{DO_NOTHING, W}, {DO_DIAL, D}, {DO_DISCONNECT, E} },
		[SESSION_DIALLING] = { {DO_NOTHING, D}, {DO_NOTHING, D}, {DO_NEGOTIATE, N},
			{DO_NOTHING, D}, {DO_NOTHING, D}, {DO_NOTHING, D}, {DO_DROP, W},
			{DO_NOTHING, D}, {DO_NOTHING, D}, {DO_DROP, W}, {DO_DISCONNECT, E} },
		[SESSION_NEGOTIATING] = { {DO_NOTHING, N}, {DO_NOTHING, N}, {DO_NOTHING, N},
			{DO_CHECK, C}, {DO_NOTHING, N}, {DO_NOTHING, N}, {DO_DROP, W},
			{DO_NOTHING, N}, {DO_NOTHING, N}, {DO_DROP, W}, {DO_DISCONNECT, E} },
		[SESSION_CHECKING] = { {DO_NOTHING, C}, {DO_NOTHING, C}, {DO_NOTHING, C},
			{DO_NOTHING, C}, {DO_HAND, R}, {DO_DROP, X}, {DO_DROP, W},
			{DO_NOTHING, C}, {DO_NOTHING, C}, {DO_DROP, W}, {DO_DISCONNECT, E} },
		[SESSION_READY] = { {DO_NOTHING, R}, {DO_NOTHING, R}, {DO_NOTHING, R},
			{DO_NOTHING, R}, {DO_NOTHING, R}, {DO_NOTHING, R}, {DO_DROP, W},
			{DO_NOTHING, A}, {DO_NOTHING, R}, {DO_HAND, R}, {DO_DISCONNECT, E} },
		[SESSION_ATTACHED] = { {DO_NOTHING, A}, {DO_NOTHING, A}, {DO_NOTHING, A},
			{DO_NOTHING, A}, {DO_NOTHING, A}, {DO_NOTHING, A}, {DO_NOTHING, A},
			{DO_NOTHING, A}, {DO_CUT_DIAL, D}, {DO_NOTHING, A}, {DO_DISCONNECT, E} },
		[SESSION_REFUSED] = { {DO_NOTHING, X}, {DO_NOTHING, X}, {DO_NOTHING, X},
			{DO_NOTHING, X}, {DO_NOTHING, X}, {DO_NOTHING, X}, {DO_NOTHING, X},
			{DO_NOTHING, X}, {DO_NOTHING, X}, {DO_DIAL, D}, {DO_DISCONNECT, E} },
		[SESSION_DETACHING] = { {DO_NOTHING, E}, {DO_NOTHING, E}, {DO_NOTHING, E},
			{DO_NOTHING, E}, {DO_NOTHING, E}, {DO_NOTHING, E}, {DO_NOTHING, E},
			{DO_NOTHING, E}, {DO_NOTHING, E}, {DO_NOTHING, E}, {DO_NOTHING, E} },
	};
	/* clang-format on */
	for (int state = SESSION_WAITING; state <= SESSION_DETACHING; state++) {
		for (int ev = EV_START; ev <= EV_DETACH; ev++) {
			struct session s = in_state((enum session_state)state);
			enum session_todo todo;

			CHECK_EQ(s.state, state);
			todo = session_step(&s, (enum session_event)ev, T0, 0);
			if (todo != table[state][ev].todo || (int)s.state != table[state][ev].state)
				printf("# %s, event %d: to do %d, then %s\n",
				       session_state_name((enum session_state)state), ev, todo,
				       session_state_name(s.state));
			CHECK_EQ(todo, table[state][ev].todo);
			CHECK_EQ(s.state, table[state][ev].state);
		}
	}
}

TEST(lost_link_is_cut_and_dialled_at_once)
{
	struct session s = in_state(SESSION_ATTACHED);

	CHECK_EQ(session_step(&s, EV_LINK_DEAD, T0 + 5, 0), DO_CUT_DIAL);
	CHECK_EQ(s.lost_ns, T0 + 5);
	CHECK_EQ(s.losses, 1);
}

TEST(driver_gets_no_socket_before_the_old_one_has_settled)
{
	struct session s = in_state(SESSION_ATTACHED);
	const uint64_t lost = T0 + CLOCK_NS_PER_S;

	session_step(&s, EV_LINK_DEAD, lost, 0);
	session_step(&s, EV_CONNECTED, lost + 1, 0);
	session_step(&s, EV_AGREED, lost + 2, 0);
	CHECK_EQ(session_step(&s, EV_SAME, lost + 3, 0), DO_NOTHING);
	CHECK_EQ(s.state, SESSION_READY);
	CHECK_EQ(s.deadline_ns, lost + SESSION_SETTLE_NS);
	CHECK_EQ(session_step(&s, EV_DEADLINE, lost + SESSION_SETTLE_NS - 1, 0), DO_NOTHING);
	CHECK_EQ(session_step(&s, EV_DEADLINE, lost + SESSION_SETTLE_NS, 0), DO_HAND);
}

TEST(settling_takes_at_least_the_100_ms_that_the_driver_needs)
{
	CHECK(SESSION_SETTLE_NS >= 100 * CLOCK_NS_PER_MS);
}

TEST(second_link_dead_starts_the_settling_anew)
{
	struct session s = in_state(SESSION_ATTACHED);
	const uint64_t lost = T0, again = T0 + 90 * CLOCK_NS_PER_MS;

	session_step(&s, EV_LINK_DEAD, lost, 0);
	session_step(&s, EV_CONNECTED, lost, 0);
	session_step(&s, EV_AGREED, lost, 0);
	session_step(&s, EV_SAME, lost, 0);
	CHECK_EQ(session_step(&s, EV_LINK_DEAD, again, 0), DO_NOTHING);
	CHECK_EQ(s.deadline_ns, again + SESSION_SETTLE_NS);
	CHECK_EQ(s.losses, 1);
}

TEST(long_outage_needs_no_settling_when_the_server_is_back)
{
	struct session s = in_state(SESSION_ATTACHED);
	uint64_t now = T0;

	session_step(&s, EV_LINK_DEAD, now, 0);
	now += 10 * CLOCK_NS_PER_S;
	session_step(&s, EV_CONNECTED, now, 0);
	session_step(&s, EV_AGREED, now, 0);
	CHECK_EQ(session_step(&s, EV_SAME, now, 0), DO_HAND);
}

TEST(tries_go_on_for_ever_at_the_back_offs_pace)
{
	struct session s = in_state(SESSION_ATTACHED);
	uint64_t now = T0;

	session_step(&s, EV_LINK_DEAD, now, 0);
	for (int i = 0; i < 100000; i++) {
		CHECK_EQ(session_step(&s, EV_FAILED, now, UINT32_MAX), DO_DROP);
		CHECK_EQ(s.state, SESSION_WAITING);
		CHECK(s.deadline_ns <= now + CLOCK_NS_PER_S);
		now = s.deadline_ns;
		CHECK_EQ(session_step(&s, EV_DEADLINE, now, 0), DO_DIAL);
	}
	CHECK(now - T0 > 24 * 3600 * CLOCK_NS_PER_S);
}

TEST(first_retry_is_at_once)
{
	struct session s = in_state(SESSION_DIALLING);

	session_step(&s, EV_FAILED, T0 + 7, 12345);
	CHECK_EQ(s.deadline_ns, T0 + 7);
}

TEST(outages_are_counted_and_the_longest_is_kept)
{
	struct session s = in_state(SESSION_ATTACHED);
	const uint64_t lengths[] = { 2 * CLOCK_NS_PER_S, 9 * CLOCK_NS_PER_S, CLOCK_NS_PER_S };
	uint64_t now = T0;

	for (size_t i = 0; i < 3; i++) {
		session_step(&s, EV_LINK_DEAD, now, 0);
		now += lengths[i];
		session_step(&s, EV_CONNECTED, now, 0);
		session_step(&s, EV_AGREED, now, 0);
		session_step(&s, EV_SAME, now, 0);
		session_step(&s, EV_HANDED, now, 0);
		CHECK_EQ(s.last_back_ns, now);
	}
	CHECK_EQ(s.losses, 3);
	CHECK_EQ(s.longest_ns, 9 * CLOCK_NS_PER_S);
}

TEST(waiting_for_the_first_attach_is_not_an_outage)
{
	struct session s = fresh();

	session_step(&s, EV_START, T0, 0);
	session_step(&s, EV_CONNECTED, T0 + 20 * CLOCK_NS_PER_S, 0);
	session_step(&s, EV_AGREED, T0 + 20 * CLOCK_NS_PER_S, 0);
	session_step(&s, EV_SAME, T0 + 20 * CLOCK_NS_PER_S, 0);
	session_step(&s, EV_HANDED, T0 + 20 * CLOCK_NS_PER_S, 0);
	CHECK_EQ(s.longest_ns, 0);
	CHECK_EQ(s.losses, 0);
}

TEST(refused_export_is_tried_again_slowly)
{
	struct session s = in_state(SESSION_REFUSED);

	CHECK_EQ(s.deadline_ns, T0 + SESSION_REFUSED_NS);
	CHECK_EQ(session_step(&s, EV_DEADLINE, s.deadline_ns, 0), DO_DIAL);
}

TEST(every_try_has_a_deadline)
{
	CHECK(in_state(SESSION_DIALLING).deadline_ns != CLOCK_NEVER);
	CHECK(in_state(SESSION_NEGOTIATING).deadline_ns != CLOCK_NEVER);
	CHECK(in_state(SESSION_CHECKING).deadline_ns != CLOCK_NEVER);
}

TEST(attached_device_has_no_deadline_at_all)
{
	CHECK(in_state(SESSION_ATTACHED).deadline_ns == CLOCK_NEVER);
}
