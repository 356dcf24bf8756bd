# SPDX-License-Identifier: GPL-2.0-or-later
"""
nbdserve against clients that say what no honest client says. One server for the whole file: it
has to survive all of it. What takes long by its nature is begun before the first test and looked
at by the last ones.
"""
import os
import pathlib
import random
import socket
import struct
import subprocess
import sys
import threading
import time

import nbd
import pytest
from nbd import Client, Refused, Server, go_data, until

MIB = 1 << 20
SIZE = 192 * MIB

# A build with a sanitizer: its memory and its speed say nothing about ours.
SANITIZED = b"san_init" in (nbd.BUILD / "nbdserve").read_bytes()

# In a network namespace of its own, so that the link can be cut: how long until the server notices.
DEAD_PEER = """
import subprocess, sys, time
import nbd
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
server = nbd.Server(sys.argv[1], "--export", "a=" + sys.argv[2])
client = server.client("a")
client.write(0, b"x")
time.sleep(1)
subprocess.run(["ip", "link", "set", "lo", "down"], check=True)
start = time.monotonic()
server.wait_for_log("disconnected from export", 25)
print(time.monotonic() - start)
server.kill()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    tmp = tmp_path_factory.mktemp("nbdserve")
    for name in "rw", "ro", "flush", "guarded", "default", "cut":
        with open(tmp / f"{name}.img", "wb") as f:
            f.truncate(SIZE)
            if name == "ro":
                f.write(random.Random(1).randbytes(4 * MIB))
    return tmp


@pytest.fixture(scope="module")
def server(folder):
    server = Server(folder, "--unix", folder / "sock",
                    "--export", f"rw={folder}/rw.img",
                    "--export", f"ro={folder}/ro.img,ro",
                    "--export", f"flush={folder}/flush.img,durability=flush",
                    "--export", f"guarded={folder}/guarded.img,allow=192.0.2.0/24+127.0.0.7",
                    "--export", f"={folder}/default.img")
    yield server
    assert server.is_alive(), server.text()
    assert server.stop() == 0
    assert "ERROR: " not in server.text() and "runtime error" not in server.text(), server.text()


@pytest.fixture
def rw(server):
    with server.client("rw") as client:
        yield client


@pytest.fixture
def ro(server):
    with server.client("ro") as client:
        yield client


@pytest.fixture
def raw(server):
    """A client that has greeted and not yet asked for anything."""
    with server.client() as client:
        yield client


def in_step(client):
    """The stream is still understood by both sides."""
    return client.read(0, 512) is not None


class Slow:
    """Things that take their time, all begun at once."""

    def __init__(self, folder):
        self.folder = folder
        self.server = Server(folder, "--export", f"ro={folder}/ro.img,ro")
        begun = {}
        self.began = time.monotonic()
        begun["says nothing"] = self.server.client(flags=None)
        begun["stops after the flags"] = self.server.client()
        begun["stops in an option's head"] = self.server.client()
        begun["stops in an option's head"].send(struct.pack(">QI", nbd.IHAVEOPT, nbd.OPT_GO))
        begun["stops in a name"] = self.server.client()
        begun["stops in a name"].send(
            struct.pack(">QII", nbd.IHAVEOPT, nbd.OPT_GO, 100) + go_data("ro"))
        chatty = self.server.client()
        begun["asks for the list for ever"] = chatty
        self.chatter = threading.Thread(target=self.ask_for_ever, args=(chatty.sock,), daemon=True)
        self.chatter.start()
        self.silent = begun
        self.deaf = self.server.client("ro")
        for i in range(20000):
            try:
                self.deaf.sock.settimeout(0.3)
                self.deaf.request(nbd.READ, 0, 256 * 1024)
            except socket.timeout:
                break  # the server reads no more, as it should
        self.deaf_since = time.monotonic()
        self.second = subprocess.Popen(
            [nbd.BUILD / "nbdserve", "--foreground", "--listen", "127.0.0.1:0", "--export",
             f"rw={folder}/rw.img"], stderr=subprocess.PIPE, text=True)
        self.dead_peer = subprocess.Popen(
            ["unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child",
             sys.executable, "-c", DEAD_PEER, folder, folder / "cut.img"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parent)})

    @staticmethod
    def ask_for_ever(sock):
        """A list every 100 ms until the connection is over; the answers fit in its buffers."""
        try:
            while True:
                sock.sendall(struct.pack(">QII", nbd.IHAVEOPT, nbd.OPT_LIST, 0))
                time.sleep(0.1)
        except OSError:
            pass


@pytest.fixture(scope="module", autouse=True)
def slow(folder, server):
    slow = Slow(folder)
    yield slow
    slow.server.stop()
    for process in slow.second, slow.dead_peer:
        process.kill()
        process.wait()


# ---- the handshake ---------------------------------------------------------------------------

def test_connect_and_close_is_not_worth_a_line(server):
    before = server.text()
    for _ in range(50):
        server.client(flags=None).close()
    with server.client() as client:
        assert client.option(nbd.OPT_LIST) == nbd.REP_ACK
    assert server.text() == before


def test_unknown_client_flag_ends_the_connection(server):
    for flags in 4, 7, 1 << 31:
        with server.client(flags=flags) as client:
            assert client.is_closed()


def test_flags_of_an_old_client_are_served(server):
    for flags in 0, nbd.C_FIXED, nbd.C_NO_ZEROES:
        with server.client(flags=flags) as client:
            client.send_option(nbd.OPT_EXPORT_NAME, b"ro")
            size, _ = struct.unpack(">QH", client.recv(10))
            assert size == SIZE
            if not flags & nbd.C_NO_ZEROES:
                assert client.recv(124) == bytes(124)
            assert in_step(client)


def test_wrong_option_magic_ends_the_connection(raw):
    raw.send(struct.pack(">QII", nbd.IHAVEOPT ^ 1, nbd.OPT_LIST, 0))
    assert raw.is_closed()


INVALID = {nbd.ERR_INVALID}
HANDSHAKE_CASES = {
    "unknown option": (0x12345, b"", {nbd.ERR_UNSUP}),
    "option number 0": (0, b"", {nbd.ERR_UNSUP}),
    "unknown option with 1 MiB of data": (0x12345, bytes(MIB), {nbd.ERR_UNSUP}),
    "peek": (nbd.OPT_PEEK, b"", {nbd.ERR_UNSUP}),
    "LIST with data": (nbd.OPT_LIST, b"x", INVALID),
    "LIST with 1 MiB of data": (nbd.OPT_LIST, bytes(MIB), INVALID),
    "GO of length 0": (nbd.OPT_GO, b"", INVALID),
    "GO of length 5": (nbd.OPT_GO, b"\0\0\0\0\0", INVALID),
    "GO with a name longer than the option": (nbd.OPT_GO, b"\0\0\0\3ro\0\0", INVALID),
    "GO with a name of 0xffffffff bytes": (nbd.OPT_GO, b"\xff\xff\xff\xffro\0\0", INVALID),
    "GO with a name of 4096 bytes": (nbd.OPT_GO, go_data(b"n" * 4096), {nbd.ERR_UNKNOWN}),
    "GO with a name of 4097 bytes": (nbd.OPT_GO, go_data(b"n" * 4097),
                                     {nbd.ERR_INVALID, nbd.ERR_TOO_BIG}),
    "GO with 1 MiB": (nbd.OPT_GO, go_data(b"n" * MIB), {nbd.ERR_INVALID, nbd.ERR_TOO_BIG}),
    "name that is not UTF-8": (nbd.OPT_GO, go_data(b"\xff\xfe"),
                               {nbd.ERR_INVALID, nbd.ERR_UNKNOWN}),
    "name with a NUL": (nbd.OPT_GO, go_data(b"ro\0"), INVALID),
    "more information requests announced than sent": (nbd.OPT_GO, b"\0\0\0\2ro\0\2\0\3", INVALID),
    "65535 information requests announced": (nbd.OPT_GO, b"\0\0\0\2ro\xff\xff\0\3", INVALID),
    "bytes after the information requests": (nbd.OPT_GO, go_data("ro") + b"x", INVALID),
    "INFO with a byte too few": (nbd.OPT_INFO, go_data("ro")[:-1], INVALID),
    "name with ../": (nbd.OPT_GO, go_data("../ro"), {nbd.ERR_UNKNOWN}),
    "name that is a path": (nbd.OPT_GO, go_data("/etc/passwd"), {nbd.ERR_UNKNOWN}),
    "name that begins like another": (nbd.OPT_GO, go_data("r"), {nbd.ERR_UNKNOWN}),
    "name that goes on after another": (nbd.OPT_GO, go_data("ro2"), {nbd.ERR_UNKNOWN}),
    "STARTTLS": (nbd.OPT_STARTTLS, b"", {nbd.ERR_UNSUP, nbd.ERR_POLICY}),
    "STARTTLS with data": (nbd.OPT_STARTTLS, b"x",
                           {nbd.ERR_UNSUP, nbd.ERR_POLICY, nbd.ERR_INVALID}),
    "structured replies": (nbd.OPT_STRUCTURED_REPLY, b"", {nbd.ERR_UNSUP}),
    "meta contexts": (nbd.OPT_SET_META, b"\xff" * 32, {nbd.ERR_UNSUP}),
    "extended headers": (nbd.OPT_EXTENDED, b"", {nbd.ERR_UNSUP}),
    "export that is not for this address": (nbd.OPT_GO, go_data("guarded"), {nbd.ERR_POLICY}),
}


@pytest.mark.parametrize("case", HANDSHAKE_CASES)
def test_bad_option_is_answered_and_the_next_one_understood(raw, case):
    option, data, expected = HANDSHAKE_CASES[case]
    assert raw.option(option, data) in expected
    assert nbd.REP_INFO not in [kind for kind, _ in raw.replies]
    assert raw.option(option, data) in expected
    assert raw.go("ro").size == SIZE
    assert in_step(raw)


def test_option_of_4_gib_ends_the_connection_at_once(raw):
    raw.send_option(0x12345, b"", 0xFFFFFFFF)
    assert raw.is_closed(2)


def test_abort_is_acknowledged_even_with_data(server):
    for data in b"", b"goodbye":
        with server.client() as client:
            assert client.option(nbd.OPT_ABORT, data) == nbd.REP_ACK
            assert client.is_closed()


def test_unknown_name_in_export_name_ends_the_connection(server):
    for name in b"nothing", b"n" * 4096, b"n" * 5000, b"guarded":
        with server.client() as client:
            client.send_option(nbd.OPT_EXPORT_NAME, name)
            assert client.is_closed()


def test_empty_name_is_the_default_export(raw, folder):
    assert raw.go("").flags & nbd.FLAG_READ_ONLY == 0
    raw.write(0, b"default")
    assert (folder / "default.img").read_bytes()[:7] == b"default"


def test_control_characters_in_a_name_cannot_forge_a_log_line(raw, server):
    def is_logged():  # not at once when this second's lines about strangers are used up
        assert raw.option(nbd.OPT_GO, go_data("x\nnbdserve: forged\x1b[2J")) == nbd.ERR_UNKNOWN
        return "x?nbdserve: forged?[2J" in server.text()
    until(is_logged)
    assert "\nnbdserve: forged" not in server.text()


def test_repeated_information_requests_are_harmless(raw):
    assert raw.option(nbd.OPT_INFO, go_data("ro", [3] * 2000 + [1, 0, 2, 77])) == nbd.REP_ACK
    infos = raw.infos()
    assert struct.unpack(">III", infos[nbd.INFO_BLOCK_SIZE]) == (1, 4096, 32 * MIB)
    assert infos[nbd.INFO_NAME] == b"ro"
    assert in_step(raw.go("ro", infos=[3, 3]))


def test_whole_handshake_byte_by_byte(server):
    with server.client(flags=None) as client:
        client.recv(18)
        message = struct.pack(">I", 3) + struct.pack(
            ">QII", nbd.IHAVEOPT, nbd.OPT_GO, len(go_data("ro"))) + go_data("ro")
        for byte in message:
            client.send(bytes([byte]))
        while client.option_reply(nbd.OPT_GO)[0] != nbd.REP_ACK:
            pass
        assert in_step(client)


def test_handshake_and_first_request_in_one_segment(server):
    with server.client(flags=None) as client:
        client.recv(18)
        client.send(struct.pack(">I", 3)
                    + struct.pack(">QII", nbd.IHAVEOPT, nbd.OPT_GO, 8) + go_data("ro")
                    + struct.pack(">IHHQQI", nbd.REQUEST, 0, nbd.READ, 7, 0, 16))
        while client.option_reply(nbd.OPT_GO)[0] != nbd.REP_ACK:
            pass
        assert client.reply(16)[:2] == (0, 7)


def test_exports_say_what_they_can(server):
    both = nbd.FLAG_HAS_FLAGS | nbd.FLAG_FLUSH | nbd.FLAG_FUA
    for name, flags in [("rw", both | nbd.FLAG_TRIM | nbd.FLAG_ZEROES),
                        ("flush", both | nbd.FLAG_TRIM | nbd.FLAG_ZEROES),
                        ("ro", both | nbd.FLAG_READ_ONLY)]:
        with server.client(name) as client:
            assert (client.size, client.flags) == (SIZE, flags)


def test_list_shows_what_the_client_may_use(server):
    def names(source):
        with server.client(source=source) as client:
            assert client.option(nbd.OPT_LIST) == nbd.REP_ACK
            return [data[4:].decode() for kind, data in client.replies if kind == nbd.REP_SERVER]
    assert names("127.0.0.1") == ["rw", "ro", "flush", ""]
    assert names("127.0.0.7") == ["rw", "ro", "flush", "guarded", ""]
    assert names("127.0.0.70") == ["rw", "ro", "flush", ""]


def test_guarded_export_is_refused_in_words_and_given_to_whom_it_is_for(server):
    with server.client(source="127.0.0.70") as client:
        for option in nbd.OPT_INFO, nbd.OPT_GO:
            with pytest.raises(Refused, match=r"not allowed from 127\.0\.0\.70:\d+"):
                client.go("guarded", option)
    with server.client(source="127.0.0.7") as client:
        assert in_step(client.go("guarded"))


def test_client_that_asks_for_thousands_of_options_is_dropped(raw):
    option = struct.pack(">QII", nbd.IHAVEOPT, 0x12345, 0)
    with pytest.raises((EOFError, ConnectionError, AssertionError)):
        for _ in range(5000):
            raw.send(option)
            raw.option_reply(0x12345)


# ---- transmission ----------------------------------------------------------------------------

def test_wrong_request_magic_ends_the_connection(ro):
    ro.send(struct.pack(">IHHQQI", nbd.REQUEST ^ 1, 0, nbd.READ, 1, 0, 512))
    assert ro.is_closed()


TOP = 1 << 64
REQUEST_CASES = {  # (type, offset, length, flags): errors
    "unknown command": (99, 0, 0, 0, {nbd.EINVAL}),
    "unknown flag": (nbd.READ, 0, 512, 1 << 15, {nbd.EINVAL}),
    "read across the end": (nbd.READ, SIZE - 256, 512, 0, {nbd.EINVAL}),
    "read at the end": (nbd.READ, SIZE, 1, 0, {nbd.EINVAL}),
    "read whose end overflows": (nbd.READ, TOP - 256, 512, 0, {nbd.EINVAL}),
    "read of 0xffffffff": (nbd.READ, 0, 0xFFFFFFFF, 0, {nbd.EINVAL, nbd.EOVERFLOW}),
    "read of 64 MiB": (nbd.READ, 0, 64 * MIB, 0, {nbd.EINVAL, nbd.EOVERFLOW}),
    "read of 32 MiB and one": (nbd.READ, 0, 32 * MIB + 1, 0, {nbd.EINVAL, nbd.EOVERFLOW}),
    "trim that overflows": (nbd.TRIM, TOP - 4096, 8192, 0, {nbd.EINVAL}),
    "trim across the end": (nbd.TRIM, SIZE - 4096, 8192, 0, {nbd.EINVAL}),
    "zeroes that overflow": (nbd.WRITE_ZEROES, TOP - 4096, 8192, 0, {nbd.ENOSPC, nbd.EINVAL}),
    "zeroes of 0xffffffff": (nbd.WRITE_ZEROES, 0, 0xFFFFFFFF, 0, {nbd.ENOSPC, nbd.EINVAL}),
    "fast zero, not announced": (nbd.WRITE_ZEROES, 0, 4096, nbd.FAST_ZERO, {nbd.EINVAL}),
    "no-hole on read": (nbd.READ, 0, 512, nbd.NO_HOLE, {nbd.EINVAL}),
    "no-hole on trim": (nbd.TRIM, 0, 512, nbd.NO_HOLE, {nbd.EINVAL}),
    "df on read": (nbd.READ, 0, 512, nbd.DF, {nbd.EINVAL}),
    "req-one on zeroes": (nbd.WRITE_ZEROES, 0, 4096, nbd.REQ_ONE, {nbd.EINVAL}),
    "cache past the end": (nbd.CACHE, SIZE, 4096, 0, {nbd.EINVAL}),
    "block status": (nbd.BLOCK_STATUS, 0, 4096, 0, {nbd.EINVAL}),
    "resize": (nbd.RESIZE, 0, 4096, 0, {nbd.EINVAL}),
}


@pytest.mark.parametrize("case", REQUEST_CASES)
def test_bad_request_is_answered_and_the_next_one_understood(rw, case):
    kind, offset, length, flags, expected = REQUEST_CASES[case]
    assert rw.call(kind, offset % TOP, length, flags=flags) in expected
    assert in_step(rw)


@pytest.mark.parametrize("offset", [SIZE - 256, SIZE, 1 << 63, TOP - 256])
def test_write_past_the_end_is_refused_with_its_payload_consumed(rw, folder, offset):
    assert rw.call(nbd.WRITE, offset, data=b"!" * 512) == nbd.ENOSPC
    assert in_step(rw)
    assert rw.read(SIZE - 256, 256) == bytes(256)
    assert (folder / "rw.img").stat().st_size == SIZE


def test_write_with_an_unknown_flag_is_refused_with_its_payload_consumed(rw):
    assert rw.call(nbd.WRITE, 0, data=b"!" * 100000, flags=nbd.DF) == nbd.EINVAL
    assert rw.read(0, 16) != b"!" * 16


def test_largest_write_and_read_work_and_one_byte_more_ends_the_connection(server):
    data = random.Random(2).randbytes(MIB) * 32
    with server.client("flush") as client:
        client.write(MIB, data)
        assert client.read(MIB, 32 * MIB) == data
        client.request(nbd.WRITE, 0, 32 * MIB + 1, b"x")
        assert client.is_closed()


@pytest.mark.parametrize("length", [0xFFFFFFFF, 1 << 30])
def test_huge_write_ends_the_connection_without_an_allocation(server, length):
    before = server.rss_kib()
    with server.client("rw") as client:
        client.request(nbd.WRITE, 0, length, b"x" * 4096)
        assert client.is_closed()
    assert server.rss_kib() - before < 16 * 1024


def test_read_only_export_refuses_changes_and_stays_in_step(ro, folder):
    before = (folder / "ro.img").read_bytes()[:8192]
    assert ro.call(nbd.WRITE, 0, data=b"!" * 200000) == nbd.EPERM
    assert ro.call(nbd.TRIM, 0, 4096) == nbd.EPERM
    assert ro.call(nbd.WRITE_ZEROES, 0, 4096) == nbd.EPERM
    assert ro.call(nbd.WRITE, 0, 0) == nbd.EPERM
    ro.flush()
    assert ro.read(0, 8192) == before


@pytest.mark.parametrize("leave", [Client.close, Client.reset])
def test_write_cut_off_in_its_payload_is_not_written(server, leave):
    client = server.client("rw")
    client.write(8192, b"old" * 1000)
    client.request(nbd.WRITE, 8192, 65536, b"new" * 1000)
    leave(client)
    with server.client("rw") as client:
        assert client.read(8192, 3000) == b"old" * 1000


def test_request_cut_off_in_its_head_is_harmless(server):
    client = server.client("rw")
    client.send(struct.pack(">IHHQ", nbd.REQUEST, 0, nbd.WRITE, 1))
    client.close()
    with server.client("rw") as client:
        assert in_step(client)


@pytest.mark.parametrize("flags", [0, nbd.NO_HOLE, nbd.FUA, nbd.FUA | nbd.NO_HOLE])
def test_write_zeroes_of_128_mib_zeroes_all_of_it(server, folder, flags):
    marks = [MIB - 1, MIB, 63 * MIB, 64 * MIB + 5, 65 * MIB, 128 * MIB, 129 * MIB - 1, 129 * MIB]
    with server.client("flush") as client:
        for mark in marks:
            client.write(mark, b"m")
        assert client.call(nbd.WRITE_ZEROES, MIB, 128 * MIB, flags=flags) == 0
        left = [mark for mark in marks if client.read(mark, 1) != b"\0"]
        client.call(nbd.WRITE_ZEROES, 0, SIZE)
    assert left == [MIB - 1, 129 * MIB]


def test_no_hole_allocates_and_a_hole_frees(server, folder):
    def allocated():
        return (folder / "flush.img").stat().st_blocks * 512

    with server.client("flush") as client:
        assert client.call(nbd.WRITE_ZEROES, 0, SIZE) == 0
        before = allocated()
        assert client.call(nbd.WRITE_ZEROES, MIB, 8 * MIB, flags=nbd.NO_HOLE) == 0
        client.flush()
        assert allocated() - before >= 8 * MIB
        assert client.call(nbd.TRIM, MIB, 8 * MIB) == 0
        client.flush()
        assert allocated() - before < MIB
        assert client.read(MIB, 4096) == bytes(4096)


def test_fua_is_accepted_on_every_command(rw):
    assert rw.call(nbd.READ, 0, 512, flags=nbd.FUA) == 0
    assert rw.call(nbd.FLUSH, flags=nbd.FUA) == 0
    assert rw.call(nbd.TRIM, 0, 4096, flags=nbd.FUA) == 0
    assert rw.call(nbd.WRITE_ZEROES, 0, 4096, flags=nbd.FUA) == 0
    assert rw.call(nbd.WRITE, 0, data=b"x", flags=nbd.FUA) == 0


def test_requests_of_length_0_are_answered(rw):
    for kind in nbd.READ, nbd.WRITE, nbd.TRIM, nbd.WRITE_ZEROES, nbd.FLUSH:
        assert rw.call(kind, 4096, 0) == 0
    assert in_step(rw)


def test_same_cookie_twice_gets_two_replies(ro):
    for _ in range(2):
        ro.request(nbd.READ, 0, 512, cookie=7)
    assert [ro.reply(512)[:2] for _ in range(2)] == [(0, 7), (0, 7)]


def test_odd_offsets_and_lengths_are_exact(rw):
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


def test_many_requests_in_flight_are_all_answered_with_the_right_data(ro, folder):
    image = (folder / "ro.img").read_bytes()[:4 * MIB]
    rng = random.Random(3)
    wanted = {}
    for _ in range(500):
        offset, length = rng.randrange(3 * MIB), rng.randrange(1, 20000)
        wanted[ro.request(nbd.READ, offset, length)] = (offset, length)
        if len(wanted) == 100:
            collect(ro, wanted, image)
    collect(ro, wanted, image)


def collect(client, wanted, image):
    while wanted:
        magic, error, cookie = struct.unpack(">IIQ", client.recv(16))
        assert (magic, error) == (nbd.SIMPLE_REPLY, 0)
        offset, length = wanted.pop(cookie)
        assert client.recv(length) == image[offset:offset + length]


def test_goodbye_waits_for_what_is_in_flight(ro):
    for _ in range(8):
        ro.request(nbd.READ, 0, 65536)
    ro.request(nbd.DISC)
    assert {ro.reply(65536)[0] for _ in range(8)} == {0}
    assert ro.is_closed()


def test_reset_with_reads_in_flight_hurts_nobody_else(server, ro):
    image = ro.read(0, 65536)
    for _ in range(20):
        client = server.client("ro")
        for _ in range(64):
            client.request(nbd.READ, 0, 256 * 1024)
        client.reset()
        assert ro.read(0, 65536) == image
    assert server.is_alive()


def test_unix_socket_serves_too(folder, server):
    with Client(folder / "sock").go("rw") as client:
        client.write(100, b"by unix socket")
        assert client.read(100, 14) == b"by unix socket"


def test_image_cut_short_gives_an_error_and_never_short_data(tmp_path):
    image = tmp_path / "a.img"
    image.write_bytes(b"x" * 65536)
    server = Server(tmp_path, "--export", f"a={image},ro")
    with server.client("a") as client:
        os.truncate(image, 10000)
        assert client.call(nbd.READ, 8192, 8192) == nbd.EIO
        assert client.read(0, 8192) == b"x" * 8192
    server.wait_for_log("the image is shorter than when it was opened")
    assert server.stop() == 0


# ---- one writer ------------------------------------------------------------------------------

def test_other_client_is_refused_with_the_holder_s_name(server):
    with server.client("rw", source="127.0.0.1") as holder:
        port = holder.sock.getsockname()[1]
        with server.client(source="127.0.0.2") as other:
            words = rf'export "rw" is in use by 127\.0\.0\.1:{port} since \d+ s'
            with pytest.raises(Refused, match=words):
                other.go("rw")
            assert other.option(nbd.OPT_INFO, go_data("rw")) == nbd.REP_ACK
            assert in_step(other.go("ro"))
        assert in_step(holder)
    server.client("rw", source="127.0.0.2").close()


def test_newer_connection_of_the_same_client_takes_over(server):
    with server.client("rw") as old:
        old.write(0, b"old")
        with server.client("rw") as young:
            assert young.read(0, 3) == b"old"
            assert old.is_closed()
            assert in_step(young)
    server.wait_for_log("a newer connection of the same client takes over")


def test_export_name_takes_over_as_go_does(server):
    with server.client("rw") as old, server.client() as young:
        young.send_option(nbd.OPT_EXPORT_NAME, b"rw")
        young.recv(10)
        assert old.is_closed()
        assert in_step(young)


def test_asking_for_information_takes_nothing_over(server):
    with server.client("rw") as holder, server.client() as other:
        other.go("rw", nbd.OPT_INFO)
        assert other.option(nbd.OPT_LIST) == nbd.REP_ACK
        assert in_step(holder)


def test_read_only_export_has_room_for_many(server):
    clients = [server.client("ro", source=f"127.0.0.{i % 20 + 1}") for i in range(60)]
    for client in clients:
        assert in_step(client)
    for client in clients:
        client.close()


# ---- what took its time ----------------------------------------------------------------------

def test_flood_of_silent_connections_does_not_keep_a_client_out(tmp_path):
    (tmp_path / "i").write_bytes(bytes(512))
    server = Server(tmp_path, "--export", f"a={tmp_path}/i,ro")
    oldest = server.client(flags=None)
    silent = []
    for _ in range(1200):
        sock = socket.socket()
        sock.connect(server.address)
        silent.append(sock)
    start = time.monotonic()
    with server.client("a") as client:
        assert in_step(client)
    assert time.monotonic() - start < (20 if SANITIZED else 2)
    assert oldest.is_closed()
    server.wait_for_log("has been for the longest time")
    assert server.text().count("\n") < 200
    for sock in silent:
        sock.close()
    assert server.stop() == 0


def test_second_server_on_a_writable_image_is_refused(slow, folder):
    _, text = slow.second.communicate(timeout=20)
    assert slow.second.returncode == 1
    last = text.splitlines()[-1]
    assert f"cannot serve {folder}/rw.img: another server or program holds it" in last
    assert "waiting up to" in text


def test_client_that_chooses_nothing_for_ten_seconds_is_dropped(slow):
    for case, client in slow.silent.items():
        assert client.is_closed(max(0.1, slow.began + 13 - time.monotonic())), case
    assert time.monotonic() - slow.began > 10
    slow.server.wait_for_log("did not choose an export within 10 s")


def test_client_whose_link_is_cut_is_dropped_within_15_seconds(slow):
    out, err = slow.dead_peer.communicate(timeout=30)
    if "unshare" in err:
        pytest.skip(f"no network namespace can be made here: {err.strip()}")
    assert slow.dead_peer.returncode == 0, err
    assert 5 < float(out) < 15.5


def test_client_that_reads_no_replies_costs_little_and_is_dropped(slow):
    if not SANITIZED:
        assert slow.server.rss_kib() < 100 * 1024
    slow.server.wait_for_log("the client does not read its replies", 25)
    with slow.server.client("ro") as client:
        assert in_step(client)
