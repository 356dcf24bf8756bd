# SPDX-License-Identifier: GPL-2.0-or-later
"""
What goes wrong when the tests of the wire (test_wire.py, test_proto_musts.py) run against peers.
Measured with the versions of Debian 12; with those a test that is named here has to fail, which
is how we know that it can. What is not named here has to pass.
"""
import peers
import pytest

MEASURED = {"nbd-server": "3.24", "nbdkit": "1.32.5", "qemu-nbd": "7.2.22"}
N, K, Q = MEASURED

OPTION = "test_bad_option_is_answered_and_the_next_one_understood"
REQUEST = "test_bad_request_is_answered_and_the_next_one_understood"
NAME = "test_unknown_name_in_export_name_ends_the_connection"
META_QUERY = "test_broken_meta_context_query_is_answered_and_the_next_option_understood"

# The peer, what it does instead, the test, the cases (none: all of them).
DEVIATIONS = [
    (N, "is dead after 1,020 connections",
     "test_crowd_of_silent_connections_does_not_keep_a_client_out"),
    (N, "waits for ever", "test_client_that_never_chooses_is_dropped"),
    (K, "waits for ever", "test_client_that_never_chooses_is_dropped"),
    (N, "carries on", "test_unknown_client_flag_ends_the_connection"),
    (K, "says that the option is invalid",
     "test_go_of_a_client_that_did_not_say_fixed_newstyle_is_honoured"),
    (Q, "closes", "test_go_of_a_client_that_did_not_say_fixed_newstyle_is_honoured"),
    (N, "waits for 4 GiB", "test_option_of_4_gib_ends_the_connection_at_once"),
    (N, "refuses and lists, and is out of step", OPTION, "LIST with data",
     "LIST with 1 MiB of data"),
    (N, "closes without an acknowledgement", "test_abort_is_acknowledged_even_with_data"),
    (N, "refuses, goes on with the option all the same, and hangs", OPTION, "GO of length 0",
     "GO of length 5", "GO with a name longer than the option",
     "GO with a name of 0xffffffff bytes", "GO with a name of 4097 bytes", "GO with 1 MiB",
     "INFO with a byte too few"),
    (N, "takes what does not add up", OPTION, "more information requests than data",
     "65535 information requests", "bytes after the information requests"),
    (N, "ends names at a NUL", OPTION, "name with a NUL"),
    (N, "ends names at a NUL", NAME, "ro NUL"),
    (Q, "ends names at a NUL", NAME, "ro NUL"),
    (K, "has one export under every name", OPTION, "GO with a name of 4096 bytes",
     "unknown export", "INFO about an unknown export", "name that is not UTF-8", "name with ../",
     "name that is a path", "name that begins like another", "name that goes on after another",
     "empty name where there is no default"),
    (K, "has one export under every name", NAME, "nothing", "4096", "../ro", "r"),
    (N, "has no structured replies", OPTION, "structured replies with data",
     "SET_META before structured replies"),
    (N, "has no structured replies", META_QUERY),
    (N, "has no structured replies", "test_asking_for_structured_replies_twice_is_harmless"),
    (N, "has no structured replies",
     "test_list_meta_context_answers_what_it_knows_and_ignores_the_rest"),
    (N, "has no structured replies",
     "test_contexts_of_another_export_are_not_those_of_the_one_that_is_opened"),
    (N, "has no structured replies", "test_unfragmented_read_of_64_kib_is_in_one_piece"),
    (N, "has no structured replies",
     "test_failing_read_after_structured_replies_gives_an_error_chunk"),
    (Q, "leaves the bytes in the stream and is out of step", META_QUERY,
     "bytes after the queries"),
    (N, "says that the option is unknown", "test_export_that_policy_refuses_is_refused_in_step"),
    (Q, "answers before it closes",
     "test_wrong_request_magic_ends_the_connection_without_a_reply"),
    (N, "does not look at the flag", REQUEST, "no-hole on read", "no-hole on trim"),
    (Q, "says EINVAL", "test_write_past_the_end_is_refused_with_its_payload_consumed"),
    (N, "allocates all of it", "test_huge_write_ends_the_connection_without_an_allocation"),
    (Q, "says EINVAL", "test_read_only_export_refuses_changes_and_stays_in_step"),
    (N, "zeroes the first 64 MiB twice", "test_write_zeroes_of_128_mib_zeroes_all_of_it"),
    (K, "is dead: assertion", "test_fast_zero_is_invalid_where_it_is_not_announced", "rw"),
    (K, "is dead: assertion (at times)", "test_reset_with_reads_in_flight_hurts_nobody_else"),
    (N, "says EINVAL", "test_image_cut_short_gives_an_error_and_never_short_data"),
    (Q, "answers with zeroes", "test_image_cut_short_gives_an_error_and_never_short_data"),
    (N, "drops them", "test_server_that_stops_finishes_the_replies_that_it_began"),
    (K, "does not stop while a client is there",
     "test_server_that_stops_finishes_the_replies_that_it_began"),
    (Q, "drops them", "test_server_that_stops_finishes_the_replies_that_it_began"),
    *((N, "has no structured replies", test) for test in (
        "test_df_is_announced_with_structured_replies_only",
        "test_contexts_are_listed_by_their_whole_names",
        "test_base_alone_lists_all_and_sets_nothing",
        "test_unknown_leaf_or_namespace_is_passed_over",
        "test_set_meta_context_replaces_what_was_set",
        "test_context_that_is_asked_for_twice_is_selected_once",
        "test_structured_reads_are_whole_and_right",
        "test_read_that_fails_half_way_ends_with_an_error_chunk",
        "test_block_status_follows_the_holes",
        "test_block_status_of_odd_ranges_makes_progress",
        "test_req_one_gives_one_extent_no_longer_than_asked",
        "test_block_status_sees_what_is_written_trimmed_and_zeroed",
        "test_allocated_extents_can_be_written_on_a_full_disk")),
    (N, "has other flags for GO than for INFO",
     "test_go_tells_the_same_as_the_info_before_it"),
    (K, "closes after 32 options", "test_unwelcome_client_is_refused_as_often_as_it_asks"),
    (K, "keeps what was set when the new call is invalid",
     "test_set_meta_context_replaces_what_was_set"),
    (K, "gives two contexts of one id", "test_context_that_is_asked_for_twice_is_selected_once"),
    (K, "is dead: assertion", "test_what_is_announced_works"),
    (Q, "quotes the name, which is not UTF-8", "test_strings_of_the_handshake_are_clean"),
    (K, "says some errors in simple replies",
     "test_errors_come_in_chunks_once_those_are_agreed_on"),
    (Q, "answers with zeroes", "test_read_that_fails_half_way_ends_with_an_error_chunk"),
    (Q, "drops them (at times)", "test_goodbye_waits_for_what_is_in_flight"),
    (Q, "drops them (at times)", "test_goodbye_waits_for_writes_in_flight"),
    (K, "answers with ESHUTDOWN (at times)", "test_goodbye_waits_for_what_is_in_flight"),
    (K, "answers with ESHUTDOWN (at times)", "test_goodbye_waits_for_writes_in_flight"),
    (N, "waits for ever", "test_client_that_reads_no_replies_is_dropped"),
    (K, "waits for ever", "test_client_that_reads_no_replies_is_dropped"),
    (Q, "waits for ever", "test_client_that_reads_no_replies_is_dropped"),
]


def expect(request, target):
    """Marks the test that is about to run as one that fails on this peer, if it is known to."""
    case = request.node.callspec.params.get("case")
    for peer, why, test, *cases in DEVIATIONS:
        if (peer, test) == (target.name, request.function.__name__) and (
                not cases or case in cases):
            is_strict = peers.version(peer) == MEASURED[peer] and "(at times)" not in why
            request.applymarker(pytest.mark.xfail(reason=why, strict=is_strict))


def check(module):
    """The names of those in the table that are of no test, or no case, in this module's tests."""
    unknown = []
    for _, _, test, *cases in DEVIATIONS:
        function = getattr(module, test, None)
        known = {case for mark in getattr(function, "pytestmark", ())
                 if mark.args[:1] == ("case",) for case in mark.args[1]}
        if function:
            unknown += sorted(set(cases) - known)
    return unknown
