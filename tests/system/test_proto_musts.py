# SPDX-License-Identifier: GPL-2.0-or-later
"""
What doc/proto.md of the NBD project, and its extension EXTENDED_HEADERS (branch
extension-ext-header), demand of a server with MUST and MUST NOT: the table says where each is
tested or why it cannot be; what concerns the extension is in test_proto_extended.py. Each test
runs against nbdserve in each of its engines and against the peers that are installed
(conftest.py, deviations.py), and names the section in its docstring.

What concerns a single answer is an assertion in replies.py, which reads every answer of every
test; those rows say "replies.py".
"""
import inspect
import os
import pathlib
import random
import struct
import sys

import deviations
import nbd
import peers
import replies
from nbd import BLOCK_STATUS, READ, WRITE, WRITE_ZEROES, go_data, meta_data
from peers import MIB, SIZE, in_step, only

NO_TLS = "(we have no TLS)"
MUSTS = [  # section, what the server must or must not do, the test or (why there is none)
    ("Conventions", "its strings are UTF-8, without NUL, of at most 4096 bytes",
     "test_strings_of_the_handshake_are_clean"),
    ("Newstyle negotiation", "closes when it does not know a client flag",
     "test_unknown_client_flag_ends_the_connection"),
    ("Newstyle negotiation", "ends the session when it does not grant an EXPORT_NAME",
     "test_unknown_name_in_export_name_ends_the_connection"),
    ("Termination of the session during option haggling", "cuts the connection only where a "
     "refusal cannot be said or the client breaks a rule",
     "test_bad_option_is_answered_and_the_next_one_understood"),
    ("Termination of the session during option haggling", "goes on refusing options, patiently, "
     "until the client understands", "test_unwelcome_client_is_refused_as_often_as_it_asks"),
    ("Transmission", "uses simple replies only where nothing else was agreed on",
     "test_all_replies_are_simple_where_nothing_was_agreed_on"),
    ("Transmission", "gives the request's cookie back as it was",
     "test_cookies_come_back_as_they_were"),
    ("Ordering of messages and writes", "what was answered before a flush is on stable storage "
     "before the flush is answered", "test_export_durable_at_flush_syncs_for_flush_and_fua_only"),
    ("Ordering of messages and writes", "answers a FUA request only when its data is persistent",
     "test_export_durable_at_flush_syncs_for_flush_and_fua_only"),
    ("Simple reply message", "no simple reply to a read after structured replies were agreed on",
     "test_failing_read_after_structured_replies_gives_an_error_chunk"),
    ("Structured reply chunk message", "no structured reply unless agreed on",
     "test_all_replies_are_simple_where_nothing_was_agreed_on"),
    ("Structured reply chunk message", "all that carries a payload is structured once agreed on",
     "test_block_status_follows_the_holes"),
    ("Structured reply chunk message", "the chunk with DONE is the last, and the only one with it",
     "replies.py"),
    ("Structured reply chunk message", "no chunk is marked as the last while it can still fail",
     "test_read_that_fails_half_way_ends_with_an_error_chunk"),
    ("Terminating the transmission phase", "closes after DISC",
     "test_goodbye_waits_for_what_is_in_flight"),
    ("Terminating the transmission phase", "does not disconnect without a cause",
     "test_idle_client_stays_connected"),
    ("TLS support", "supports one of the modes, the same for the whole connection",
     "test_starttls_twice_on_a_plain_server_is_refused_twice_and_then_served"),
    ("NOTLS mode", "answers STARTTLS with POLICY, UNSUP or another error that is allowed",
     "test_bad_option_is_answered_and_the_next_one_understood"),
    ("NOTLS mode", "never says TLS_REQD", "test_plain_server_never_says_that_tls_is_required"),
    ("FORCEDTLS mode", "its rules", NO_TLS),
    ("SELECTIVETLS mode", "its rules", NO_TLS),
    ("TLS versions", "supports TLS 1.2", NO_TLS),
    ("Size constraints", "announces constraints that are not the default ones",
     "test_block_sizes_make_sense"),
    ("Size constraints", "the least block is a power of 2 of at most 65536; the preferred one a "
     "power of 2 and not below it or 512; the largest payload not below that",
     "test_block_sizes_make_sense"),
    ("Size constraints", "refuses what breaks its constraints cleanly",
     "(our least block is 1; test_odd_offsets_and_lengths_are_exact)"),
    ("Size constraints", "keeps to the largest payload in its own chunks", "replies.py"),
    ("Metadata querying", "names of contexts are namespace, colon, leaf",
     "test_contexts_are_listed_by_their_whole_names"),
    ("The base: metadata namespace", "\"base:\" alone lists all and sets nothing",
     "test_base_alone_lists_all_and_sets_nothing"),
    ("The base: metadata namespace", "passes over leaf names that it does not know",
     "test_unknown_leaf_or_namespace_is_passed_over"),
    ("base:allocation", "what is not a hole can be written without ENOSPC",
     "test_allocated_extents_can_be_written_on_a_full_disk"),
    ("base:allocation", "what is said to read as zeroes does",
     "test_block_status_follows_the_holes"),
    ("Handshake flags", "sets FIXED_NEWSTYLE, and no flag that is not defined",
     "test_greeting_sets_the_flags_that_are_defined_and_no_other"),
    ("Handshake flags", "no 124 zeroes when NO_ZEROES was agreed on",
     "test_flags_of_an_old_client_are_served"),
    ("Transmission flags", "announces only what works", "test_what_is_announced_works"),
    ("Transmission flags", "HAS_FLAGS is always set", "test_what_is_announced_works"),
    ("Transmission flags", "a read-only export refuses every change",
     "test_read_only_export_refuses_changes_and_stays_in_step"),
    ("Transmission flags", "DF is announced exactly where it works: with structured replies",
     "test_df_is_announced_with_structured_replies_only"),
    ("Transmission flags", "with CAN_MULTI_CONN a flush or FUA on one connection holds for all",
     "test_many_connections_see_the_same_where_that_is_announced"),
    ("Transmission flags", "FAST_ZERO is announced where it works, never without WRITE_ZEROES",
     "test_what_is_announced_works"),
    ("Transmission flags", "BLOCK_STATUS_PAYLOAD is announced with extended headers only",
     "test_df_is_announced_with_structured_replies_only"),
    ("NBD_OPT_EXPORT_NAME", "ends the session for an unknown export",
     "test_unknown_name_in_export_name_ends_the_connection"),
    ("NBD_OPT_ABORT", "acknowledges", "test_abort_is_acknowledged_even_with_data"),
    ("NBD_OPT_STARTTLS", "keeps nothing of what was negotiated before TLS", NO_TLS),
    ("NBD_OPT_INFO and NBD_OPT_GO", "passes over information requests that it does not know",
     "test_unknown_information_requests_are_passed_over"),
    ("NBD_OPT_INFO and NBD_OPT_GO", "a yes comes after an INFO_EXPORT, of 12 bytes; INFO_NAME has "
     "at least 2, INFO_BLOCK_SIZE 14", "test_information_replies_have_their_sizes"),
    ("NBD_OPT_INFO and NBD_OPT_GO", "a GO right after the same INFO tells the same",
     "test_go_tells_the_same_as_the_info_before_it"),
    ("NBD_OPT_INFO and NBD_OPT_GO", "no zeroes after the acknowledgement, whatever the flags",
     "test_nothing_comes_between_go_and_the_first_reply"),
    ("NBD_OPT_INFO and NBD_OPT_GO", "no BLOCK_SIZE_REQD to who asked for the block size",
     "test_information_replies_have_their_sizes"),
    ("NBD_OPT_INFO and NBD_OPT_GO", "no guess that the client respects what it did not ask for",
     "test_odd_offsets_and_lengths_are_exact"),
    ("NBD_OPT_STRUCTURED_REPLY", "reads are answered in chunks after the yes",
     "test_structured_reads_are_whole_and_right"),
    ("NBD_OPT_LIST_META_CONTEXT", "refuses lengths that do not agree",
     "test_broken_meta_context_query_is_answered_and_the_next_option_understood"),
    ("NBD_OPT_LIST_META_CONTEXT", "passes over unknown namespaces; nothing found is one ACK",
     "test_unknown_leaf_or_namespace_is_passed_over"),
    ("NBD_OPT_LIST_META_CONTEXT", "no query lists all contexts, a query those that match",
     "test_contexts_are_listed_by_their_whole_names"),
    ("NBD_OPT_SET_META_CONTEXT", "no query selects nothing; a new call replaces the old one, "
     "when it fails too", "test_set_meta_context_replaces_what_was_set"),
    ("NBD_OPT_SET_META_CONTEXT", "ids are unique among the selected",
     "test_context_that_is_asked_for_twice_is_selected_once"),
    ("NBD_REP_SERVER", "the name fits in the reply", "test_list_names_every_export"),
    ("NBD_REP_META_CONTEXT", "the name is UTF-8", "test_contexts_are_listed_by_their_whole_names"),
    ("Command flags", "takes FUA on every command", "test_fua_is_accepted_on_every_command"),
    ("Command flags", "knows NO_HOLE where it announces WRITE_ZEROES",
     "test_write_zeroes_of_128_mib_zeroes_all_of_it"),
    ("Command flags", "one extent for REQ_ONE",
     "test_req_one_gives_one_extent_no_longer_than_asked"),
    ("Command flags", "a fast zero that would not be fast fails with ENOTSUP, and quickly",
     "test_fast_zero_is_done_or_refused_and_never_half_done"),
    ("Structured reply flags", "no flag but DONE", "replies.py"),
    ("Structured reply types", "NONE is empty and last; data has content; holes are 12 bytes and "
     "not empty; errors are not 0, and their text fits", "replies.py"),
    ("Structured reply types", "content lies in what was asked for and overlaps nothing",
     "replies.py"),
    ("NBD_REPLY_TYPE_BLOCK_STATUS", "4 bytes and whole descriptors, none empty; all but the last "
     "end before the request does; one chunk for each context", "replies.py"),
    ("NBD_CMD_READ", "no payload with an error in a simple reply",
     "test_bad_request_is_answered_and_the_next_one_understood"),
    ("NBD_CMD_READ", "disconnects when it fails after a simple reply's head",
     "(the head is sent after the read: test_image_cut_short_gives_an_error_and_never_short_data)"),
    ("NBD_CMD_READ", "chunks cover all of it", "replies.py"),
    ("NBD_CMD_READ", "at most one piece with DF, and no hole in it; 64 KiB always work",
     "test_unfragmented_read_of_64_kib_is_in_one_piece"),
    ("NBD_CMD_WRITE", "the data is on the disk before the reply; an error has its number",
     "test_written_data_is_in_the_image_when_it_is_answered"),
    ("NBD_CMD_DISC", "handles what is outstanding, then closes",
     "test_goodbye_waits_for_what_is_in_flight"),
    ("NBD_CMD_FLUSH", "no yes before all answered writes are on stable storage",
     "test_export_durable_at_flush_syncs_for_flush_and_fua_only"),
    ("NBD_CMD_CACHE", "changes nothing but speed, and refuses unknown flags",
     "test_cache_changes_nothing_and_refuses_flags"),
    ("NBD_CMD_WRITE_ZEROES", "what was zeroed reads as zeroes",
     "test_write_zeroes_of_128_mib_zeroes_all_of_it"),
    ("NBD_CMD_WRITE_ZEROES", "NO_HOLE provides the space",
     "test_no_hole_allocates_and_a_hole_frees"),
    ("NBD_CMD_WRITE_ZEROES", "no ENOTSUP without FAST_ZERO",
     "test_fast_zero_is_done_or_refused_and_never_half_done"),
    ("NBD_CMD_BLOCK_STATUS", "at least one descriptor, not empty; REQ_ONE's not longer than the "
     "request", "test_req_one_gives_one_extent_no_longer_than_asked"),
    ("Baseline", "INFO, GO, ABORT, LIST, READ, WRITE, DISC; unknown options are unsupported",
     "test_list_names_every_export"),
    ("Extended headers", "all replies are extended, with the request's cookie and offset",
     "replies.py"),
    ("Extended headers", "GO is supported once they were agreed on",
     "test_extended_headers_carry_every_command"),
    ("Extended headers", "a payload that no command wants is read and refused",
     "test_payload_that_a_command_does_not_take_is_consumed"),
    ("Extended headers", "no way back to structured replies: EXT_HEADER_REQD",
     "test_structured_replies_after_extended_headers_are_not_agreed_on"),
    ("Extended headers", "no EXT_HEADER_REQD about contexts of base:",
     "test_contexts_are_listed_by_their_whole_names"),
    ("NBD_REPLY_TYPE_BLOCK_STATUS_EXT", "always and only with extended headers; the count is "
     "right; 8 bytes and whole descriptors", "replies.py"),
    ("NBD_REPLY_TYPE_BLOCK_STATUS_EXT", "the upper half of a 32-bit status is 0",
     "test_extended_block_status_covers_more_than_32_bits"),
    ("NBD_CMD_BLOCK_STATUS", "a payload of ids that are unknown or double is read and refused",
     "test_block_status_payload_selects_or_is_refused"),
]


def structured(target, export, meta=True):
    """A client of that export with structured replies and, mostly, base:allocation."""
    client = target.raw(export).structured()
    if meta:
        client.meta(export, "base:allocation")
        assert list(client.contexts) == ["base:allocation"]
    return client.go(export)


# ---- the handshake ---------------------------------------------------------------------------

def test_greeting_sets_the_flags_that_are_defined_and_no_other(raw):
    """Handshake flags"""
    assert raw.server_flags & 1
    assert raw.server_flags & ~3 == 0


def test_strings_of_the_handshake_are_clean(raw):
    """Conventions"""
    for option, data in [(nbd.OPT_LIST, b""), (0x12345, b""), (nbd.OPT_STARTTLS, b""),
                         (nbd.OPT_INFO, go_data(b"\xff\xfe" * 2000)),
                         (nbd.OPT_INFO, go_data("n\x1b[2J" * 500)),
                         (nbd.OPT_INFO, go_data("ro", [1, 2]))]:
        raw.option(option, data)
        for kind, text in raw.replies:
            if kind == nbd.REP_SERVER:
                text = text[4:]
            elif kind == nbd.REP_INFO:
                text = text[2:] if text[:2] in (b"\0\1", b"\0\2") else b""
            assert b"\0" not in text and len(text) <= 4096
            text.decode()


def test_unwelcome_client_is_refused_as_often_as_it_asks(raw):
    """Termination of the session during option haggling"""
    for n in range(100):
        assert raw.option(0x10000 + n) == nbd.ERR_UNSUP
    assert in_step(raw.go("ro"))


@only("ours", "peer:nbd-server", "peer:qemu-nbd")
def test_list_names_every_export(target, raw):
    """NBD_REP_SERVER, Baseline"""
    assert raw.option(nbd.OPT_LIST) == nbd.REP_ACK
    names = set()
    for kind, data in raw.replies[:-1]:
        assert kind == nbd.REP_SERVER
        size = struct.unpack(">I", data[:4])[0]
        assert size <= len(data) - 4
        names.add(data[4:4 + size].decode())
    assert names == ({"ro"} if target.name == "qemu-nbd" else set(peers.EXPORTS))


def test_unknown_information_requests_are_passed_over(raw):
    """NBD_OPT_INFO and NBD_OPT_GO"""
    assert raw.option(nbd.OPT_INFO, go_data("ro", [0x1234, 0xFFFF, 3, 0x8000])) == nbd.REP_ACK
    assert set(raw.infos()) <= {0, 1, 2, 3}
    assert in_step(raw.go("ro", infos=[0x1234]))


def test_information_replies_have_their_sizes(raw):
    """NBD_OPT_INFO and NBD_OPT_GO, NBD_REP_INFO"""
    for infos in [], [3], [1, 2], [0, 1, 2, 3]:
        assert raw.option(nbd.OPT_INFO, go_data("ro", infos)) == nbd.REP_ACK
        kinds = [kind for kind, _ in raw.replies]
        assert kinds[-1] == nbd.REP_ACK and set(kinds[:-1]) == {nbd.REP_INFO}
        assert raw.replies[-1][1] == b""
        for _, data in raw.replies[:-1]:
            kind = struct.unpack(">H", data[:2])[0]
            assert len(data) == {0: 12, 3: 14}.get(kind, len(data))
        assert nbd.INFO_EXPORT in raw.infos()
        assert raw.infos().get(nbd.INFO_NAME, b"ro") == b"ro"
    assert in_step(raw.go("ro", infos=[3]))


def test_block_sizes_make_sense(target, raw):
    """Size constraints"""
    raw.option(nbd.OPT_INFO, go_data("ro", [nbd.INFO_BLOCK_SIZE]))
    if target.is_peer and nbd.INFO_BLOCK_SIZE not in raw.infos():
        return  # has the default ones
    least, preferred, largest = struct.unpack(">III", raw.infos()[nbd.INFO_BLOCK_SIZE])
    assert least.bit_count() == preferred.bit_count() == 1
    assert least <= 65536
    assert max(least, 512) <= preferred <= largest
    assert largest >= MIB


def test_go_tells_the_same_as_the_info_before_it(raw):
    """NBD_OPT_INFO and NBD_OPT_GO"""
    raw.option(nbd.OPT_STRUCTURED_REPLY)
    for infos in [], [3, 1]:
        raw.option(nbd.OPT_INFO, go_data("ro", infos))
        told = raw.infos()
    raw.go("ro", infos=[3, 1])
    assert raw.infos() == told


def test_nothing_comes_between_go_and_the_first_reply(target):
    """NBD_OPT_INFO and NBD_OPT_GO"""
    with target.raw(flags=nbd.C_FIXED) as client:  # without NO_ZEROES
        client.go("ro")
        assert client.is_silent(0.1)
        assert in_step(client)


def test_df_is_announced_with_structured_replies_only(target):
    """Transmission flags"""
    with target.client("ro") as client:
        assert not client.flags & (nbd.FLAG_DF | nbd.FLAG_STATUS_PAYLOAD)
    with structured(target, "ro", meta=False) as client:
        assert client.flags & nbd.FLAG_DF
        assert not client.flags & nbd.FLAG_STATUS_PAYLOAD


def test_contexts_are_listed_by_their_whole_names(raw):
    """Metadata querying, NBD_OPT_LIST_META_CONTEXT"""
    raw.structured()
    every = raw.meta("ro", option=nbd.OPT_LIST_META)
    assert "base:allocation" in every
    for name in every:
        namespace, colon, leaf = name.partition(":")
        assert namespace.isprintable() and colon and len(name) <= 4096
        assert namespace == "base" or leaf is not None
    assert list(raw.meta("ro", "base:allocation", option=nbd.OPT_LIST_META)) == ["base:allocation"]


def test_base_alone_lists_all_and_sets_nothing(raw):
    """The base: metadata namespace"""
    raw.structured()
    assert list(raw.meta("ro", "base:", option=nbd.OPT_LIST_META)) == ["base:allocation"]
    assert raw.meta("ro", "base:") == {}
    raw.go("ro")
    assert raw.call(BLOCK_STATUS, 0, 4096) == nbd.EINVAL


def test_unknown_leaf_or_namespace_is_passed_over(raw):
    """The base: metadata namespace, NBD_OPT_LIST_META_CONTEXT"""
    raw.structured()
    for option in nbd.OPT_LIST_META, nbd.OPT_SET_META:
        for query in "base:no-such-leaf", "x-unknown:leaf", "x-unknown:", "base:allocation2":
            assert raw.meta("ro", query, option=option) == {}
            assert [kind for kind, _ in raw.replies] == [nbd.REP_ACK]
        assert list(raw.meta("ro", "x-a:b", "base:allocation", "base:c", option=option)) == [
            "base:allocation"]
    raw.go("ro")
    assert raw.status(0, 4096)


def test_set_meta_context_replaces_what_was_set(target):
    """NBD_OPT_SET_META_CONTEXT"""
    for again in [meta_data("ro"), meta_data("ro", "x-unknown:y"), struct.pack(">I", 1000)]:
        with target.raw().structured() as client:
            client.meta("ro", "base:allocation")
            answer = client.option(nbd.OPT_SET_META, again)
            assert answer in {nbd.REP_ACK, nbd.ERR_INVALID}
            assert nbd.REP_META_CONTEXT not in [kind for kind, _ in client.replies]
            client.go("ro")
            assert client.call(BLOCK_STATUS, 0, 4096) == nbd.EINVAL
            assert in_step(client)


def test_context_that_is_asked_for_twice_is_selected_once(raw):
    """NBD_OPT_SET_META_CONTEXT"""
    raw.structured()
    raw.meta("ro", "base:allocation", "base:allocation")
    assert [kind for kind, _ in raw.replies] == [nbd.REP_META_CONTEXT, nbd.REP_ACK]
    raw.go("ro")
    assert raw.status(0, 4096)


# ---- transmission ----------------------------------------------------------------------------

def test_what_is_announced_works(target):
    """Transmission flags"""
    with target.client("rw") as client:
        flags = client.flags
        assert flags & nbd.FLAG_HAS_FLAGS and not flags & ~0x1FFF
        assert flags & nbd.FLAG_ZEROES or not flags & nbd.FLAG_FAST_ZERO
        for flag, kind, length, extra in [
                (nbd.FLAG_FLUSH, nbd.FLUSH, 0, 0), (nbd.FLAG_FUA, WRITE, 512, nbd.FUA),
                (nbd.FLAG_TRIM, nbd.TRIM, 65536, 0), (nbd.FLAG_ZEROES, WRITE_ZEROES, 65536, 0),
                (nbd.FLAG_ZEROES, WRITE_ZEROES, 65536, nbd.NO_HOLE),
                (nbd.FLAG_CACHE, nbd.CACHE, 65536, 0)]:
            if flags & flag:
                data = b"x" * length if kind == WRITE else b""
                assert client.call(kind, 0, length, data, extra) == 0
            elif kind not in (WRITE, nbd.CACHE):
                assert client.call(kind, 0, length) != 0
        fast = client.call(WRITE_ZEROES, 0, 65536, flags=nbd.FAST_ZERO)
        assert fast in ({0, nbd.ENOTSUP} if flags & nbd.FLAG_FAST_ZERO else {nbd.EINVAL})


def test_all_replies_are_simple_where_nothing_was_agreed_on(target):
    """Simple reply message"""
    with target.client("rw") as client:
        for kind in READ, WRITE, nbd.FLUSH, nbd.TRIM, nbd.CACHE, WRITE_ZEROES, BLOCK_STATUS, 77:
            for offset in 0, SIZE + 4096:
                client.call(kind, offset, 512, b"x" * 512 if kind == WRITE else b"")
                assert not client.last.chunks
        assert in_step(client)


def test_cookies_come_back_as_they_were(target):
    """Transmission"""
    cookies = [0, 1, (1 << 64) - 1, 1 << 63, 0x6744669867446698, 0x0A0D0000FFFE2561]
    for client in target.client("ro"), structured_or_simple(target):
        with client:
            for cookie in cookies:
                client.request(READ, 512, 512, cookie=cookie)
                client.request(READ, SIZE, 512, cookie=cookie ^ 0x5555)
            wanted = [c ^ x for c in cookies for x in (0, 0x5555)]
            assert sorted(client.answer().cookie for _ in wanted) == sorted(wanted)


def structured_or_simple(target):
    client = target.raw()
    if client.option(nbd.OPT_STRUCTURED_REPLY) == nbd.REP_ACK:
        client.mode = "structured"
    return client.go("ro")


def test_structured_reads_are_whole_and_right(target):
    """NBD_CMD_READ"""
    image = (target.folder / "ro.img").read_bytes()
    rng = random.Random(4)
    with structured(target, "ro") as client:
        wanted = {}
        for _ in range(60):
            offset, length = rng.randrange(6 * MIB), rng.randrange(1, 300000)
            wanted[client.request(READ, offset, length)] = offset
        while wanted:
            answer = client.answer()
            offset = wanted.pop(answer.cookie)
            assert answer.error == 0
            assert answer.data == image[offset:offset + len(answer.data)]
        client.sock.settimeout(10)
        assert client.call(READ, 0, 32 * MIB) == 0
        assert client.data == image[:32 * MIB]


def test_read_that_fails_half_way_ends_with_an_error_chunk(target):
    """Structured reply chunk message, NBD_CMD_READ"""
    image = target.folder / "cut.img"
    content = image.read_bytes()[:65536]
    with structured(target, "cut") as client:
        os.truncate(image, 40000)
        try:
            assert client.call(READ, 0, 65536) == nbd.EIO
            assert in_step(client)
        finally:
            with open(image, "r+b") as f:  # for the next one
                f.write(content)
                f.truncate(SIZE)


@only("ours", "peer:nbdkit", "peer:qemu-nbd")
def test_errors_come_in_chunks_once_those_are_agreed_on(target):
    """Structured reply chunk message: SHOULD"""
    with structured(target, "rw", meta=False) as client:
        for kind, offset, flags in [(READ, SIZE, 0), (WRITE, SIZE, 0), (nbd.TRIM, SIZE, 0),
                                    (WRITE_ZEROES, SIZE, 0), (99, 0, 0), (BLOCK_STATUS, 0, 0),
                                    (WRITE, 0, nbd.DF)]:
            data = b"x" * 512 if kind == WRITE else b""
            assert client.call(kind, offset, 512, data, flags) != 0
            assert client.last.chunks[-1].kind == replies.ERROR
        assert in_step(client)


def test_written_data_is_in_the_image_when_it_is_answered(target):
    """NBD_CMD_WRITE"""
    data = random.Random(5).randbytes(100000)
    with target.client("rw") as client:
        client.write(12345, data)
        with open(target.folder / "rw.img", "rb") as f:
            f.seek(12345)
            assert f.read(len(data)) == data
        client.call(WRITE_ZEROES, 0, MIB)


def test_requests_of_length_0_do_not_end_the_connection(target):
    """NBD_CMD_READ and others: SHOULD NOT disconnect"""
    with target.client("rw") as client:
        for kind in READ, WRITE, nbd.TRIM, WRITE_ZEROES, nbd.CACHE:
            client.call(kind, 4096, 0)
        assert in_step(client)


def test_goodbye_waits_for_what_is_in_flight(target):
    """NBD_CMD_DISC"""
    with target.client("ro") as client:
        for _ in range(64):
            client.request(READ, 0, 65536)
        client.request(nbd.DISC)
        assert {client.reply(65536)[0] for _ in range(64)} == {0}
        assert client.is_closed(2)


def test_goodbye_waits_for_writes_in_flight(target):
    """NBD_CMD_DISC"""
    with target.client("rw") as client:
        for n in range(32):
            client.request(WRITE, n * 65536, data=bytes([n + 1]) * 65536)
        client.request(nbd.DISC)
        assert {client.reply()[0] for _ in range(32)} == {0}
        assert client.is_closed(2)
    with target.client("rw") as client:
        assert {client.read(n * 65536, 1)[0] for n in range(32)} == set(range(1, 33))
        client.call(WRITE_ZEROES, 0, 2 * MIB)


def test_idle_client_stays_connected(target):
    """Terminating the transmission phase"""
    with target.client("ro") as client:
        assert in_step(client)
        assert client.is_silent(2.5)
        assert in_step(client)


def test_many_connections_see_the_same_where_that_is_announced(target):
    """Transmission flags: CAN_MULTI_CONN"""
    for name in "ro", "rw":
        with target.client(name) as one:
            if not one.flags & nbd.FLAG_MULTI_CONN:
                assert target.is_peer or name == "rw"
                continue
            with target.client(name) as two:
                for n in range(20 if name == "rw" else 0):
                    one.write(n * 4096, bytes([n + 1]) * 4096, nbd.FUA * (n % 2))
                    one.flush()
                    assert two.read(n * 4096, 4096) == bytes([n + 1]) * 4096
                assert one.read(0, 65536) == two.read(0, 65536)
                if name == "rw":
                    one.call(WRITE_ZEROES, 0, MIB)


def test_cache_changes_nothing_and_refuses_flags(target):
    """NBD_CMD_CACHE"""
    with target.client("ro") as client:
        before = client.read(0, 65536)
        assert client.call(nbd.CACHE, 0, 8 * MIB) in {0, nbd.EINVAL}
        for flag in nbd.NO_HOLE, nbd.DF, nbd.REQ_ONE, nbd.FAST_ZERO, 1 << 14:
            assert client.call(nbd.CACHE, 0, 4096, flags=flag) == nbd.EINVAL
        assert client.read(0, 65536) == before


def test_fast_zero_is_done_or_refused_and_never_half_done(target):
    """NBD_CMD_WRITE_ZEROES"""
    with target.client("rw") as client:
        for flags in 0, nbd.NO_HOLE, nbd.FUA:
            client.write(MIB - 10, b"x" * (2 * MIB))
            if client.flags & nbd.FLAG_FAST_ZERO:
                error = client.call(WRITE_ZEROES, MIB, MIB, flags=flags | nbd.FAST_ZERO)
                assert error in {0, nbd.ENOTSUP}
                assert client.read(MIB, MIB) == (b"x" * MIB if error else bytes(MIB))
            assert client.call(WRITE_ZEROES, MIB + 7, MIB - 9, flags=flags) == 0
            assert client.read(MIB + 7, MIB - 9) == bytes(MIB - 9)
            assert client.read(MIB - 10, 10) + client.read(2 * MIB, 10) == b"x" * 20
        client.call(WRITE_ZEROES, 0, 8 * MIB)


# ---- block status ----------------------------------------------------------------------------

def test_block_status_follows_the_holes(target):
    """NBD_CMD_BLOCK_STATUS, base:allocation"""
    with structured(target, "ro") as client:
        offset, extents = 0, []
        while offset < SIZE:  # a server may tell less than it was asked for
            for length, status in client.status(offset, SIZE - offset):
                assert status & ~3 == 0
                extents.append((offset, length, status))
                offset += length
        assert offset == SIZE
        for start, length, status in extents:
            if status & nbd.STATE_ZERO:
                for at in {start, start + length - 512}:
                    assert client.read(at, 512) == bytes(512)
                assert start >= 4 * MIB
        assert sum(length for _, length, status in extents
                   if status == nbd.STATE_HOLE | nbd.STATE_ZERO) == SIZE - 4 * MIB


def test_block_status_of_odd_ranges_makes_progress(target):
    """NBD_CMD_BLOCK_STATUS"""
    with structured(target, "ro") as client:
        for offset, length in [(1, 1), (4 * MIB - 1, 2), (SIZE - 1, 1), (511, 8 * MIB),
                               (4 * MIB + 1, 512)]:
            extents = client.status(offset, length)
            assert offset + sum(length for length, _ in extents) <= SIZE
        for offset, length in [(SIZE, 1), (SIZE - 1, 2), ((1 << 64) - 512, 1024)]:
            assert client.call(BLOCK_STATUS, offset, length) == nbd.EINVAL
        assert in_step(client)


def test_req_one_gives_one_extent_no_longer_than_asked(target):
    """NBD_CMD_BLOCK_STATUS"""
    with structured(target, "ro") as client:
        for offset, length in [(0, 4096), (0, SIZE), (4 * MIB - 4096, 8192), (5 * MIB, 1)]:
            (got, _), = client.status(offset, length, nbd.REQ_ONE)
            assert 0 < got <= length


def test_block_status_sees_what_is_written_trimmed_and_zeroed(target):
    """NBD_CMD_BLOCK_STATUS, base:allocation"""
    def state(at):
        return client.status(at, 65536, nbd.REQ_ONE)[0][1]
    with structured(target, "rw") as client:
        assert client.call(WRITE_ZEROES, 0, SIZE) == 0
        client.write(8 * MIB, b"x" * MIB)
        assert state(8 * MIB) == 0
        assert state(9 * MIB + 65536) & nbd.STATE_ZERO
        assert client.call(WRITE_ZEROES, 8 * MIB, MIB, flags=nbd.NO_HOLE) == 0
        assert state(8 * MIB) in {0, nbd.STATE_ZERO, nbd.STATE_HOLE | nbd.STATE_ZERO}
        assert client.call(nbd.TRIM, 8 * MIB, MIB) == 0
        client.flush()
        assert state(8 * MIB) in {0, nbd.STATE_ZERO, nbd.STATE_HOLE | nbd.STATE_ZERO}


FULL_DISK = ("unshare", "--map-root-user", "--mount", "sh", "-c",
             'mount -t tmpfs -o size=2M tmpfs "$0" && cd "$0" && '
             'for n in rw ro cut guarded; do truncate -s 8M $n.img; done && exec "$@"')


def test_allocated_extents_can_be_written_on_a_full_disk(target, tmp_path):
    """base:allocation"""
    options = {} if target.is_peer else {"rw_options": ",on-full=error"}
    disk = tmp_path / "disk"
    disk.mkdir()
    small = peers.start(target.name, tmp_path, images=disk, prefix=(*FULL_DISK, disk), **options)
    try:
        with structured(small, "rw") as client:
            errors = [client.call(WRITE, n * 65536, data=b"x" * 65536) for n in range(64)]
            assert nbd.ENOSPC in errors and not set(errors) - {0, nbd.ENOSPC}
            for n, error in enumerate(errors):
                (length, state), = client.status(n * 65536, 65536, nbd.REQ_ONE)
                if error == 0:
                    assert not state & nbd.STATE_HOLE
                if not state & nbd.STATE_HOLE and length == 65536:
                    assert client.call(WRITE, n * 65536, data=b"y" * 65536) == 0
            assert in_step(client)
    finally:
        if small.is_peer:
            small.close()
        else:
            small.server.stop()


# ---- the table -------------------------------------------------------------------------------

def test_every_row_of_the_table_has_a_test_or_a_reason():
    here = pathlib.Path(__file__).parent
    files = [path.read_text() for path in here.glob("test_*.py")]
    for section, must, where in MUSTS:
        assert section and must
        if where.startswith("test_"):
            assert any(f"def {where}(" in text for text in files), where
        else:
            assert where == "replies.py" or where.startswith("("), where


def test_every_test_names_its_section():
    for name, function in inspect.getmembers(sys.modules[__name__], inspect.isfunction):
        if name.startswith("test_every_") or not name.startswith("test_"):
            continue
        assert function.__doc__, name


def test_every_known_deviation_is_of_a_case_that_exists():
    assert not deviations.check(sys.modules[__name__])
