# SPDX-License-Identifier: GPL-2.0-or-later
"""
Inputs that an NBD server has to survive, one test for each of our catalogue's (the number is in
the docstring). Each runs against nbdserve in each of its engines and against the peers that are
installed; what is known to go wrong there (deviations.py) has to go wrong: that is how we know
that these tests can fail. `-k peer` runs the peers only, `-k "not peer"` ours only.

Not here: 67's and 68's failing disks and 70's frozen writes, which need a disk that does as it is
told (test_fence.py), and 65 for ours, which test_hostile.py measures more closely.
"""
import inspect
import os
import pathlib
import re
import socket
import struct
import sys
import time

import deviations
import nbd
import peers
import pytest
from nbd import go_data, meta_data, until
from peers import MIB, SIZE, in_step, only

TOP = 1 << 64
IS_LONG = bool(os.environ.get("NBDROOT_LONG"))

SLOW_PEERS = ["peer:nbd-server", "peer:nbdkit", "peer:qemu-nbd"]

# The catalogue's numbers; those that are tested elsewhere with the file and the test.
NUMBERS = [*range(1, 17), *range(18, 22), *range(23, 28), *range(29, 36), 37, 38,
           *range(39, 42), *range(43, 48), *range(49, 53), *range(54, 60), 64, 65, *range(67, 71)]
ELSEWHERE = {
    65: ("test_hostile.py", "test_client_that_reads_no_replies_costs_little_and_is_dropped"),
    68: ("test_fence.py", "test_failed_sync_fails_every_later_flush_until_a_restart"),
    70: ("test_fence.py", "test_ghost_write_never_lands_on_newer_data"),
}


@pytest.fixture
def ro(target):
    with target.client("ro") as client:
        yield client


@pytest.fixture
def rw(target):
    with target.client("rw") as client:
        yield client


def is_served(target):
    with target.client("ro") as client:
        return in_step(client)


# ---- the handshake ---------------------------------------------------------------------------

def test_connecting_and_closing_is_not_worth_a_line(target):
    """1"""
    lines = 0 if target.is_peer else target.text().count("\n")
    for _ in range(50):
        target.raw(flags=None).close()
    assert is_served(target)
    assert target.is_peer or target.text().count("\n") - lines < 10  # other tests' last words


def test_unknown_client_flag_ends_the_connection(target):
    """4"""
    for flags in 4, 7, 1 << 31:
        with target.raw(flags=flags) as client:
            assert client.is_closed(2)


def test_flags_of_an_old_client_are_served(target):
    """5"""
    for flags in 0, nbd.C_FIXED, nbd.C_NO_ZEROES:
        with target.raw(flags=flags) as client:
            client.send_option(nbd.OPT_EXPORT_NAME, b"ro")
            size, _ = struct.unpack(">QH", client.recv(10))
            assert size == SIZE
            if not flags & nbd.C_NO_ZEROES:
                assert client.recv(124) == bytes(124)
            assert in_step(client)


def test_go_of_a_client_that_did_not_say_fixed_newstyle_is_honoured(target):
    """5"""
    for flags in 0, nbd.C_NO_ZEROES:
        with target.raw(flags=flags) as client:
            assert in_step(client.go("ro"))


def test_wrong_option_magic_ends_the_connection(raw):
    """6"""
    raw.send(struct.pack(">QII", nbd.IHAVEOPT ^ 1, nbd.OPT_LIST, 0))
    assert raw.is_closed(2)


INVALID = {nbd.ERR_INVALID}
NAMELESS = {nbd.ERR_UNKNOWN, nbd.ERR_INVALID}
OPTIONS = {  # the number, the option, its data, the answers that are right
    "unknown option": (7, 0x12345, b"", {nbd.ERR_UNSUP}),
    "option number 0": (7, 0, b"", {nbd.ERR_UNSUP}),
    "peek": (7, nbd.OPT_PEEK, b"", {nbd.ERR_UNSUP}),
    "unknown option with 1 MiB of data": (8, 0x12345, bytes(MIB), {nbd.ERR_UNSUP}),
    "LIST with data": (10, nbd.OPT_LIST, b"x", INVALID),
    "LIST with 1 MiB of data": (10, nbd.OPT_LIST, bytes(MIB), INVALID | {nbd.ERR_TOO_BIG}),
    "GO of length 0": (12, nbd.OPT_GO, b"", INVALID),
    "GO of length 5": (13, nbd.OPT_GO, bytes(5), INVALID),
    "GO with a name longer than the option": (14, nbd.OPT_GO, b"\0\0\0\3ro\0\0", INVALID),
    "GO with a name of 0xffffffff bytes": (15, nbd.OPT_GO, b"\xff\xff\xff\xffro\0\0", INVALID),
    "GO with a name of 4096 bytes": (16, nbd.OPT_GO, go_data(b"n" * 4096),
                                     NAMELESS | {nbd.ERR_TOO_BIG}),
    "GO with a name of 4097 bytes": (16, nbd.OPT_GO, go_data(b"n" * 4097),
                                     INVALID | {nbd.ERR_TOO_BIG}),
    "GO with 1 MiB": (16, nbd.OPT_GO, go_data(b"n" * MIB), INVALID | {nbd.ERR_TOO_BIG}),
    "name that is not UTF-8": (18, nbd.OPT_GO, go_data(b"\xff\xfe"), NAMELESS),
    "name with a NUL": (18, nbd.OPT_GO, go_data(b"ro\0"), NAMELESS),
    "more information requests than data": (19, nbd.OPT_GO, b"\0\0\0\2ro\0\2\0\3", INVALID),
    "65535 information requests": (19, nbd.OPT_GO, b"\0\0\0\2ro\xff\xff\0\3", INVALID),
    "bytes after the information requests": (19, nbd.OPT_GO, go_data("ro") + b"x", INVALID),
    "INFO with a byte too few": (19, nbd.OPT_INFO, go_data("ro")[:-1], INVALID),
    "unknown export": (20, nbd.OPT_GO, go_data("nothing"), {nbd.ERR_UNKNOWN}),
    "INFO about an unknown export": (20, nbd.OPT_INFO, go_data("nothing"), {nbd.ERR_UNKNOWN}),
    "name with ../": (23, nbd.OPT_GO, go_data("../ro"), {nbd.ERR_UNKNOWN}),
    "name that is a path": (23, nbd.OPT_GO, go_data("/etc/passwd"), {nbd.ERR_UNKNOWN}),
    "name that begins like another": (23, nbd.OPT_GO, go_data("r"), {nbd.ERR_UNKNOWN}),
    "name that goes on after another": (23, nbd.OPT_GO, go_data("ro2"), {nbd.ERR_UNKNOWN}),
    "empty name where there is no default": (23, nbd.OPT_GO, go_data(""), {nbd.ERR_UNKNOWN}),
    "STARTTLS": (25, nbd.OPT_STARTTLS, b"", {nbd.ERR_UNSUP, nbd.ERR_POLICY}),
    "STARTTLS with data": (25, nbd.OPT_STARTTLS, b"x",
                           {nbd.ERR_UNSUP, nbd.ERR_POLICY, nbd.ERR_INVALID}),
    "structured replies with data": (30, nbd.OPT_STRUCTURED_REPLY, b"x", INVALID),
    "SET_META before structured replies": (31, nbd.OPT_SET_META,
                                           meta_data("ro", "base:allocation"), INVALID),
    "extended headers with data": (35, nbd.OPT_EXTENDED, b"x", INVALID | {nbd.ERR_UNSUP}),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_bad_option_is_answered_and_the_next_one_understood(raw, case):
    """7 8 10 12 13 14 15 16 18 19 20 23 25 30 31 35"""
    _, option, data, expected = OPTIONS[case]
    for _ in range(2):
        assert raw.option(option, data) in expected
        assert not {nbd.REP_INFO, nbd.REP_SERVER} & {kind for kind, _ in raw.replies}
    assert raw.go("ro").size == SIZE
    assert in_step(raw)


META = {  # what follows "ro" in the option's data, which may be wrong
    "query longer than the option": struct.pack(">III", 1, 100, 0),
    "query of 0xffffffff bytes": struct.pack(">II", 1, 0xFFFFFFFF) + b"base:",
    "0xffffffff queries": struct.pack(">I", 0xFFFFFFFF) + struct.pack(">I", 5) + b"base:",
    "fewer queries than announced": struct.pack(">II", 2, 5) + b"base:",
    "bytes after the queries": struct.pack(">II", 1, 5) + b"base:x",
    "no number of queries": b"",
}


@pytest.mark.parametrize("case", META)
def test_broken_meta_context_query_is_answered_and_the_next_option_understood(raw, case):
    """32"""
    raw.structured()
    data = struct.pack(">I", 2) + b"ro" + META[case]
    for option in nbd.OPT_SET_META, nbd.OPT_LIST_META:
        lenient = {nbd.REP_ACK} if case == "bytes after the queries" else set()
        assert raw.option(option, data) in INVALID | {nbd.ERR_TOO_BIG} | lenient
    assert raw.option(nbd.OPT_SET_META, b"\xff" * 32) == nbd.ERR_INVALID
    assert "base:allocation" in raw.meta("ro", "base:allocation")
    assert in_step(raw.go("ro"))


def test_option_of_4_gib_ends_the_connection_at_once(raw):
    """9"""
    raw.send_option(0x12345, b"", 0xFFFFFFFF)
    assert raw.is_closed(2)


def test_abort_is_acknowledged_even_with_data(target):
    """11"""
    for data in b"", b"goodbye":
        with target.raw() as client:
            assert client.option(nbd.OPT_ABORT, data) == nbd.REP_ACK
            assert client.is_closed(2)


@pytest.mark.parametrize("case", ["nothing", "4096", "5000", "../ro", "r", "ro NUL"])
def test_unknown_name_in_export_name_ends_the_connection(raw, case):
    """21"""
    name = {"4096": b"n" * 4096, "5000": b"n" * 5000, "ro NUL": b"ro\0"}.get(case, case.encode())
    raw.send_option(nbd.OPT_EXPORT_NAME, name)
    assert raw.is_closed(1)


@only("ours")
def test_control_characters_in_a_name_cannot_forge_a_log_line(target, raw):
    """23"""
    def is_logged():  # not at once when this second's lines about strangers are used up
        assert raw.option(nbd.OPT_GO, go_data("x\nnbdserve: forged\x1b[2J")) == nbd.ERR_UNKNOWN
        return "nbdserve: forged" in target.text()
    until(is_logged)
    assert "\nnbdserve: forged" not in target.text()
    assert "\x1b" not in target.text()


def test_repeated_information_requests_are_harmless(raw):
    """24"""
    assert raw.option(nbd.OPT_INFO, go_data("ro", [3] * 2000 + [1, 0, 2, 77])) == nbd.REP_ACK
    assert len(raw.infos()[nbd.INFO_EXPORT]) == 10
    assert in_step(raw.go("ro", infos=[3, 3, 1, 1]))


def test_starttls_twice_on_a_plain_server_is_refused_twice_and_then_served(raw):
    """26"""
    for _ in range(2):
        assert raw.option(nbd.OPT_STARTTLS) & nbd.ERR
    assert in_step(raw.go("ro"))


def test_plain_server_never_says_that_tls_is_required(raw):
    """27"""
    for option, data in [(nbd.OPT_STARTTLS, b""), (nbd.OPT_LIST, b""), (0x12345, b""),
                         (nbd.OPT_INFO, go_data("nothing"))]:
        assert raw.option(option, data) != nbd.ERR_TLS_REQD
    assert in_step(raw.go("ro"))


def test_tls_client_on_a_plain_server_is_closed(target):
    """29"""
    hello = b"\x16\x03\x01\x00\xc5\x01\x00\x00\xc1\x03\x03" + bytes(range(189))
    with target.raw() as client:
        assert client.option(nbd.OPT_STARTTLS) & nbd.ERR
        client.send(hello)  # as one does that takes the error for a yes
        assert client.is_closed(2)
        port = client.sock.getsockname()[1] if not target.is_peer else None
    if port:
        until(lambda: f":{port}" in target.text(), what="a line with the client's address")
    assert is_served(target)


def test_asking_for_structured_replies_twice_is_harmless(raw):
    """30"""
    raw.structured()
    assert raw.option(nbd.OPT_STRUCTURED_REPLY) in {nbd.REP_ACK, nbd.ERR_INVALID}
    assert in_step(raw.go("ro"))


def test_list_meta_context_answers_what_it_knows_and_ignores_the_rest(raw):
    """33"""
    def listed(*queries):
        return raw.meta("ro", *queries, option=nbd.OPT_LIST_META)
    raw.structured()
    for queries in (), ("base:",), ("base:allocation",), ("x-unknown:y", "base:allocation"):
        assert "base:allocation" in listed(*queries), queries
    for queries in ("x-unknown:y",), ("base:unknown",):
        assert not listed(*queries)
    colonless = raw.option(nbd.OPT_LIST_META, meta_data("ro", "colonless"))
    assert colonless in {nbd.REP_ACK, nbd.ERR_INVALID}
    assert in_step(raw.go("ro"))


@only("ours", "peer:nbd-server", "peer:nbdkit")
def test_contexts_of_another_export_are_not_those_of_the_one_that_is_opened(target, raw):
    """34"""
    raw.structured()
    raw.meta("rw", "base:allocation")
    raw.go("ro")
    assert raw.call(nbd.BLOCK_STATUS, 0, 4096) == nbd.EINVAL
    assert in_step(raw)


def test_extended_headers_are_agreed_on_or_unsupported(raw):
    """35"""
    answer = raw.option(nbd.OPT_EXTENDED)
    assert answer in {nbd.REP_ACK, nbd.ERR_UNSUP}
    raw.mode = "extended" if answer == nbd.REP_ACK else "simple"
    assert in_step(raw.go("ro"))


def test_whole_handshake_byte_by_byte(target):
    """37"""
    with target.raw(flags=None) as client:
        client.recv(18)
        message = struct.pack(">I", 3) + struct.pack(
            ">QII", nbd.IHAVEOPT, nbd.OPT_GO, len(go_data("ro"))) + go_data("ro")
        for byte in message:
            client.send(bytes([byte]))
        while client.option_reply(nbd.OPT_GO)[0] != nbd.REP_ACK:
            pass
        assert in_step(client)


@only("ours", "peer:nbd-server")
def test_export_that_policy_refuses_is_refused_in_step(target):
    """38"""
    with target.raw("guarded", source=peers.NOT_ALLOWED) as client:
        for option in nbd.OPT_INFO, nbd.OPT_GO, nbd.OPT_GO:
            assert client.option(option, go_data("guarded")) == nbd.ERR_POLICY
        assert in_step(client.go("ro"))
    with target.client("guarded", source="127.0.0.1") as client:
        assert in_step(client)


# ---- transmission ----------------------------------------------------------------------------

def test_wrong_request_magic_ends_the_connection_without_a_reply(ro):
    """39"""
    ro.send(struct.pack(">IHHQQI", nbd.REQUEST ^ 1, 0, nbd.READ, 1, 0, 512))
    with pytest.raises((EOFError, ConnectionError)):
        ro.recv(1)


E22 = {nbd.EINVAL}
FULL = {nbd.ENOSPC, nbd.EINVAL}
BIG = {nbd.EINVAL, nbd.EOVERFLOW}
REQUESTS = {  # the number, the type, offset, length, flags, the errors that are right
    "unknown command": (40, 99, 0, 0, 0, E22),
    "unknown flag": (40, nbd.READ, 0, 512, 1 << 15, E22),
    "read across the end": (41, nbd.READ, SIZE - 256, 512, 0, E22),
    "read at the end": (41, nbd.READ, SIZE, 1, 0, E22),
    "read whose end overflows": (41, nbd.READ, TOP - 256, 512, 0, E22),
    "read of 0xffffffff": (43, nbd.READ, 0, 0xFFFFFFFF, 0, BIG),
    "read of 64 MiB": (43, nbd.READ, 0, 64 * MIB, 0, BIG | {0}),
    "read of 32 MiB and one": (43, nbd.READ, 0, 32 * MIB + 1, 0, BIG | {0}),
    "trim that overflows": (49, nbd.TRIM, TOP - 4096, 8192, 0, FULL),
    "trim across the end": (49, nbd.TRIM, SIZE - 4096, 8192, 0, FULL),
    "zeroes that overflow": (49, nbd.WRITE_ZEROES, TOP - 4096, 8192, 0, FULL),
    "zeroes of 0xffffffff": (49, nbd.WRITE_ZEROES, 0, 0xFFFFFFFF, 0, FULL),
    "no-hole on read": (52, nbd.READ, 0, 512, nbd.NO_HOLE, E22),
    "no-hole on trim": (52, nbd.TRIM, 0, 512, nbd.NO_HOLE, E22),
    "df on zeroes": (52, nbd.WRITE_ZEROES, 0, 4096, nbd.DF, E22),
    "req-one on read": (52, nbd.READ, 0, 4096, nbd.REQ_ONE, E22),
    "req-one on zeroes": (52, nbd.WRITE_ZEROES, 0, 4096, nbd.REQ_ONE, E22),
    "fast-zero on trim": (52, nbd.TRIM, 0, 4096, nbd.FAST_ZERO, E22),
    "df without structured replies": (54, nbd.READ, 0, 512, nbd.DF, E22),
    "cache past the end": (56, nbd.CACHE, SIZE, 4096, 0, E22),
    "block status without a context": (56, nbd.BLOCK_STATUS, 0, 4096, 0, E22),
    "resize": (56, nbd.RESIZE, 0, 4096, 0, E22),
}


@pytest.mark.parametrize("case", REQUESTS)
def test_bad_request_is_answered_and_the_next_one_understood(rw, case):
    """40 41 43 49 52 54 56"""
    _, kind, offset, length, flags, expected = REQUESTS[case]
    for _ in range(2):
        assert rw.call(kind, offset, length, flags=flags) in expected
    assert in_step(rw)


@pytest.mark.parametrize("case", ["across", "at", "far past", "overflows"])
def test_write_past_the_end_is_refused_with_its_payload_consumed(target, rw, case):
    """44"""
    offset = {"across": SIZE - 256, "at": SIZE, "far past": 1 << 63, "overflows": TOP - 256}[case]
    assert rw.call(nbd.WRITE, offset, data=b"!" * 512) == nbd.ENOSPC
    assert in_step(rw)
    assert rw.read(SIZE - 256, 256) == bytes(256)
    assert (target.folder / "rw.img").stat().st_size == SIZE


def test_write_with_an_unknown_flag_is_refused_with_its_payload_consumed(rw):
    """40"""
    assert rw.call(nbd.WRITE, 0, data=b"!" * 100000, flags=nbd.DF) == nbd.EINVAL
    assert rw.read(0, 16) != b"!" * 16


@pytest.mark.parametrize("case", ["0xffffffff and no data", "1 GiB with data"])
def test_huge_write_ends_the_connection_without_an_allocation(target, case):
    """45"""
    assert is_served(target)
    with target.client("rw") as client:
        before = target.rss_kib()
        length = 1 << 30 if case.startswith("1 GiB") else 0xFFFFFFFF
        client.request(nbd.WRITE, SIZE - 4096, length, b"x" * 4096)
        try:
            for _ in range(64 if length == 1 << 30 else 0):
                client.send(bytes(MIB))
        except OSError:
            pass  # closed in the middle, as it should be
        grown = target.rss_kib() - before
        assert grown < 24 * 1024
        assert client.is_closed(1)
    assert is_served(target)


def test_read_only_export_refuses_changes_and_stays_in_step(target, ro):
    """46"""
    before = (target.folder / "ro.img").read_bytes()[:8192]
    assert ro.flags & nbd.FLAG_READ_ONLY
    assert ro.call(nbd.WRITE, 0, data=b"!" * 200000) == nbd.EPERM
    assert ro.call(nbd.TRIM, 0, 4096) == nbd.EPERM
    assert ro.call(nbd.WRITE_ZEROES, 0, 4096) == nbd.EPERM
    assert ro.read(0, 8192) == before


@pytest.mark.parametrize("case", ["close", "reset"])
def test_write_cut_off_in_its_payload_is_not_written(target, case):
    """47"""
    client = target.client("rw")
    client.write(8192, b"old" * 1000)
    client.request(nbd.WRITE, 8192, 65536, b"new" * 1000)
    getattr(client, case)()
    with target.client("rw") as client:
        assert client.read(8192, 3000) == b"old" * 1000


@pytest.mark.parametrize("case", ["plain", "no-hole", "fua", "fua and no-hole"])
def test_write_zeroes_of_128_mib_zeroes_all_of_it(target, case):
    """50"""
    flags = nbd.FUA * ("fua" in case) | nbd.NO_HOLE * ("no-hole" in case)
    marks = [MIB - 1, MIB, 63 * MIB, 64 * MIB + 5, 65 * MIB, 128 * MIB, 129 * MIB - 1, 129 * MIB]
    with target.client("rw") as client:
        client.sock.settimeout(20)
        for mark in marks:
            client.write(mark, b"m")
        assert client.call(nbd.WRITE_ZEROES, MIB, 128 * MIB, flags=flags) == 0
        left = [mark for mark in marks if client.read(mark, 1) != b"\0"]
        client.call(nbd.TRIM, 0, SIZE)  # gives the blocks back
        client.call(nbd.WRITE_ZEROES, 0, SIZE)
    assert left == [MIB - 1, 129 * MIB]


@pytest.mark.parametrize("case", ["rw", "ro"])
def test_fast_zero_is_invalid_where_it_is_not_announced(target, case):
    """51"""
    with target.client(case) as client:
        if client.flags & nbd.FLAG_FAST_ZERO and case == "rw":
            allowed = {0, nbd.ENOTSUP}
        else:
            allowed = {nbd.EINVAL, nbd.EPERM} if case == "ro" else {nbd.EINVAL}
        assert client.call(nbd.WRITE_ZEROES, 0, 4096, flags=nbd.FAST_ZERO) in allowed
        assert in_step(client)
    assert is_served(target)


def test_unfragmented_read_of_64_kib_is_in_one_piece(target, raw):
    """54"""
    raw.structured().go("ro")
    assert raw.flags & nbd.FLAG_DF
    image = (target.folder / "ro.img").read_bytes()[:6 * MIB]
    for offset in 0, 1, 4 * MIB - 30000, 5 * MIB:  # data, data and a hole, a hole
        assert raw.call(nbd.READ, offset, 65536, flags=nbd.DF) == 0
        assert raw.data == image[offset:offset + 65536]
    assert raw.call(nbd.READ, 0, 4 * MIB, flags=nbd.DF) in {0, nbd.EOVERFLOW}
    assert in_step(raw)


def test_failing_read_after_structured_replies_gives_an_error_chunk(raw):
    """55"""
    raw.structured().go("ro")
    for offset, length, flags in [(SIZE, 512, 0), (0, 512, nbd.NO_HOLE), (TOP - 256, 512, 0)]:
        assert raw.call(nbd.READ, offset, length, flags=flags) == nbd.EINVAL
        assert raw.last.chunks
    assert in_step(raw)


def test_fua_is_accepted_on_every_command(rw):
    """57"""
    assert rw.call(nbd.READ, 0, 512, flags=nbd.FUA) == 0
    assert rw.call(nbd.FLUSH, flags=nbd.FUA) == 0
    assert rw.call(nbd.TRIM, 0, 4096, flags=nbd.FUA) == 0
    assert rw.call(nbd.WRITE_ZEROES, 0, 4096, flags=nbd.FUA) == 0
    assert rw.call(nbd.WRITE, 0, data=b"x", flags=nbd.FUA) == 0
    assert in_step(rw)


def test_same_cookie_twice_gets_two_replies(ro):
    """58"""
    for _ in range(2):
        ro.request(nbd.READ, 0, 512, cookie=7)
    assert [ro.reply(512)[:2] for _ in range(2)] == [(0, 7), (0, 7)]


def test_odd_offsets_and_lengths_are_exact(rw):
    """59"""
    rw.write(5000, b"." * 1000)
    rw.write(5123, b"x")
    rw.write(5511, b"yz")
    expected = bytearray(b"." * 1000)
    expected[123:124], expected[511:513] = b"x", b"yz"
    assert rw.read(5000, 1000) == expected
    assert rw.read(5123, 1) == b"x"
    rw.write(SIZE - 1, b"z")
    assert rw.read(SIZE - 1, 1) == b"z"
    rw.write(SIZE - 256, bytes(256))


def test_reset_with_reads_in_flight_hurts_nobody_else(target, ro):
    """64"""
    image = (target.folder / "ro.img").read_bytes()[:65536]
    for _ in range(20):
        client = target.client("ro")
        for _ in range(64):
            client.request(nbd.READ, 0, 256 * 1024)
        client.reset()
        assert ro.read(0, 65536) == image
    time.sleep(0.2)
    assert ro.read(0, 65536) == image


def test_image_cut_short_gives_an_error_and_never_short_data(target):
    """67"""
    image = target.folder / "cut.img"
    content = image.read_bytes()[:16384]
    with target.client("cut") as client:
        os.truncate(image, 10000)
        assert client.call(nbd.READ, 8192, 8192) == nbd.EIO
        assert client.read(0, 8192) == content[:8192]
    with open(image, "r+b") as f:  # for the next one
        f.seek(0)
        f.write(content)
        f.truncate(SIZE)


def test_server_that_stops_finishes_the_replies_that_it_began(target, tmp_path):
    """69"""
    peers.make_images(tmp_path)
    mine = peers.start(target.name, tmp_path)
    try:
        with mine.raw("ro") as client:
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            client.go("ro")
            for _ in range(16):
                client.request(nbd.READ, 0, MIB)
            time.sleep(0.3)  # until the server has read them and the sockets are full
            mine.stop_soon()
            time.sleep(0.2)
            client.sock.settimeout(2 if target.is_peer else 10)
            answered = 0
            while True:
                try:
                    head = client.sock.recv(1)
                except ConnectionResetError:
                    head = b""
                if not head:
                    break
                magic, error, _ = struct.unpack(">IIQ", head + client.recv(15))
                assert magic == nbd.SIMPLE_REPLY
                if error == nbd.ESHUTDOWN and target.is_peer:
                    continue
                assert error == 0
                client.recv(MIB)
                answered += 1
            assert answered == 16
    finally:
        if target.is_peer:
            mine.close()
        else:
            assert mine.server.stop() == 0


def test_crowd_of_silent_connections_does_not_keep_a_client_out(target):
    """3"""
    address = target.address("ro")
    crowd = []
    try:
        for _ in range(1200):
            sock = socket.socket()
            crowd.append(sock)
            sock.settimeout(0.5)
            sock.connect(address)
        start = time.monotonic()
        assert is_served(target)
        assert time.monotonic() - start < 2 or target.is_peer
    finally:
        for sock in crowd:
            sock.close()
    assert until(lambda: is_served(target), 2)


# ---- what takes its time ---------------------------------------------------------------------

UNFINISHED = {
    "says nothing": None,
    "stops after the flags": b"",
    "stops in an option's head": struct.pack(">QI", nbd.IHAVEOPT, nbd.OPT_GO),
    "stops in a name": struct.pack(">QII", nbd.IHAVEOPT, nbd.OPT_GO, 100) + go_data("ro"),
}


@pytest.fixture(scope="module")
def unfinished(target):
    """Clients that never choose an export."""
    begun = {}
    for case, words in UNFINISHED.items():
        begun[case] = target.raw(flags=None if words is None else nbd.C_FIXED)
        begun[case].send(words or b"")
    yield time.monotonic(), begun
    for client in begun.values():
        client.close()


@only("ours", *(SLOW_PEERS if IS_LONG else []))  # 12 s with each peer: make check-long
@pytest.mark.parametrize("case", UNFINISHED)
def test_client_that_never_chooses_is_dropped(target, unfinished, case):
    """2"""
    began, clients = unfinished
    assert clients[case].is_closed(max(0.1, began + 12 - time.monotonic()))


if IS_LONG:  # 40 s with each peer
    @only(*SLOW_PEERS)
    def test_client_that_reads_no_replies_is_dropped(target):
        """65"""
        with target.client("ro") as client:
            client.sock.settimeout(0.5)
            try:
                for _ in range(20000):
                    client.request(nbd.READ, 0, 256 * 1024)
            except OSError:
                pass
            time.sleep(40)
            assert client.is_closed(0.5)


# ---- the catalogue ---------------------------------------------------------------------------

def test_every_number_of_the_catalogue_has_a_test():
    here = inspect.getmembers(sys.modules[__name__], inspect.isfunction)
    found = {int(number) for name, function in here if name.startswith("test_")
             for number in re.findall(r"\d+", function.__doc__ or "")}
    found |= {case[0] for case in (*OPTIONS.values(), *REQUESTS.values())}
    for number, (file, test) in ELSEWHERE.items():
        assert f"def {test}(" in (pathlib.Path(__file__).parent / file).read_text(), number
    assert sorted(found | set(ELSEWHERE)) == NUMBERS


def test_every_known_deviation_is_of_a_case_that_exists():
    assert not deviations.check(sys.modules[__name__])
