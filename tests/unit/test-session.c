/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The reconnect machine: every state of a try against every event, the paths through it, and what
 * must hold whatever happens, in a million steps of anything.
 */
#include "nbdclient/session.h"
#include "tests/unit/tap.h"

static const uint64_t T0 = 1000 * CLOCK_NS_PER_S;

enum { MS = 1000 * 1000 };

static enum session_todo step(struct session *s, enum session_event ev, unsigned which,
			      uint64_t now_ns)
{
	return session_step(s, ev, which, now_ns, 0);
}

/* Try `which` of a device that looks for its server, in each state, by the events that lead there.
 */
static struct session in_state(int state, unsigned which, unsigned addresses)
{
	struct session s;

	session_init(&s, addresses, T0);
	step(&s, EV_START, 0, T0);
	if (state > TRY_IDLE)
		step(&s, EV_DUE, which, T0);
	if (state == TRY_CONNECTED) { /* somebody else is being asked */
		step(&s, EV_DUE, which + 1, T0);
		step(&s, EV_CONNECTED, which + 1, T0);
	}
	if (state > TRY_DIALLING)
		step(&s, EV_CONNECTED, which, T0);
	if (state > TRY_NEGOTIATING)
		step(&s, EV_AGREED, which, T0);
	if (state > TRY_CHECKING) {
		s.settled_ns = T0 + 1;
		step(&s, EV_SAME, which, T0);
	}
	return s;
}

/* Attached to address `which`. */
static struct session attached(unsigned which, unsigned addresses)
{
	struct session s = in_state(TRY_READY, which, addresses);

	step(&s, EV_DUE, which, T0 + 1);
	step(&s, EV_HANDED, which, T0 + 1);
	return s;
}

/* From the loss of the link on: connects, agrees, finds the same. What is to be done then. */
static enum session_todo find_again(struct session *s, unsigned which, uint64_t now_ns)
{
	step(s, EV_DUE, which, now_ns);
	step(s, EV_CONNECTED, which, now_ns);
	step(s, EV_AGREED, which, now_ns);
	return step(s, EV_SAME, which, now_ns);
}

TEST(every_state_of_a_try_answers_every_event_as_the_table_says)
{
	enum { I = TRY_IDLE, D, W, N, C, R };
	/* clang-format off */
	static const struct { enum session_todo todo; int state; } table[6][8] = {
		/* DUE, CONNECTED, AGREED, SAME, DIFFERENT, UNSAFE, FAILED, HANDED */
		[TRY_IDLE] = { {DO_DIAL, D}, {DO_NOTHING, I}, {DO_NOTHING, I}, {DO_NOTHING, I},
			{DO_NOTHING, I}, {DO_NOTHING, I}, {DO_NOTHING, I}, {DO_NOTHING, I} },
		[TRY_DIALLING] = { {DO_DROP, I}, {DO_NEGOTIATE, N}, {DO_NOTHING, D},
			{DO_NOTHING, D}, {DO_NOTHING, D}, {DO_NOTHING, D}, {DO_DROP, I},
			{DO_NOTHING, D} },
		[TRY_CONNECTED] = { {DO_NEGOTIATE, N}, {DO_NOTHING, W}, {DO_NOTHING, W},
			{DO_NOTHING, W}, {DO_NOTHING, W}, {DO_NOTHING, W}, {DO_DROP, I},
			{DO_NOTHING, W} },
		[TRY_NEGOTIATING] = { {DO_DROP, I}, {DO_NOTHING, N}, {DO_CHECK, C},
			{DO_NOTHING, N}, {DO_NOTHING, N}, {DO_NOTHING, N}, {DO_DROP, I},
			{DO_NOTHING, N} },
		[TRY_CHECKING] = { {DO_DROP, I}, {DO_NOTHING, C}, {DO_NOTHING, C},
			{DO_SETTLE, R}, {DO_DROP, I}, {DO_DROP, I}, {DO_DROP, I}, {DO_NOTHING, C} },
		[TRY_READY] = { {DO_HAND, R}, {DO_NOTHING, R}, {DO_NOTHING, R}, {DO_NOTHING, R},
			{DO_NOTHING, R}, {DO_NOTHING, R}, {DO_DROP, I}, {DO_NOTHING, I} },
	};
	/* clang-format on */
	for (int state = TRY_IDLE; state <= TRY_READY; state++) {
		for (int ev = EV_DUE; ev <= EV_HANDED; ev++) {
			struct session s = in_state(state, 0, 2);
			enum session_todo todo;

			CHECK_EQ(s.tries[0].state, state);
			s.settled_ns = state == TRY_CHECKING ? T0 + 1 : 0;
			todo = step(&s, (enum session_event)ev, 0, T0 + 0);
			if (todo != table[state][ev - EV_DUE].todo ||
			    (int)s.tries[0].state != table[state][ev - EV_DUE].state)
				printf("# state %d, event %d: to do %d, then %d\n", state, ev, todo,
				       s.tries[0].state);
			CHECK_EQ(todo, table[state][ev - EV_DUE].todo);
			CHECK_EQ(s.tries[0].state, table[state][ev - EV_DUE].state);
		}
	}
}

TEST(lost_link_is_cut_and_the_same_address_dialled_at_once_the_others_soon_after)
{
	struct session s = attached(1, 3);
	const uint64_t lost = T0 + 5 * CLOCK_NS_PER_S;

	CHECK_EQ(step(&s, EV_LINK_DEAD, 0, lost), DO_CUT);
	CHECK_EQ(s.lost_ns, lost);
	CHECK_EQ(s.losses, 1);
	CHECK_EQ(session_due(&s, lost), 1);
	CHECK_EQ(step(&s, EV_DUE, 1, lost), DO_DIAL);
	CHECK_EQ(session_due(&s, lost), SESSION_NOBODY);
	CHECK_EQ(session_due(&s, lost + SESSION_STAGGER_NS), 0);
	CHECK_EQ(s.tries[2].due_ns, lost + 2 * SESSION_STAGGER_NS);
}

TEST(driver_gets_no_socket_before_the_old_one_has_settled)
{
	struct session s = attached(0, 1);
	const uint64_t lost = T0 + CLOCK_NS_PER_S;

	step(&s, EV_LINK_DEAD, 0, lost);
	CHECK_EQ(find_again(&s, 0, lost + 3), DO_SETTLE);
	CHECK_EQ(s.shown, SESSION_READY);
	CHECK_EQ(session_deadline(&s), lost + SESSION_SETTLE_NS);
	CHECK_EQ(session_due(&s, lost + SESSION_SETTLE_NS - 1), SESSION_NOBODY);
	CHECK_EQ(session_due(&s, lost + SESSION_SETTLE_NS), 0);
	CHECK_EQ(step(&s, EV_DUE, 0, lost + SESSION_SETTLE_NS), DO_HAND);
}

TEST(settling_takes_at_least_the_100_ms_that_the_driver_needs)
{
	CHECK(SESSION_SETTLE_NS >= 100 * CLOCK_NS_PER_MS);
}

TEST(second_link_dead_starts_the_settling_anew)
{
	struct session s = attached(0, 1);
	const uint64_t lost = T0, again = T0 + 90 * CLOCK_NS_PER_MS;

	step(&s, EV_LINK_DEAD, 0, lost);
	find_again(&s, 0, lost);
	CHECK_EQ(step(&s, EV_LINK_DEAD, 0, again), DO_NOTHING);
	CHECK_EQ(session_deadline(&s), again + SESSION_SETTLE_NS);
	CHECK_EQ(s.losses, 1);
}

TEST(long_outage_needs_no_settling_when_the_server_is_back)
{
	struct session s = attached(0, 1);

	step(&s, EV_LINK_DEAD, 0, T0);
	CHECK_EQ(find_again(&s, 0, T0 + 10 * CLOCK_NS_PER_S), DO_HAND);
}

TEST(server_that_cannot_fence_gets_a_quiet_time_from_its_first_connection_on)
{
	struct session s = attached(0, 1);
	const uint64_t back = T0 + 30 * CLOCK_NS_PER_S;

	session_quiet(&s, 2 * CLOCK_NS_PER_S);
	step(&s, EV_LINK_DEAD, 0, T0);
	CHECK_EQ(find_again(&s, 0, back), DO_SETTLE);
	CHECK_EQ(session_deadline(&s), back + 2 * CLOCK_NS_PER_S);
}

TEST(exchange_asks_the_same_server_alone_at_first)
{
	struct session s;

	session_init(&s, 3, T0);
	s.was_attached = true;
	s.preferred = 1;
	step(&s, EV_EXCHANGE, 0, T0);
	CHECK_EQ(session_due(&s, T0 + SESSION_EXCHANGE_NS), 1);
	step(&s, EV_DUE, 1, T0);
	CHECK_EQ(session_due(&s, T0 + SESSION_STAGGER_NS), SESSION_NOBODY);
	CHECK(s.tries[0].due_ns >= T0 + SESSION_EXCHANGE_NS);
	CHECK_EQ(s.losses, 0);
}

TEST(only_one_try_negotiates_and_the_next_has_its_turn_when_it_fails)
{
	struct session s = attached(0, 3);

	step(&s, EV_LINK_DEAD, 0, T0);
	for (unsigned i = 0; i < 3; i++)
		CHECK_EQ(step(&s, EV_DUE, i, T0 + CLOCK_NS_PER_S), DO_DIAL);
	CHECK_EQ(step(&s, EV_CONNECTED, 2, T0 + CLOCK_NS_PER_S), DO_NEGOTIATE);
	CHECK_EQ(step(&s, EV_CONNECTED, 1, T0 + CLOCK_NS_PER_S), DO_NOTHING);
	CHECK_EQ(step(&s, EV_CONNECTED, 0, T0 + CLOCK_NS_PER_S), DO_NOTHING);
	CHECK_EQ(session_due(&s, T0 + CLOCK_NS_PER_S), SESSION_NOBODY);
	step(&s, EV_FAILED, 2, T0 + CLOCK_NS_PER_S);
	CHECK_EQ(session_due(&s, T0 + CLOCK_NS_PER_S), 0); /* the preferred one first */
	CHECK_EQ(step(&s, EV_DUE, 0, T0 + CLOCK_NS_PER_S), DO_NEGOTIATE);
}

TEST(hung_server_is_waited_for_but_not_long_when_another_one_is_there)
{
	struct session s = in_state(TRY_NEGOTIATING, 0, 2);

	CHECK_EQ(s.tries[0].due_ns, T0 + SESSION_NEGOTIATE_NS);
	step(&s, EV_DUE, 1, T0 + MS);
	step(&s, EV_CONNECTED, 1, T0 + 2 * MS);
	CHECK_EQ(s.tries[0].due_ns, T0 + 2 * MS + SESSION_IMPATIENT_NS);
	CHECK_EQ(step(&s, EV_DUE, 0, s.tries[0].due_ns), DO_DROP);
	CHECK(s.tries[0].due_ns >= T0 + 2 * SESSION_IMPATIENT_NS);
	CHECK_EQ(session_due(&s, T0 + 2 * MS + SESSION_IMPATIENT_NS), 1);
}

TEST(chosen_one_ends_the_other_tries)
{
	struct session s = attached(0, 3);

	step(&s, EV_LINK_DEAD, 0, T0);
	step(&s, EV_DUE, 1, T0);
	CHECK_EQ(find_again(&s, 2, T0 + CLOCK_NS_PER_S), DO_HAND);
	CHECK_EQ(s.tries[1].state, TRY_IDLE);
	CHECK_EQ(session_deadline(&s), CLOCK_NEVER);
	step(&s, EV_HANDED, 2, T0 + CLOCK_NS_PER_S);
	CHECK_EQ(s.preferred, 2);
	CHECK_EQ(s.shown, SESSION_ATTACHED);
}

TEST(all_are_tried_again_when_the_driver_does_not_take_the_chosen_one)
{
	struct session s = attached(0, 2);

	step(&s, EV_LINK_DEAD, 0, T0);
	CHECK_EQ(find_again(&s, 0, T0 + CLOCK_NS_PER_S), DO_HAND);
	CHECK_EQ(step(&s, EV_FAILED, 0, T0 + CLOCK_NS_PER_S), DO_DROP);
	CHECK(s.tries[0].due_ns <= T0 + 2 * CLOCK_NS_PER_S);
	CHECK(s.tries[1].due_ns <= T0 + 2 * CLOCK_NS_PER_S);
}

TEST(tries_go_on_for_ever_at_the_back_offs_pace)
{
	struct session s = attached(0, 1);
	uint64_t now = T0;

	step(&s, EV_LINK_DEAD, 0, now);
	for (int i = 0; i < 100000; i++) {
		CHECK_EQ(step(&s, EV_DUE, 0, now), DO_DIAL);
		CHECK_EQ(session_step(&s, EV_FAILED, 0, now, UINT32_MAX), DO_DROP);
		CHECK(session_deadline(&s) <= now + CLOCK_NS_PER_S);
		now = session_deadline(&s);
	}
	CHECK(now - T0 > 24 * 3600 * CLOCK_NS_PER_S);
}

TEST(server_that_drops_each_link_at_once_is_not_asked_at_once_each_time)
{
	struct session s = attached(0, 1);
	uint64_t now = T0 + CLOCK_NS_PER_S, wait_ns = 0;

	for (int i = 0; i < 10; i++) {
		session_note_use(&s, false);
		step(&s, EV_LINK_DEAD, 0, now);
		CHECK(session_deadline(&s) - now >= wait_ns);
		wait_ns = session_deadline(&s) - now;
		now += CLOCK_NS_PER_S;
		find_again(&s, 0, now);
		step(&s, EV_HANDED, 0, now);
	}
	CHECK_EQ(wait_ns, 3200 * CLOCK_NS_PER_MS);
	session_note_use(&s, true);
	step(&s, EV_LINK_DEAD, 0, now);
	CHECK_EQ(session_deadline(&s), now);
}

TEST(most_dials_are_short_and_each_fourth_is_long)
{
	struct session s = attached(0, 1);
	unsigned longs = 0;

	step(&s, EV_LINK_DEAD, 0, T0);
	for (int i = 0; i < 40; i++) {
		step(&s, EV_DUE, 0, T0);
		longs += s.tries[0].due_ns == T0 + SESSION_DIAL_LONG_NS;
		step(&s, EV_FAILED, 0, T0);
	}
	CHECK_EQ(longs, 10);
}

TEST(network_that_comes_back_is_tried_at_once)
{
	struct session s = attached(0, 2);
	uint64_t now = T0 + 100 * CLOCK_NS_PER_S;

	step(&s, EV_LINK_DEAD, 0, T0);
	for (int i = 0; i < 20; i++) {
		session_step(&s, EV_DUE, 0, now, UINT32_MAX);
		session_step(&s, EV_FAILED, 0, now, UINT32_MAX);
	}
	CHECK(s.tries[0].due_ns > now + CLOCK_NS_PER_S / 2);
	step(&s, EV_NETWORK, 0, now);
	CHECK_EQ(s.tries[0].due_ns, now);
}

TEST(network_changes_are_no_event_for_a_link_that_is_up)
{
	struct session s = attached(0, 2);

	CHECK_EQ(step(&s, EV_NETWORK, 0, T0 + 9), DO_NOTHING);
	CHECK_EQ(session_deadline(&s), CLOCK_NEVER);
}

TEST(refused_and_held_exports_are_tried_again_slowly_and_keep_their_name)
{
	static const struct {
		enum session_event ev;
		enum session_state state;
	} cases[] = { { EV_DIFFERENT, SESSION_REFUSED }, { EV_UNSAFE, SESSION_HELD } };

	for (size_t i = 0; i < 2; i++) {
		struct session s = in_state(TRY_CHECKING, 0, 1);

		CHECK_EQ(step(&s, cases[i].ev, 0, T0), DO_DROP);
		CHECK_EQ(s.shown, cases[i].state);
		CHECK_EQ(session_deadline(&s), T0 + SESSION_REFUSED_NS);
		CHECK_EQ(step(&s, EV_DUE, 0, T0 + SESSION_REFUSED_NS), DO_DIAL);
		CHECK_EQ(s.shown, cases[i].state);
		step(&s, EV_FAILED, 0, T0 + SESSION_REFUSED_NS);
		CHECK_EQ(s.shown, SESSION_LOST); /* it is gone altogether: that is news */
	}
}

TEST(other_addresses_go_on_being_tried_when_one_is_refused)
{
	struct session s = in_state(TRY_CHECKING, 0, 2);

	step(&s, EV_DIFFERENT, 0, T0);
	CHECK_EQ(s.tries[1].due_ns, T0 + SESSION_STAGGER_NS);
	CHECK_EQ(find_again(&s, 1, T0 + SESSION_STAGGER_NS), DO_HAND);
}

TEST(person_who_resumes_does_not_wait_for_the_next_slow_try)
{
	struct session s = in_state(TRY_CHECKING, 0, 1);

	step(&s, EV_UNSAFE, 0, T0);
	step(&s, EV_RESUME, 0, T0 + MS);
	CHECK_EQ(session_due(&s, T0 + MS), 0);
}

TEST(stalled_link_is_suspect_and_kept)
{
	struct session s = attached(0, 2);

	CHECK_EQ(step(&s, EV_STALLED, 0, T0 + MS), DO_NOTHING);
	CHECK_EQ(s.shown, SESSION_SUSPECT);
	CHECK_EQ(session_deadline(&s), CLOCK_NEVER);
	CHECK_EQ(s.losses, 0);
	CHECK_EQ(step(&s, EV_ANSWERED, 0, T0 + 2 * MS), DO_NOTHING);
	CHECK_EQ(s.shown, SESSION_ATTACHED);
	step(&s, EV_STALLED, 0, T0 + 3 * MS);
	CHECK_EQ(step(&s, EV_LINK_DEAD, 0, T0 + 4 * MS), DO_CUT);
	CHECK_EQ(step(&s, EV_STALLED, 0, T0 + 5 * MS), DO_NOTHING);
	CHECK_EQ(s.shown, SESSION_LOST);
}

/* All addresses accept connections at once; `needs_ns` after its turn has come, one agrees. */
static uint64_t time_to_agree(unsigned addresses, unsigned good, uint64_t needs_ns)
{
	struct session s = attached(0, addresses);
	uint64_t now = T0, begun[SESSION_TRIES_MAX] = { 0 };

	step(&s, EV_LINK_DEAD, 0, now);
	while (now < T0 + 600 * CLOCK_NS_PER_S) {
		int which = session_due(&s, now);
		enum session_todo todo;

		if (s.active != SESSION_NOBODY && (unsigned)s.active >= good &&
		    now >= begun[s.active] + needs_ns)
			return now - T0;
		if (which == SESSION_NOBODY) {
			now += MS;
			continue;
		}
		todo = step(&s, EV_DUE, (unsigned)which, now);
		if (todo == DO_DIAL)
			todo = step(&s, EV_CONNECTED, (unsigned)which, now);
		if (todo == DO_NEGOTIATE)
			begun[which] = now;
	}
	return CLOCK_NEVER;
}

TEST(hung_server_with_many_addresses_does_not_keep_the_client_from_another_for_ever)
{
	CHECK(time_to_agree(4, 3, MS) <= 7 * CLOCK_NS_PER_S);
}

TEST(slow_server_with_two_addresses_is_given_the_time_that_it_needs)
{
	CHECK(time_to_agree(1, 0, 9 * CLOCK_NS_PER_S) <= 10 * CLOCK_NS_PER_S);
	CHECK(time_to_agree(2, 0, 2500 * CLOCK_NS_PER_MS) <= 12 * CLOCK_NS_PER_S);
	CHECK(time_to_agree(2, 0, 9 * CLOCK_NS_PER_S) <= 60 * CLOCK_NS_PER_S);
}

TEST(outages_are_counted_and_the_longest_is_kept)
{
	struct session s = attached(0, 1);
	const uint64_t lengths[] = { 2 * CLOCK_NS_PER_S, 9 * CLOCK_NS_PER_S, CLOCK_NS_PER_S };
	uint64_t now = T0;

	for (size_t i = 0; i < 3; i++) {
		step(&s, EV_LINK_DEAD, 0, now);
		now += lengths[i];
		CHECK_EQ(find_again(&s, 0, now), DO_HAND);
		step(&s, EV_HANDED, 0, now);
		CHECK_EQ(s.last_back_ns, now);
	}
	CHECK_EQ(s.losses, 3);
	CHECK_EQ(s.longest_ns, 9 * CLOCK_NS_PER_S);
}

TEST(waiting_for_the_first_attach_is_not_an_outage)
{
	struct session s;

	session_init(&s, 1, T0);
	step(&s, EV_START, 0, T0);
	CHECK_EQ(find_again(&s, 0, T0 + 20 * CLOCK_NS_PER_S), DO_HAND);
	step(&s, EV_HANDED, 0, T0 + 20 * CLOCK_NS_PER_S);
	CHECK_EQ(s.longest_ns, 0);
	CHECK_EQ(s.losses, 0);
}

TEST(detaching_ends_everything)
{
	for (int state = TRY_IDLE; state <= TRY_READY; state++) {
		struct session s = in_state(state, 0, 2);

		CHECK_EQ(step(&s, EV_DETACH, 0, T0), DO_DISCONNECT);
		CHECK_EQ(s.shown, SESSION_DETACHING);
		CHECK_EQ(session_deadline(&s), CLOCK_NEVER);
		for (int ev = EV_START; ev <= EV_HANDED; ev++)
			CHECK_EQ(step(&s, (enum session_event)ev, 0, T0), DO_NOTHING);
	}
}

/* What must hold after any step; NULL, or what does not. */
static const char *broken_rule(const struct session *s, enum session_todo todo, uint64_t now)
{
	bool is_up = s->link == LINK_UP || s->link == LINK_SUSPECT;
	unsigned beyond = 0, busy = 0;

	for (unsigned i = 0; i < s->tries_count; i++) {
		beyond += s->tries[i].state >= TRY_NEGOTIATING;
		busy += s->tries[i].state != TRY_IDLE;
	}
	if (beyond > 1)
		return "two tries negotiate at a time";
	if (beyond != (s->active != SESSION_NOBODY))
		return "the active try is another one";
	if (s->link == LINK_UP && (busy || session_deadline(s) != CLOCK_NEVER))
		return "there are tries beside a link that is up";
	if (todo == DO_HAND && (now < s->settled_ns || now < s->quiet_ns || busy > 1 || is_up))
		return "the driver gets a socket too early";
	if (!is_up && !(todo == DO_HAND) && session_deadline(s) == CLOCK_NEVER)
		return "nothing will ever happen again";
	if (session_state_is_up(s->shown) != is_up)
		return "the state that is shown is not the link's";
	return NULL;
}

TEST(rules_hold_in_a_million_steps_of_anything)
{
	static const enum session_event well[] = { EV_LINK_DEAD, EV_CONNECTED, EV_FAILED,
						   EV_AGREED,    EV_SAME,      EV_FAILED };
	uint32_t x = 0x6e627264;
	struct session s;
	uint64_t now = T0;

	session_init(&s, 3, now);
	step(&s, EV_START, 0, now);
	for (int i = 0; i < 1000000; i++) {
		enum session_event ev;
		enum session_todo todo;
		const char *broken;
		unsigned which;
		int due;

		x ^= x << 13, x ^= x >> 17, x ^= x << 5;
		which = x % 3;
		ev = EV_LINK_DEAD + (x >> 8) % (EV_HANDED - EV_LINK_DEAD + 1);
		now += (x >> 4) % (100 * MS);
		due = session_due(&s, now);
		if (due != SESSION_NOBODY && x & 1) {
			ev = EV_DUE;
			which = (unsigned)due;
		}
		if (due == SESSION_NOBODY && x & 4) /* things go well as often as not */
			ev = well[s.tries[which].state];
		/* what the client never says: a detach, which ends all; what no try has led to */
		if (ev == EV_DETACH || (ev == EV_DUE && due != (int)which) ||
		    (ev == EV_HANDED && s.tries[which].due_ns != CLOCK_NEVER))
			continue;
		todo = session_step(&s, ev, which, now, x);
		/* the driver takes what it is given, or not */
		if (todo == DO_HAND && (broken = broken_rule(&s, todo, now)) == NULL)
			todo = session_step(&s, x & 2 ? EV_HANDED : EV_FAILED, which, now, x);
		broken = broken_rule(&s, todo, now);
		if (broken)
			printf("# step %d, event %d of %u: %s\n", i, ev, which, broken);
		CHECK(!broken);
	}
	CHECK(s.losses > 1000);
}
