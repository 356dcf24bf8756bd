/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When a machine is ended without its disk, and, more important, when it is not. */
#include "nbdclient/ending.h"
#include "tests/unit/tap.h"

#define S CLOCK_NS_PER_S

static const uint64_t T0 = 100000 * CLOCK_NS_PER_S;

static struct ending make(enum ending_role role, unsigned outage_s)
{
	return (struct ending){ .role = role, .outage_s = outage_s };
}

/* Looks every second from `from` to before `to`; the first thing to do, or nothing. */
static enum ending_todo look(struct ending *e, bool is_away, uint64_t from, uint64_t to)
{
	for (uint64_t now = from; now < to; now += S) {
		enum ending_todo todo = ending_step(e, is_away, now);

		if (todo != ENDING_DO_NOTHING)
			return todo;
	}
	return ENDING_DO_NOTHING;
}

TEST(outage_without_a_request_is_waited_for_a_year)
{
	static const enum ending_role roles[] = { ENDING_WAITS, ENDING_LETS_GO, ENDING_ENDS };

	for (size_t i = 0; i < 3; i++) {
		struct ending e = make(roles[i], 0);

		CHECK_EQ(ending_step(&e, true, T0), ENDING_DO_NOTHING);
		CHECK_EQ(ending_deadline(&e), CLOCK_NEVER);
		CHECK_EQ(ending_step(&e, true, T0 + 365 * 86400 * S), ENDING_DO_NOTHING);
	}
}

TEST(request_with_the_server_there_is_left_to_the_others)
{
	struct ending e = make(ENDING_ENDS, 0);

	CHECK_EQ(ending_step(&e, false, T0), ENDING_DO_NOTHING);
	ending_ask(&e, ENDING_RESTART, false, T0);
	CHECK_EQ(look(&e, false, T0, T0 + 3600 * S), ENDING_DO_NOTHING);
	CHECK_EQ(ending_deadline(&e), CLOCK_NEVER);
}

TEST(request_in_an_outage_is_said_at_once_and_ends_the_machine_after_the_patience)
{
	struct ending e = make(ENDING_ENDS, 0);
	const uint64_t end = T0 + 500 * S + ENDING_PATIENCE_NS + ENDING_LAST_NS;

	CHECK_EQ(look(&e, true, T0, T0 + 500 * S), ENDING_DO_NOTHING);
	ending_ask(&e, ENDING_POWER_OFF, false, T0 + 500 * S);
	CHECK(ending_deadline(&e) <= T0 + 500 * S);
	CHECK_EQ(ending_step(&e, true, T0 + 500 * S), ENDING_DO_SAY);
	CHECK_EQ(ending_deadline(&e), end);
	CHECK_EQ(ending_step(&e, true, end - 1), ENDING_DO_NOTHING);
	CHECK_EQ(ending_step(&e, true, end), ENDING_DO_END);
	CHECK_EQ(e.asked, ENDING_POWER_OFF);
	/* The kernel has refused: not again, and not as fast as we can. */
	CHECK_EQ(ending_step(&e, true, end), ENDING_DO_NOTHING);
	CHECK_EQ(ending_deadline(&e), CLOCK_NEVER);
}

TEST(everything_is_over_within_a_minute_of_the_request)
{
	CHECK(ENDING_PATIENCE_NS + ENDING_LAST_NS < 60 * S);
}

TEST(other_devices_let_go_before_the_one_with_the_root_ends_the_machine)
{
	struct ending root = make(ENDING_ENDS, 0), other = make(ENDING_LETS_GO, 0);

	ending_step(&root, true, T0);
	ending_step(&other, true, T0);
	ending_ask(&root, ENDING_RESTART, false, T0);
	ending_ask(&other, ENDING_RESTART, false, T0);
	CHECK_EQ(ending_step(&root, true, T0), ENDING_DO_SAY);
	CHECK_EQ(ending_step(&other, true, T0), ENDING_DO_SAY);
	CHECK_EQ(ending_step(&root, true, T0 + ENDING_PATIENCE_NS), ENDING_DO_NOTHING);
	CHECK_EQ(ending_step(&other, true, T0 + ENDING_PATIENCE_NS), ENDING_DO_LET_GO);
}

TEST(device_that_waits_takes_no_notice_of_a_request)
{
	struct ending e = make(ENDING_WAITS, 0);

	ending_ask(&e, ENDING_RESTART, false, T0);
	CHECK_EQ(look(&e, true, T0, T0 + 3600 * S), ENDING_DO_NOTHING);
}

TEST(server_that_comes_back_in_time_gives_the_way_down_back)
{
	struct ending e = make(ENDING_ENDS, 0);

	ending_step(&e, true, T0);
	ending_ask(&e, ENDING_RESTART, false, T0);
	CHECK_EQ(ending_step(&e, true, T0), ENDING_DO_SAY);
	CHECK_EQ(ending_step(&e, false, T0 + 29 * S), ENDING_DO_NOTHING);
	CHECK_EQ(look(&e, false, T0 + 29 * S, T0 + 100 * S), ENDING_DO_NOTHING);
	/* Lost once more while the machine goes down: the patience begins anew. */
	CHECK_EQ(ending_step(&e, true, T0 + 100 * S), ENDING_DO_SAY);
	CHECK_EQ(look(&e, true, T0 + 100 * S, T0 + 131 * S), ENDING_DO_NOTHING);
	CHECK_EQ(ending_step(&e, true, T0 + 131 * S), ENDING_DO_END);
}

TEST(request_of_days_before_an_outage_is_forgotten)
{
	struct ending e = make(ENDING_ENDS, 0);

	ending_step(&e, false, T0);
	ending_ask(&e, ENDING_RESTART, false, T0);
	CHECK_EQ(look(&e, true, T0 + 3 * 86400 * S, T0 + 3 * 86400 * S + 3600 * S),
		 ENDING_DO_NOTHING);
}

TEST(request_of_which_nothing_came_does_not_make_a_later_one_old)
{
	struct ending e = make(ENDING_ENDS, 0);
	const uint64_t later = T0 + 86400 * S;

	ending_step(&e, false, T0);
	ending_ask(&e, ENDING_RESTART, false, T0);
	ending_ask(&e, ENDING_POWER_OFF, false, later);
	CHECK_EQ(ending_step(&e, true, later + 5 * S), ENDING_DO_SAY);
	CHECK_EQ(look(&e, true, later + 5 * S, later + 36 * S), ENDING_DO_NOTHING);
	CHECK_EQ(ending_step(&e, true, later + 36 * S), ENDING_DO_END);
	CHECK_EQ(e.asked, ENDING_POWER_OFF);
}

TEST(request_that_was_called_off_is_void)
{
	struct ending e = make(ENDING_ENDS, 0);

	ending_step(&e, true, T0);
	ending_ask(&e, ENDING_RESTART, false, T0);
	CHECK_EQ(ending_step(&e, true, T0), ENDING_DO_SAY);
	ending_call_off(&e);
	CHECK_EQ(look(&e, true, T0, T0 + 3600 * S), ENDING_DO_NOTHING);
}

TEST(repeated_requests_change_the_way_but_not_the_time)
{
	struct ending e = make(ENDING_ENDS, 0);

	ending_step(&e, true, T0);
	ending_ask(&e, ENDING_RESTART, false, T0);
	CHECK_EQ(ending_step(&e, true, T0), ENDING_DO_SAY);
	ending_ask(&e, ENDING_POWER_OFF, false, T0 + 20 * S);
	CHECK_EQ(look(&e, true, T0 + 20 * S, T0 + 31 * S), ENDING_DO_NOTHING);
	CHECK_EQ(ending_step(&e, true, T0 + 31 * S), ENDING_DO_END);
	CHECK_EQ(e.asked, ENDING_POWER_OFF);
}

TEST(keys_reach_process_1_when_the_server_is_back)
{
	struct ending e = make(ENDING_ENDS, 0);

	ending_step(&e, true, T0);
	ending_ask(&e, ENDING_RESTART, true, T0);
	CHECK_EQ(ending_step(&e, true, T0), ENDING_DO_SAY);
	CHECK_EQ(ending_step(&e, false, T0 + 10 * S), ENDING_DO_PASS_ON);
	/* It will ask itself; the keys alone are forgotten. */
	CHECK_EQ(look(&e, true, T0 + 11 * S, T0 + 500 * S), ENDING_DO_NOTHING);
}

TEST(keys_with_the_server_there_are_passed_on_at_once)
{
	struct ending e = make(ENDING_ENDS, 0);

	ending_step(&e, false, T0);
	ending_ask(&e, ENDING_RESTART, true, T0);
	CHECK_EQ(ending_step(&e, false, T0), ENDING_DO_PASS_ON);
	CHECK_EQ(ending_step(&e, false, T0), ENDING_DO_NOTHING);
}

TEST(keys_are_not_passed_on_to_a_process_1_that_was_asked_as_well)
{
	struct ending e = make(ENDING_ENDS, 0);

	ending_step(&e, true, T0);
	ending_ask(&e, ENDING_RESTART, true, T0);
	ending_ask(&e, ENDING_POWER_OFF, false, T0 + S);
	CHECK_EQ(ending_step(&e, true, T0 + S), ENDING_DO_SAY);
	CHECK_EQ(ending_step(&e, false, T0 + 2 * S), ENDING_DO_NOTHING);
}

TEST(outage_that_is_too_long_restarts_the_machine_to_the_second)
{
	struct ending e = make(ENDING_WAITS, 600);

	CHECK_EQ(ending_step(&e, true, T0), ENDING_DO_NOTHING);
	CHECK_EQ(ending_deadline(&e), T0 + 600 * S);
	CHECK_EQ(look(&e, true, T0, T0 + 600 * S), ENDING_DO_NOTHING);
	CHECK_EQ(ending_step(&e, true, T0 + 600 * S), ENDING_DO_RESTART);
	CHECK_EQ(ending_step(&e, true, T0 + 601 * S), ENDING_DO_NOTHING);
}

TEST(outages_do_not_add_up)
{
	struct ending e = make(ENDING_WAITS, 600);

	for (int i = 0; i < 10; i++) {
		CHECK_EQ(look(&e, true, T0 + i * 700 * S, T0 + (i * 700 + 599) * S),
			 ENDING_DO_NOTHING);
		CHECK_EQ(ending_step(&e, false, T0 + (i * 700 + 599) * S), ENDING_DO_NOTHING);
	}
}

TEST(shutdown_waits_no_longer_for_a_server_that_comes_and_goes)
{
	struct ending e = make(ENDING_ENDS, 0);
	enum ending_todo todo = ENDING_DO_NOTHING;
	uint64_t now = T0;

	CHECK_EQ(ending_step(&e, true, now), ENDING_DO_NOTHING);
	ending_ask(&e, ENDING_RESTART, false, now);
	CHECK_EQ(ending_step(&e, true, now), ENDING_DO_SAY);
	for (; now < T0 + 60 * S && todo == ENDING_DO_NOTHING; now += S)
		todo = ending_step(&e, now / S % 5 != 0, now); /* there for one second of five */
	CHECK_EQ(todo, ENDING_DO_END);
	CHECK(now <= T0 + ENDING_PATIENCE_NS + ENDING_LAST_NS + 2 * S);
}

TEST(longest_outage_does_not_overflow)
{
	struct ending e = make(ENDING_WAITS, UINT32_MAX);

	ending_step(&e, true, T0);
	CHECK_EQ(ending_deadline(&e), T0 + UINT32_MAX * S);
}

TEST(shutdown_counts_although_the_outage_may_last_longer)
{
	struct ending e = make(ENDING_ENDS, 600);

	ending_step(&e, true, T0);
	ending_ask(&e, ENDING_HALT, false, T0 + 10 * S);
	CHECK_EQ(ending_step(&e, true, T0 + 10 * S), ENDING_DO_SAY);
	CHECK_EQ(ending_step(&e, true, T0 + 41 * S), ENDING_DO_END);
}

#define OF_PROGRAM(words) ending_of_shutdown_program(words, sizeof(words))

TEST(our_own_shutdown_says_how)
{
	CHECK_EQ(OF_PROGRAM("/shutdown\0reboot"), ENDING_RESTART);
	CHECK_EQ(OF_PROGRAM("/shutdown\0poweroff\0more"), ENDING_POWER_OFF);
	CHECK_EQ(OF_PROGRAM("/run/initramfs/shutdown\0halt"), ENDING_HALT);
	CHECK_EQ(OF_PROGRAM("/shutdown\0kexec"), ENDING_RESTART);
	CHECK_EQ(OF_PROGRAM("/shutdown"), ENDING_NOT_ASKED);
	CHECK_EQ(OF_PROGRAM("/sbin/init\0reboot"), ENDING_NOT_ASKED);
	CHECK_EQ(OF_PROGRAM("my-shutdown\0reboot"), ENDING_NOT_ASKED);
	CHECK_EQ(ending_of_shutdown_program("", 0), ENDING_NOT_ASKED);
	/* a word that was cut off has no end of its own */
	CHECK_EQ(ending_of_shutdown_program("/shutdown\0reboot", 12), ENDING_NOT_ASKED);
}

#define OF_SHUTDOWN(words) ending_of_shutdown(words, sizeof(words))

TEST(sysvinits_shutdown_says_how_and_that_it_is_now)
{
	CHECK_EQ(OF_SHUTDOWN("shutdown\0-r\0now"), ENDING_RESTART);
	CHECK_EQ(OF_SHUTDOWN("/sbin/shutdown\0-t1\0-a\0-r\0now"), ENDING_RESTART);
	CHECK_EQ(OF_SHUTDOWN("shutdown\0-h\0-P\0now"), ENDING_POWER_OFF);
	CHECK_EQ(OF_SHUTDOWN("shutdown\0-h\0-H\0now"), ENDING_HALT);
	CHECK_EQ(OF_SHUTDOWN("shutdown\0-h\0+0\0bye"), ENDING_POWER_OFF);
}

TEST(shutdown_that_waits_or_pretends_or_calls_off_asks_for_nothing)
{
	CHECK_EQ(OF_SHUTDOWN("shutdown\0-r\0+5"), ENDING_NOT_ASKED);
	CHECK_EQ(OF_SHUTDOWN("shutdown\0-r\00023:00"), ENDING_NOT_ASKED);
	CHECK_EQ(OF_SHUTDOWN("shutdown\0-k\0-r\0now"), ENDING_NOT_ASKED);
	CHECK_EQ(OF_SHUTDOWN("shutdown\0-rk\0now"), ENDING_NOT_ASKED);
	CHECK_EQ(OF_SHUTDOWN("shutdown\0-c"), ENDING_NOT_ASKED);
	CHECK_EQ(OF_SHUTDOWN("shutdown\0now"), ENDING_NOT_ASKED); /* to single user */
	CHECK_EQ(OF_SHUTDOWN("vi\0-r\0now"), ENDING_NOT_ASKED);
	CHECK_EQ(ending_of_shutdown("", 0), ENDING_NOT_ASKED);
}

TEST(command_line_of_any_length_is_read_within_bounds)
{
	static char words[4096];

	for (int c = 0; c <= '-'; c += '-') {
		memset(words, c, sizeof(words));
		memcpy(words, "shutdown", 9);
		for (size_t size = 0; size <= sizeof(words); size += 13) {
			CHECK_EQ(ending_of_shutdown_program(words, size), ENDING_NOT_ASKED);
			CHECK_EQ(ending_of_shutdown(words, size), ENDING_NOT_ASKED);
		}
	}
}

/* As glibc has it on x86-64 (384 bytes) and, with longer numbers behind, on others (400). */
static size_t put_record(char *at, size_t size, int type, const char *line, const char *id, int pid)
{
	memset(at, 0, size);
	at[0] = (char)type;
	memcpy(at + 4, &pid, 4);
	memcpy(at + 8, line, strlen(line));
	memcpy(at + 40, id, strlen(id));
	return size;
}

TEST(run_level_in_utmp_tells_of_a_shutdown)
{
	static const struct {
		int level;
		enum ending_verb verb;
	} levels[] = { { '0', ENDING_POWER_OFF },
		       { '6', ENDING_RESTART },
		       { '2', ENDING_NOT_ASKED },
		       { 'S', ENDING_NOT_ASKED } };
	char data[2000];

	for (size_t record = 384; record <= 400; record += 16)
		for (size_t i = 0; i < 4; i++) {
			size_t n = put_record(data, record, 2, "~", "~~", 0);

			n += put_record(data + n, record, 1, "~", "~~",
					levels[i].level + 256 * '2');
			n += put_record(data + n, record, 7, "tty1", "1", 4711);
			CHECK_EQ(ending_of_utmp(data, n), levels[i].verb);
		}
}

TEST(utmp_without_a_run_level_tells_of_none)
{
	char data[800];
	size_t n = put_record(data, 384, 2, "~", "~~", '6');

	n += put_record(data + n, 384, 7, "~", "~~", '6');
	CHECK_EQ(ending_of_utmp(data, n), ENDING_NOT_ASKED);
	n = put_record(data, 384, 1, "tty6", "~~", '6');
	CHECK_EQ(ending_of_utmp(data, n), ENDING_NOT_ASKED);
	put_record(data, 384, 1, "~", "~~", '6');
	CHECK_EQ(ending_of_utmp(data, 44), ENDING_RESTART);
	CHECK_EQ(ending_of_utmp(data, 43), ENDING_NOT_ASKED);
	CHECK_EQ(ending_of_utmp(data, 0), ENDING_NOT_ASKED);
}

TEST(names_of_requests_are_those_of_systemds_targets)
{
	CHECK_EQ(ending_of_name("reboot"), ENDING_RESTART);
	CHECK_EQ(ending_of_name("kexec"), ENDING_RESTART);
	CHECK_EQ(ending_of_name("poweroff"), ENDING_POWER_OFF);
	CHECK_EQ(ending_of_name("halt"), ENDING_HALT);
	CHECK_EQ(ending_of_name("soft-reboot"), ENDING_NOT_ASKED);
	CHECK_EQ(ending_of_name(""), ENDING_NOT_ASKED);
	CHECK_STR(ending_name(ENDING_POWER_OFF), "power off");
}
