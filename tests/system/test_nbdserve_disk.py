# SPDX-License-Identifier: GPL-2.0-or-later
"""
nbdserve and its disk: what is durable when, what a stuck or failing disk does to whom, that no
stale write lands on a newer one, and that SIGKILL loses nothing that was acknowledged.
"""
import errno
import random
import socket
import struct
import threading
import time

import nbd
import pytest
from nbd import Refused, Server, until

MIB = 1 << 20
POOL = 16  # an image's share of the threads for calls that block, see pool.h


@pytest.fixture(scope="module")
def shim(preloaded):
    return preloaded("faulty-disk.c")


class Disk:
    """An image on a disk that does what the test says; see faulty-disk.c."""

    def __init__(self, tmp, shim):
        self.tmp, self.image, self.panel = tmp, tmp / "a.img", tmp / "panel"
        self.panel.mkdir()
        with open(self.image, "wb") as f:
            f.truncate(64 * MIB)
        self.env = {"LD_PRELOAD": str(shim), "FAULTY_DISK": str(self.panel),
                    "ASAN_OPTIONS": "verify_asan_link_order=0"}
        self.server = None
        # the server's sandbox must let the shim use its panel, and makes no files
        for call in "pwrite", "fdatasync", "fallocate":
            (self.panel / f"count-{call}").touch()
        self.config = tmp / "nbdserve.conf"
        self.config.write_text(f"[server]\ndirectory = {self.panel}\n")

    def serve(self, options=""):
        # libc's calls are the pool's: io_uring makes none (test_fence.py has both engines)
        self.server = Server(self.tmp, "--engine", "epoll", "--config", self.config,
                             "--export", f"a={self.image}{options}", env=self.env)
        return self.server

    def freeze(self, call):
        (self.panel / f"freeze-{call}").touch()

    def thaw(self, call):
        (self.panel / f"freeze-{call}").unlink(missing_ok=True)

    def fail(self, call, error):
        self.panel.joinpath("new").write_text(str(error))
        self.panel.joinpath("new").rename(self.panel / f"fail-{call}")

    def heal(self, call):
        (self.panel / f"fail-{call}").unlink()

    def count(self, call):
        path = self.panel / f"count-{call}"
        return path.stat().st_size if path.exists() else 0

    def wait_for(self, call, count):
        until(lambda: self.count(call) >= count, what=f"{count} calls of {call}")

    def close(self):
        for path in self.panel.glob("freeze-*"):
            path.unlink()
        if self.server:
            self.server.stop()


@pytest.fixture
def disk(tmp_path, shim):
    disk = Disk(tmp_path, shim)
    yield disk
    disk.close()


# ---- durability ------------------------------------------------------------------------------

CHANGES = {"write": (nbd.WRITE, b"x" * 4096), "trim": (nbd.TRIM, b""),
           "zeroes": (nbd.WRITE_ZEROES, b"")}


@pytest.mark.parametrize("what", CHANGES)
def test_durable_export_answers_a_change_only_after_the_sync(disk, what):
    kind, data = CHANGES[what]
    with disk.serve().client("a") as client:
        disk.freeze("fdatasync")
        client.request(kind, 0, 4096, data)
        disk.wait_for("fdatasync", 1)
        assert client.is_silent(0.2)
        disk.thaw("fdatasync")
        assert client.reply()[0] == 0


def test_export_durable_at_flush_syncs_for_flush_and_fua_only(disk):
    with disk.serve(",durability=flush").client("a") as client:
        client.write(0, b"x" * 4096)
        assert client.call(nbd.TRIM, 0, 4096) == 0
        assert disk.count("fdatasync") == 0
        for kind, flags, data in [(nbd.FLUSH, 0, b""), (nbd.WRITE, nbd.FUA, b"y" * 512),
                                  (nbd.WRITE_ZEROES, nbd.FUA, b"")]:
            before = disk.count("fdatasync")
            disk.freeze("fdatasync")
            client.request(kind, 0, 512 if kind == nbd.WRITE_ZEROES else len(data), data, flags)
            disk.wait_for("fdatasync", before + 1)
            assert client.is_silent(0.1)
            disk.thaw("fdatasync")
            assert client.reply()[0] == 0


def test_writers_share_syncs_but_not_one_that_had_begun_before_them(disk):
    with disk.serve().client("a") as client:
        disk.freeze("fdatasync")
        client.request(nbd.WRITE, 0, data=b"x" * 512)
        disk.wait_for("fdatasync", 1)
        for i in range(1, 7):
            client.request(nbd.WRITE, i * 4096, data=b"x" * 512)
        disk.wait_for("pwrite", 7)
        time.sleep(0.1)  # the last one may not have come to wait yet
        disk.thaw("fdatasync")
        assert {client.reply()[0] for _ in range(7)} == {0}
        assert disk.count("fdatasync") in (2, 3)


def test_failed_sync_fails_all_later_writes_and_flushes_until_a_restart(disk):
    server = disk.serve()
    with server.client("a") as client:
        client.write(0, b"before")
        disk.fail("fdatasync", errno.EIO)
        assert client.call(nbd.WRITE, 0, data=b"lost?!") == nbd.EIO
        disk.heal("fdatasync")
        assert client.call(nbd.FLUSH) == nbd.EIO
        assert client.call(nbd.WRITE, 0, data=b"after!") == nbd.EIO
        assert client.call(nbd.TRIM, 0, 512) == nbd.EIO
        assert client.call(nbd.READ, 4096, 512) == 0
    with server.client("a") as client:
        assert client.call(nbd.FLUSH) == nbd.EIO
    assert server.text().count("DATA AT RISK") == 1
    assert server.stop() == 0
    with disk.serve().client("a") as client:
        client.write(0, b"again!")
        client.flush()


def test_failed_flush_is_latched_too(disk):
    with disk.serve(",durability=flush").client("a") as client:
        disk.fail("fdatasync", errno.ENOSPC)
        assert client.call(nbd.WRITE, 0, data=b"x") == 0
        assert client.call(nbd.FLUSH) == nbd.EIO
        disk.heal("fdatasync")
        assert client.call(nbd.FLUSH) == nbd.EIO
        assert client.call(nbd.WRITE, 0, data=b"x") == nbd.EIO


@pytest.mark.parametrize("error, expected", [
    (errno.ENOSPC, nbd.ENOSPC), (errno.EDQUOT, nbd.ENOSPC), (errno.EIO, nbd.EIO),
    (errno.EROFS, nbd.EIO), (errno.ESHUTDOWN, nbd.EIO)])
def test_errors_of_the_disk_have_their_number_on_the_wire(disk, error, expected):
    server = disk.serve(",on-full=error")
    with server.client("a") as client:
        disk.fail("pwrite", error)
        for _ in range(3):
            assert client.call(nbd.WRITE, 0, data=b"x" * 512) == expected
        disk.heal("pwrite")
        client.write(0, b"x" * 512)
    assert server.text().count("failed on") == 1  # the same again is not news


def test_zeroes_are_written_where_the_file_system_cannot_punch(disk):
    disk.fail("fallocate", errno.EOPNOTSUPP)
    with disk.serve(",durability=flush").client("a") as client:
        for mark in 5, MIB, 8 * MIB + 4, 8 * MIB + 5:
            client.write(mark, b"m")
        assert client.call(nbd.WRITE_ZEROES, 5, 8 * MIB) == 0
        assert client.call(nbd.WRITE_ZEROES, 20 * MIB, MIB, flags=nbd.NO_HOLE) == 0
        assert client.call(nbd.TRIM, 0, 8 * MIB) == 0
        assert [client.read(m, 1) for m in (5, MIB, 8 * MIB + 4, 8 * MIB + 5)] == [
            b"\0", b"\0", b"\0", b"m"]
    assert disk.count("pwrite") >= 4 + 8 + 1


def test_slow_request_does_not_hold_up_the_others(disk):
    with disk.serve().client("a") as client:
        disk.freeze("pwrite")
        write = client.request(nbd.WRITE, 0, data=b"x" * 512)
        disk.wait_for("pwrite", 1)
        for _ in range(20):
            assert client.read(4096, 512) == bytes(512)
        disk.thaw("pwrite")
        assert client.reply()[:2] == (0, write)


# ---- the fence -------------------------------------------------------------------------------

def ask_for_export(server, source="127.0.0.1"):
    client = server.client(source=source)
    client.send_option(nbd.OPT_GO, nbd.go_data("a"))
    return client


def test_new_connection_is_let_in_only_after_the_old_one_s_writes(disk):
    server = disk.serve()
    old = server.client("a")
    disk.freeze("pwrite")
    for _ in range(20):
        old.request(nbd.WRITE, 0, data=b"old" * 1000)
    disk.wait_for("pwrite", 8)
    old.close()
    new = ask_for_export(server)
    assert new.is_silent(0.7)
    with server.client(source="127.0.0.2") as other, pytest.raises(Refused, match="is in use by"):
        other.go("a")
    disk.thaw("pwrite")
    start = time.monotonic()
    while new.option_reply(nbd.OPT_GO)[0] != nbd.REP_ACK:
        pass
    assert time.monotonic() - start < 1
    done = disk.count("pwrite")
    new.write(0, b"new" * 1000)
    new.flush()
    time.sleep(0.2)
    assert new.read(0, 3000) == b"new" * 1000
    assert disk.image.read_bytes()[:3000] == b"new" * 1000
    assert done <= 20 and disk.count("pwrite") == done + 1
    new.close()


def test_old_connection_that_is_still_open_is_cut_and_its_queue_dropped(disk):
    server = disk.serve()
    old = server.client("a")
    disk.freeze("pwrite")
    for _ in range(POOL + 20):
        old.request(nbd.WRITE, 0, data=b"old" * 1000)
    disk.wait_for("pwrite", POOL)
    time.sleep(0.1)
    new = ask_for_export(server)
    assert new.is_silent(0.3)
    assert old.is_closed()
    disk.thaw("pwrite")
    while new.option_reply(nbd.OPT_GO)[0] != nbd.REP_ACK:
        pass
    assert disk.count("pwrite") == POOL  # what had not begun never will
    new.write(0, b"new" * 1000)
    assert new.read(0, 3000) == b"new" * 1000
    new.close()


def test_newest_of_several_waiting_connections_gets_the_export(disk):
    server = disk.serve()
    old = server.client("a")
    disk.freeze("pwrite")
    old.request(nbd.WRITE, 0, data=b"old")
    disk.wait_for("pwrite", 1)
    first = ask_for_export(server)
    assert first.is_silent(0.2)
    second = ask_for_export(server)
    kind, text = first.option_reply(nbd.OPT_GO)
    assert kind == nbd.ERR_POLICY and b"a newer connection" in text
    assert second.is_silent(0.2)
    disk.thaw("pwrite")
    while second.option_reply(nbd.OPT_GO)[0] != nbd.REP_ACK:
        pass
    second.write(0, b"new")
    assert second.read(0, 3) == b"new"


def test_planned_stop_answers_what_is_in_flight_and_refuses_nothing(disk):
    server = disk.serve()
    client = server.client("a")
    disk.freeze("pwrite")
    for i in range(8):
        client.request(nbd.WRITE, i * 4096, data=b"x" * 4096)
    disk.wait_for("pwrite", 8)
    stopper = threading.Thread(target=server.stop)
    stopper.start()
    server.wait_for_log("told to stop")
    with pytest.raises(ConnectionError):
        socket.create_connection(server.address, 2)
    assert client.is_silent(0.2)
    disk.thaw("pwrite")
    assert {client.reply()[0] for _ in range(8)} == {0}
    assert client.is_closed()
    stopper.join()
    assert server.process.returncode == 0
    assert disk.image.read_bytes()[:8 * 4096] == b"x" * 8 * 4096


def test_connection_that_waits_when_the_server_stops_is_closed_without_a_refusal(disk):
    server = disk.serve()
    old = server.client("a")
    disk.freeze("pwrite")
    old.request(nbd.WRITE, 0, data=b"old")
    disk.wait_for("pwrite", 1)
    new = ask_for_export(server)
    assert new.is_silent(0.2)
    stopper = threading.Thread(target=server.stop)
    stopper.start()
    with pytest.raises((EOFError, ConnectionError)):
        new.option_reply(nbd.OPT_GO)
    disk.thaw("pwrite")
    stopper.join()
    assert server.process.returncode == 0


# ---- SIGKILL ---------------------------------------------------------------------------------

class Writer(threading.Thread):
    """Writes numbered blocks, many in flight, and keeps a record of those acknowledged."""

    BLOCK, DEPTH = 4096, 16

    def __init__(self, client, first):
        super().__init__()
        self.client, self.next = client, first
        self.waiting, self.acknowledged, self.failure = {}, [], None

    def block(self, number):
        return struct.pack(">Q", number) * (self.BLOCK // 8)

    def run(self):
        try:
            while True:
                while len(self.waiting) < self.DEPTH:
                    cookie = self.client.request(nbd.WRITE, self.next * self.BLOCK,
                                                 data=self.block(self.next))
                    self.waiting[cookie] = self.next
                    self.next += 1
                error, cookie, _ = self.client.reply()
                assert error == 0
                self.acknowledged.append(self.waiting.pop(cookie))
        except (EOFError, ConnectionError):
            pass
        except Exception as e:  # for the test to raise
            self.failure = e


def test_twenty_kills_lose_no_acknowledged_write(tmp_path):
    image = tmp_path / "a.img"
    with open(image, "wb") as f:
        f.truncate(1 << 30)
    rng = random.Random(4)
    acknowledged, first, port, started = [], 0, 0, []
    for _ in range(20):
        before = time.monotonic()
        server = Server(tmp_path, "--export", f"a={image}", port=port)
        started.append(time.monotonic() - before)
        port = server.address[1]
        writer = Writer(server.client("a"), first)
        writer.start()
        until(lambda: len(writer.acknowledged) > 5)
        time.sleep(rng.uniform(0, 0.15))
        server.kill()
        writer.join()
        assert writer.failure is None
        acknowledged += writer.acknowledged
        first = writer.next
        with open(image, "rb") as f:
            for number in writer.acknowledged:
                f.seek(number * Writer.BLOCK)
                assert f.read(Writer.BLOCK) == writer.block(number)
    server = Server(tmp_path, "--export", f"a={image}", port=port)
    with server.client("a") as client:
        for number in acknowledged:
            assert client.read(number * Writer.BLOCK, 8) == struct.pack(">Q", number)
    assert server.stop() == 0
    assert len(acknowledged) > 100
    assert sorted(started)[10] < 1, "a restart takes long"
