# SPDX-License-Identifier: GPL-2.0-or-later
"""
What nbdserve promises beyond the protocol (test_wire.py, test_proto_musts.py) and to honest
clients: who sees and gets which export, one writer, what is logged, that its answers are right
with many requests in flight. In each of its engines, one server for the whole file.
"""
import random
import struct
import subprocess

import nbd
import pytest
from nbd import Client, Refused, Server, go_data

MIB = 1 << 20
SIZE = 192 * MIB


@pytest.fixture(scope="module")
def folder(tmp_path_factory, engine):
    tmp = tmp_path_factory.mktemp("nbdserve")
    for name in "rw", "ro", "flush", "guarded", "default":
        with open(tmp / f"{name}.img", "wb") as f:
            f.truncate(SIZE)
            if name == "ro":
                f.write(random.Random(1).randbytes(4 * MIB))
    return tmp


@pytest.fixture(scope="module")
def server(folder, engine):
    server = Server(folder, "--unix", folder / "sock",
                    "--export", f"rw={folder}/rw.img",
                    "--export", f"ro={folder}/ro.img,ro",
                    "--export", f"flush={folder}/flush.img,durability=flush",
                    "--export", f"guarded={folder}/guarded.img,allow=192.0.2.0/24+127.0.0.7",
                    "--export", f"={folder}/default.img", engine=engine)
    server.second = subprocess.Popen(  # takes 9 s to give up
        [nbd.BUILD / "nbdserve", "--foreground", "--listen", "127.0.0.1:0", "--export",
         f"rw={folder}/rw.img"], stderr=subprocess.PIPE, text=True)
    yield server
    server.second.kill()
    server.second.wait()
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


# ---- the handshake ---------------------------------------------------------------------------

def test_empty_name_is_the_default_export(raw, folder):
    assert raw.go("").flags & nbd.FLAG_READ_ONLY == 0
    raw.write(0, b"default")
    assert (folder / "default.img").read_bytes()[:7] == b"default"


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
    every = nbd.FLAG_HAS_FLAGS | nbd.FLAG_FLUSH | nbd.FLAG_FUA | nbd.FLAG_CACHE
    writable = every | nbd.FLAG_TRIM | nbd.FLAG_ZEROES | nbd.FLAG_FAST_ZERO
    for name, flags in [("rw", writable), ("flush", writable),
                        ("ro", every | nbd.FLAG_READ_ONLY | nbd.FLAG_MULTI_CONN)]:
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

def test_largest_write_and_read_work_and_one_byte_more_ends_the_connection(server):
    data = random.Random(2).randbytes(MIB) * 32
    with server.client("flush") as client:
        client.write(MIB, data)
        assert client.read(MIB, 32 * MIB) == data
        client.request(nbd.WRITE, 0, 32 * MIB + 1, b"x")
        assert client.is_closed()


def test_request_cut_off_in_its_head_is_harmless(server):
    client = server.client("rw")
    client.send(struct.pack(">IHHQ", nbd.REQUEST, 0, nbd.WRITE, 1))
    client.close()
    with server.client("rw") as client:
        assert in_step(client)


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


def test_unix_socket_serves_too(folder, server):
    with Client(folder / "sock").go("rw") as client:
        client.write(100, b"by unix socket")
        assert client.read(100, 14) == b"by unix socket"


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


def test_second_server_on_a_writable_image_is_refused(server, folder):
    _, text = server.second.communicate(timeout=20)
    assert server.second.returncode == 1
    last = text.splitlines()[-1]
    assert f"cannot serve {folder}/rw.img: another server or program holds it" in last
    assert "waiting up to" in text
