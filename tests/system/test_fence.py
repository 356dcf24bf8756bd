# SPDX-License-Identifier: GPL-2.0-or-later
"""
The fence, and what a stuck, full or broken disk does to whom, with the faults below the server
(faultfs.c), so that every engine meets them. The ghost write is an old connection's write that
is still in the disk's hands when the client's new connection has written and flushed: the same
script shows that other servers lose the newer data to it.
"""
import contextlib
import errno
import os
import signal
import threading
import time

import nbd
import peers
import pytest
from faultfs import FaultFS
from nbd import Client, Refused, Server, until

MIB = 1 << 20
BLOCK = 4096
SIZE = 64 * MIB
OLD, NEW = b"old!" * (BLOCK // 4), b"new!" * (BLOCK // 4)


class Disk(FaultFS):
    """A faulty disk with images a and b, and nbdserve on it."""

    def __init__(self, tmp, engine):
        super().__init__(tmp)
        self.tmp, self.engine, self.servers = tmp, engine, []
        self.image("a", SIZE)
        self.image("b", SIZE)

    def serve(self, options="", port=0):
        server = Server(self.tmp, "--export", f"a={self.mount / 'a'}{options}",
                        "--export", f"b={self.mount / 'b'}", port=port, engine=self.engine)
        self.servers.append(server)
        return server

    def content(self, offset, length=BLOCK, name="a"):
        with open(self.folder / name, "rb") as f:
            f.seek(offset)
            return f.read(length)

    def close(self):
        super().close()  # which lets go of whoever is still stuck in it
        for server in getattr(self, "servers", ()):
            server.kill()


@pytest.fixture
def disk(tmp_path, engine):
    with Disk(tmp_path, engine) as disk:
        yield disk
        disk.clear()
        for server in disk.servers:
            server.stop()
            assert "Sanitizer" not in server.text(), server.text()


# ---- the ghost write -------------------------------------------------------------------------

class Asking:
    """A new connection that has asked for an export, and may have to wait for the answer."""

    def __init__(self, address, option=nbd.OPT_GO, name="a"):
        self.client = Client(address)
        if option is not None:
            self.ask(name, option)

    def ask(self, name, option=nbd.OPT_GO):
        self.option = option
        self.client.send_option(option,
                                nbd.go_data(name) if option == nbd.OPT_GO else name.encode())

    def is_unanswered(self, seconds):
        return self.client.is_silent(seconds)

    def admitted(self):
        """Waits for it; returns the client, which can read and write now, and the seconds."""
        start = time.monotonic()
        if self.option == nbd.OPT_EXPORT_NAME:
            assert len(self.client.recv(10)) == 10
        else:
            while (kind := self.client.option_reply(nbd.OPT_GO)[0]) != nbd.REP_ACK:
                assert kind == nbd.REP_INFO
        return self.client, time.monotonic() - start


ENDINGS = {"reset": Client.reset, "close": Client.close, "open": lambda client: None}
KINDS = {"write": (nbd.WRITE, "write"), "zeroes": (nbd.WRITE_ZEROES, "fallocate"),
         "trim": (nbd.TRIM, "fallocate")}
# Each option with each of the others at least once, not all with all.
GHOSTS = [
    ("write", "reset", "write", nbd.OPT_GO), ("write", "close", "flush", nbd.OPT_EXPORT_NAME),
    ("write", "open", "write", nbd.OPT_EXPORT_NAME), ("write", "open", "flush", nbd.OPT_GO),
    ("zeroes", "reset", "flush", nbd.OPT_GO), ("zeroes", "open", "write", nbd.OPT_GO),
    ("trim", "close", "write", nbd.OPT_GO), ("trim", "reset", "flush", nbd.OPT_EXPORT_NAME),
]


@pytest.mark.parametrize("kind, ending, durability, option", GHOSTS)
def test_ghost_write_never_lands_on_newer_data(disk, kind, ending, durability, option):
    command, call = KINDS[kind]
    server = disk.serve(f",durability={durability}")
    at = 5 * MIB
    old = server.client("a")
    frozen = disk.freeze(call, file="a", offset=at, length=BLOCK)
    old.request(command, at, BLOCK, OLD if command == nbd.WRITE else b"")
    disk.wait_for_hits(frozen, 1)
    ENDINGS[ending](old)
    asking = Asking(server.address, option)
    assert asking.is_unanswered(0.4), "admitted while the old connection's write was still running"
    disk.clear(frozen)
    new, seconds = asking.admitted()
    assert seconds < 1
    assert disk.is_idle(), "something of the old connection was still running"
    new.write(at, NEW)
    new.flush()
    time.sleep(0.05)
    assert new.read(at, BLOCK) == NEW
    assert disk.content(at) == NEW
    if ending == "open":
        assert old.is_closed()
    new.close()


def test_writes_behind_the_frozen_one_are_done_or_dropped_before_the_new_connection_is_in(disk):
    server = disk.serve(",durability=flush")
    old = server.client("a")
    frozen = disk.freeze("write", file="a", offset=0, length=BLOCK)
    for i in range(64):
        old.request(nbd.WRITE, i % 16 * BLOCK, data=OLD)
    disk.wait_for_hits(frozen, 1)
    old.reset()
    asking = Asking(server.address)
    assert asking.is_unanswered(0.3)
    disk.clear(frozen)
    new, seconds = asking.admitted()
    assert seconds < 1
    begun = disk.begun("write")
    for i in range(16):
        new.write(i * BLOCK, NEW)
    new.flush()
    time.sleep(0.1)
    assert disk.begun("write") == begun + 16
    assert disk.content(0, 16 * BLOCK) == NEW * 16
    new.close()


def test_sync_of_the_old_connection_is_waited_for_too(disk):
    server = disk.serve()
    old = server.client("a")
    frozen = disk.freeze("fsync", file="a")
    old.request(nbd.WRITE, 0, data=OLD)
    disk.wait_for_hits(frozen, 1)
    old.close()
    asking = Asking(server.address)
    asking.is_unanswered(0.2)
    disk.clear(frozen)
    new, seconds = asking.admitted()
    assert seconds < 1
    new.write(0, NEW)
    assert disk.content(0) == NEW
    new.close()


def ask_with_session(server, **session):
    asking = Asking(server.address, option=None)
    assert asking.client.session("a", "52-54-00-12-34-56", **session) == nbd.REP_ACK
    asking.ask("a")
    return asking


def test_machine_that_has_rebooted_waits_for_every_connection_of_its_old_session(disk):
    server = disk.serve()
    old = [ask_with_session(server, slot=slot).admitted()[0] for slot in range(3)]
    frozen = disk.freeze("write", file="a", offset=0, length=BLOCK)
    old[1].request(nbd.WRITE, 0, data=OLD)
    disk.wait_for_hits(frozen, 1)
    for client in old:
        client.reset()
    asking = ask_with_session(server, session_id=b"\2" * 16)
    assert asking.is_unanswered(0.4)
    disk.clear(frozen)
    new, seconds = asking.admitted()
    assert seconds < 1
    new.write(0, NEW)
    new.flush()
    time.sleep(0.05)
    assert disk.content(0) == NEW
    new.close()


def test_connection_that_replaces_one_slot_waits_for_that_one_s_write_only(disk):
    server = disk.serve(",durability=flush")
    first, second = [ask_with_session(server, slot=slot).admitted()[0] for slot in range(2)]
    frozen = disk.freeze("write", file="a", offset=0, length=BLOCK)
    first.request(nbd.WRITE, 0, data=OLD)
    disk.wait_for_hits(frozen, 1)
    second.reset()
    second, seconds = ask_with_session(server, slot=1).admitted()
    assert seconds < 1
    first.reset()
    asking = ask_with_session(server, slot=0)
    assert asking.is_unanswered(0.4)
    disk.clear(frozen)
    first, seconds = asking.admitted()
    assert seconds < 1
    first.write(0, NEW)
    assert second.read(0, BLOCK) == NEW
    first.close()
    second.close()


def test_others_are_served_while_a_takeover_waits_for_the_disk(disk):
    server = disk.serve()
    old = server.client("a")
    frozen = disk.freeze("write", file="a")
    old.request(nbd.WRITE, 0, data=OLD)
    disk.wait_for_hits(frozen, 1)
    asking = Asking(server.address)
    with server.client("b") as other:
        for i in range(20):
            other.write(i * BLOCK, NEW)
        other.flush()
    assert asking.is_unanswered(0.1)
    disk.clear(frozen)
    asking.admitted()[0].close()


def hard_kill(server):
    """SIGKILL without waiting for the end, which a frozen write holds up."""
    server.process.send_signal(signal.SIGKILL)


def test_killed_server_s_last_write_keeps_its_successor_out(disk):
    first = disk.serve()
    port = first.address[1]
    old = first.client("a")
    frozen = disk.freeze("write", file="a")
    old.request(nbd.WRITE, 0, data=OLD)
    disk.wait_for_hits(frozen, 1)
    hard_kill(first)
    started = threading.Event()

    def restart():
        disk.serve(port=port)
        started.set()

    thread = threading.Thread(target=restart, daemon=True)
    thread.start()
    assert not started.wait(1), "serves an image that a dying server still writes to"
    assert disk.frozen() == 1
    disk.clear(frozen)
    assert started.wait(2), "does not go on although the dying server is gone"
    until(lambda: not first.is_alive())
    with disk.servers[-1].client("a") as new:
        new.write(0, NEW)
        new.flush()
        time.sleep(0.05)
        assert new.read(0, BLOCK) == NEW
    assert disk.content(0) == NEW


# ---- that the test can fail ------------------------------------------------------------------

class Peer(peers.Peer):
    def command(self, export, port):
        command = super().command(export, port)
        if self.name == "nbdkit":  # it would lseek(), and on FUSE that waits for the frozen write
            command.insert(1, "--filter=noextents")
        return command


@pytest.mark.parametrize("name", ["nbd-server", "nbdkit", "qemu-nbd"])
def test_same_script_shows_that_other_servers_lose_newer_data_to_a_ghost_write(name, tmp_path):
    if not peers.version(name):
        pytest.skip(f"{name} is not installed (make deps)")
    with contextlib.closing(Peer(name, tmp_path)) as peer, FaultFS(tmp_path) as disk:
        (tmp_path / "rw.img").symlink_to(disk.image("a", SIZE))
        old = peer.client("rw")
        frozen = disk.freeze("write", offset=0, length=BLOCK, count=1)
        old.request(nbd.WRITE, 0, data=OLD)
        disk.wait_for_hits(frozen, 1)
        old.reset()
        asking = Asking(peer.address("rw"), name="rw")
        assert not asking.is_unanswered(1)
        new = asking.admitted()[0]
        new.write(0, NEW)
        new.request(nbd.FLUSH)  # in the kernel it waits for the frozen write
        assert (disk.folder / "a").read_bytes()[:BLOCK] == NEW
        disk.clear(frozen)
        assert new.reply()[0] == 0
        until(disk.is_idle)
        assert (disk.folder / "a").read_bytes()[:BLOCK] == OLD, "the newer data survived"
        new.close()


# ---- how long a takeover takes ---------------------------------------------------------------

class Busy(threading.Thread):
    """Keeps 32 writes in flight until its connection ends."""

    def __init__(self, client):
        super().__init__()
        self.client, self.answered, self.failure = client, 0, None
        self.start()

    def run(self):
        sent = 0
        with contextlib.suppress(EOFError, OSError):
            while True:
                while sent - self.answered < 32:
                    self.client.request(nbd.WRITE, sent % 1024 * BLOCK, data=OLD)
                    sent += 1
                error = self.client.reply()[0]
                if error:
                    self.failure = error
                    return
                self.answered += 1


@pytest.mark.parametrize("durability", ["write", "flush"])
def test_takeover_from_a_busy_connection_takes_less_than_a_second(disk, durability):
    disk.delay("write", 5)
    disk.delay("fsync", 20)
    server = disk.serve(f",durability={durability}")
    writers = [Busy(server.client("a"))]
    worst = 0
    for _ in range(5):
        until(lambda: writers[-1].answered > 64)
        client, seconds = Asking(server.address).admitted()
        worst = max(worst, seconds)
        writers.append(Busy(client))
    client, seconds = Asking(server.address).admitted()
    client.close()
    for writer in writers:
        writer.join(5)
        assert not writer.is_alive() and writer.failure is None
    assert max(worst, seconds) < 1


def test_takeover_from_an_idle_connection_takes_less_than_a_second(disk):
    server = disk.serve()
    clients = [server.client("a")]
    for _ in range(10):
        client, seconds = Asking(server.address).admitted()
        assert seconds < 1
        clients.append(client)
    for client in clients[:-1]:
        assert client.is_closed()
    clients[-1].write(0, NEW)
    clients[-1].close()


# ---- a full disk -----------------------------------------------------------------------------

FULL = {"write": (nbd.WRITE, "write", errno.ENOSPC), "quota": (nbd.WRITE, "write", errno.EDQUOT),
        "zeroes": (nbd.WRITE_ZEROES, "fallocate", errno.ENOSPC),
        "broken": (nbd.WRITE, "write", errno.EIO)}


def change(client, command, offset):
    return client.request(command, offset, BLOCK, OLD if command == nbd.WRITE else b"")


@pytest.mark.parametrize("what", FULL)
def test_full_or_failing_disk_holds_the_write_until_it_takes_it(disk, what):
    command, call, error = FULL[what]
    server = disk.serve()
    with server.client("a") as client, server.client("b") as other:
        full = disk.fail(call, error, file="a")
        change(client, command, 0)
        disk.wait_for_hits(full, 1)
        assert client.is_silent(1), "the write must be held, not failed"
        for i in range(10):
            other.write(i * BLOCK, NEW)
        other.flush()
        read = client.request(nbd.READ, MIB, BLOCK)
        assert client.reply(BLOCK) == (0, read, bytes(BLOCK))
        shouts = [line for line in server.text().splitlines() if os.strerror(error) in line]
        assert len(shouts) == 1, f"not one line about the disk: {server.text()}"
        start = time.monotonic()
        disk.clear(full)
        assert client.reply()[0] == 0
        assert time.monotonic() - start < 2
    assert disk.content(0) == (OLD if command == nbd.WRITE else bytes(BLOCK))


def test_write_that_is_held_for_a_full_disk_is_no_ghost_after_a_takeover(disk):
    server = disk.serve()
    old = server.client("a")
    full = disk.fail("write", errno.ENOSPC, file="a")
    for i in range(8):
        old.request(nbd.WRITE, i * BLOCK, data=OLD)
    disk.wait_for_hits(full, 1)
    old.reset()
    new, seconds = Asking(server.address).admitted()
    assert seconds < 1
    hits = disk.hits(full)
    write = new.request(nbd.WRITE, 0, data=NEW)
    disk.wait_for_hits(full, hits + 1)
    disk.clear(full)
    assert new.reply()[:2] == (0, write)
    time.sleep(1.2)  # longer than held writes are tried again
    assert disk.content(0, 8 * BLOCK) == NEW + bytes(7 * BLOCK)
    new.close()


def test_planned_stop_with_a_full_disk_ends_and_tells_nobody_an_error(disk):
    server = disk.serve()
    client = server.client("a")
    full = disk.fail("write", errno.ENOSPC, file="a")
    client.request(nbd.WRITE, 0, data=OLD)
    disk.wait_for_hits(full, 1)
    server.process.send_signal(signal.SIGTERM)
    with pytest.raises((EOFError, ConnectionError)):
        client.reply()
    server.process.wait(15)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_the_client_s_to_know_where_that_is_wanted(disk, error):
    server = disk.serve(",on-full=error")
    with server.client("a") as client:
        full = disk.fail("write", error, file="a")
        assert client.call(nbd.WRITE, 0, data=OLD) == nbd.ENOSPC
        disk.clear(full)
        client.write(0, OLD)


# ---- a stuck disk ----------------------------------------------------------------------------

@pytest.mark.parametrize("command, call", [
    (nbd.READ, "read"), (nbd.WRITE, "write"), (nbd.WRITE_ZEROES, "fallocate")])
def test_stuck_disk_of_one_export_does_not_hold_up_another(disk, command, call):
    server = disk.serve()
    with server.client("a") as client, server.client("b") as other:
        frozen = disk.freeze(call, file="a")
        for i in range(200):
            client.request(command, i * BLOCK, BLOCK, OLD if command == nbd.WRITE else b"")
        disk.wait_for_hits(frozen, 1)
        time.sleep(0.2)  # whatever can get stuck is
        start = time.monotonic()
        other.write(0, NEW)
        other.flush()
        assert other.read(0, BLOCK) == NEW
        assert other.call(nbd.WRITE_ZEROES, 0, BLOCK) == 0
        with server.client(source="127.0.0.2") as third:
            assert third.option(nbd.OPT_INFO, nbd.go_data("b")) == nbd.REP_ACK
        assert time.monotonic() - start < 1
        disk.clear(frozen)
        for _ in range(200):
            assert client.reply(BLOCK if command == nbd.READ else 0)[0] == 0


# ---- a broken disk ---------------------------------------------------------------------------

def test_failed_sync_fails_every_later_flush_until_a_restart(disk):
    server = disk.serve()
    with server.client("a") as client:
        client.write(0, OLD)
        disk.fail("fsync", errno.EIO, file="a", count=1)
        assert client.call(nbd.WRITE, 0, data=NEW) == nbd.EIO
        for _ in range(2):  # the disk is well again, but what it forgot is forgotten
            assert client.call(nbd.FLUSH) == nbd.EIO
            assert client.call(nbd.WRITE, BLOCK, data=NEW) == nbd.EIO
            assert client.call(nbd.WRITE_ZEROES, BLOCK, BLOCK) == nbd.EIO
        assert client.read(2 * BLOCK, BLOCK) == bytes(BLOCK)
    with server.client("b") as other:
        other.write(0, NEW)
        other.flush()
    with server.client("a") as client:
        assert client.call(nbd.FLUSH) == nbd.EIO
    server.stop()
    with disk.serve().client("a") as client:
        client.write(0, NEW)
        client.flush()


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])  # no room for what was taken: lost
@pytest.mark.parametrize("flags", [0, nbd.FUA])
def test_failed_sync_latches_where_only_flushes_are_durable_too(disk, flags, error):
    with disk.serve(",durability=flush").client("a") as client:
        client.write(0, OLD)
        disk.fail("fsync", error, file="a", count=1)
        if flags:
            assert client.call(nbd.WRITE, 0, data=NEW, flags=nbd.FUA) == nbd.EIO
        else:
            assert client.call(nbd.FLUSH) == nbd.EIO
        assert client.call(nbd.FLUSH) == nbd.EIO
        assert client.call(nbd.WRITE, 0, data=NEW, flags=nbd.FUA) == nbd.EIO


@pytest.mark.parametrize("call, command", [("read", nbd.READ), ("write", nbd.WRITE)])
def test_broken_sector_is_an_io_error_and_nothing_else_is(disk, call, command):
    with disk.serve(",on-full=error").client("a") as client:
        broken = disk.fail(call, errno.EIO, file="a", offset=BLOCK, length=BLOCK)
        data = OLD if command == nbd.WRITE else b""
        assert client.call(command, BLOCK, BLOCK, data) == nbd.EIO
        assert client.call(command, 0, 4 * BLOCK, data * 4) == nbd.EIO
        assert client.call(command, 2 * BLOCK, BLOCK, data) == 0
        disk.clear(broken)
        assert client.call(command, BLOCK, BLOCK, data) == 0


def test_image_that_was_cut_off_below_the_server_is_an_io_error(disk):
    with disk.serve().client("a") as client:
        client.write(0, OLD)
        os.truncate(disk.folder / "a", BLOCK + 100)
        assert client.read(0, BLOCK) == OLD
        assert client.call(nbd.READ, BLOCK, BLOCK) == nbd.EIO  # 100 of 4096 bytes are there
        assert client.call(nbd.READ, 0, 64 * BLOCK) == nbd.EIO
        assert client.call(nbd.READ, MIB, BLOCK) == nbd.EIO
        assert client.read(0, BLOCK) == OLD


def test_transfers_that_the_disk_cuts_short_are_finished(disk):
    with disk.serve().client("a") as client:
        if disk.engine != "io_uring":  # there the kernel makes it an EIO, on FUSE
            disk.cut_short("write", 1000, file="a")
        disk.cut_short("read", 700, file="a")
        data = os.urandom(64 * 1024)
        client.write(4096, data)
        assert client.read(4096, len(data)) == data
        assert disk.content(4096, len(data)) == data


# ---- a planned stop --------------------------------------------------------------------------

def test_planned_stop_finishes_a_write_that_the_disk_holds_up(disk):
    server = disk.serve()
    client, idle = server.client("a"), server.client("b")
    frozen = disk.freeze("write", file="a")
    for i in range(4):
        client.request(nbd.WRITE, i * BLOCK, data=NEW)
    disk.wait_for_hits(frozen, 1)
    server.process.send_signal(signal.SIGTERM)
    assert idle.is_closed()
    assert client.is_silent(0.3)
    disk.clear(frozen)
    answers = 0
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            assert client.reply()[0] == 0
            answers += 1
    assert answers >= 1
    assert server.process.wait(5) == 0
    assert disk.content(0, 4 * BLOCK).count(b"new!") * 4 >= answers * BLOCK


def test_refusal_of_another_machine_names_the_holder_while_the_disk_is_stuck(disk):
    server = disk.serve()
    old = server.client("a")
    frozen = disk.freeze("write", file="a")
    old.request(nbd.WRITE, 0, data=OLD)
    disk.wait_for_hits(frozen, 1)
    with Client(server.address, source="127.0.0.2") as other:
        with pytest.raises(Refused, match=r"is in use by 127\.0\.0\.1"):
            other.go("a")
    disk.clear(frozen)
    assert old.reply()[0] == 0
