# SPDX-License-Identifier: GPL-2.0-or-later
"""
The session option (docs/extension.md) in use: whom the server lets in beside or instead of whom,
with raw clients in each engine; and nbdclient with a real kernel, whose machine must get its
device back at once, whatever its address is by then, and never in place of another machine.
"""
import contextlib
import os
import pathlib
import socket
import struct
import subprocess
import sys
import threading
import time
from typing import NamedTuple

import faultfs
import lab
import nbd
import pytest
from nbd import Client, Refused, until

BLOCK = 4096
SIZE = 16 << 20
OLD, NEW = b"old!" * (BLOCK // 4), b"new!" * (BLOCK // 4)
MACHINE, OTHER = "52-54-00-12-34-56", "52-54-00-65-43-21"
ID, ID2, ID3 = (bytes([n]) * 16 for n in (1, 2, 3))
ELSEWHERE = "127.0.0.2"  # another address than a raw client's 127.0.0.1


class Running:
    """nbdserve, and new ones after it, with exports a and b."""

    def __init__(self, folder, engine):
        self.folder, self.engine, self.servers, self.disk = folder, engine, [], folder
        for name in ("a", "b"):
            self.make(name)

    def make(self, name):
        with open(self.disk / name, "wb") as f:
            f.truncate(SIZE)

    def start(self, *exports):
        exports = exports or [f"{name}={self.disk / name}" for name in ("a", "b")]
        server = nbd.Server(self.folder, *(word for e in exports for word in ("--export", e)),
                            engine=self.engine)
        self.servers.append(server)
        return server

    def close(self):
        for server in self.servers:
            server.stop()
            assert "Sanitizer" not in server.text(), server.text()


@pytest.fixture
def running(tmp_path, engine):
    with contextlib.closing(Running(tmp_path, engine)) as running:
        yield running


@pytest.fixture
def export(running):
    """A server with exports a and b."""
    return running.start()


class Verdict(NamedTuple):
    durability: int
    is_refused: int
    generation: int
    boot_id: bytes
    image_id: bytes
    holder: str


def say(server, name="a", machine=MACHINE, source=None, session_id=ID, **session):
    """A client that has said its session and has not yet asked for an export."""
    client = Client(server.address, source=source)
    client.said = client.session(name, machine, session_id, **session)
    client.verdict = None
    if client.replies[0][0] == nbd.OPT_SESSION:
        data = client.replies[0][1]
        version, durability, verdict, size, *rest = struct.unpack(">BBBxH2xQ16s16s", data[:48])
        assert version == 1 and len(data) == 48 + size
        client.verdict = Verdict(durability, verdict, *rest, data[48:].decode())
    return client


def join(server, name="a", source=None, **session):
    """A client that has the export, by its session."""
    client = say(server, name, source=source, **session)
    assert client.said == nbd.REP_ACK, client.replies
    return client.go(name)


def words_of_refusal(server, **session):
    """Why the session does not get the export, at whichever step it is told."""
    with say(server, **session) as client:
        if client.said == nbd.REP_ACK:
            with pytest.raises(Refused) as refusal:
                client.go("a")
            return refusal.value.text
        assert client.said == nbd.ERR_POLICY, client.replies
        return client.replies[-1][1].decode()


def join_when_free(server, **session):
    def attempt():
        client = say(server, **session)
        return client.go("a") if client.said == nbd.REP_ACK else client.close()
    return until(attempt, what="the export to be free")


# ---- the reply ---------------------------------------------------------------------------------

def test_reply_names_the_servers_boot_and_the_image_and_says_what_is_durable(running, tmp_path):
    image = lab.make_image(tmp_path / "ext.img", "16M")
    uuid = image.read_bytes()[1024 + 0x68:][:16]
    assert uuid != bytes(16)
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")
    exports = [f"w={image},durability=write", f"a={running.disk / 'a'},durability=flush"]
    seen = []
    for _ in range(2):
        server = running.start(*exports)
        with say(server, "w") as client:
            seen.append(client.verdict)
            assert client.verdict[:2] == (0, 0) and client.verdict.holder == ""
        with say(server, "a") as client:
            assert client.verdict[:2] == (1, 0)
            assert client.verdict.image_id == bytes(16)  # no file system gives it one
        server.stop()
    for verdict in seen:
        assert verdict.boot_id == bytes.fromhex(boot)
        assert verdict.image_id == uuid


def test_session_for_one_export_does_not_open_another(export):
    with say(export, "a") as client:
        assert client.option(nbd.OPT_GO, nbd.go_data("b")) == nbd.ERR_INVALID
        assert client.option(nbd.OPT_INFO, nbd.go_data("b")) == nbd.REP_ACK
        client.go("a")
        client.write(0, NEW)


def test_saying_a_session_takes_nothing_and_cuts_nobody_off(export):
    with join(export) as holder, say(export, session_id=ID2) as sayer:
        assert sayer.said == nbd.REP_ACK
        assert not holder.is_closed(0.3)
        holder.sock.settimeout(5)
        holder.write(0, NEW)


# ---- who takes over from whom ------------------------------------------------------------------

def test_same_session_from_another_address_takes_over_at_once(export):
    old = join(export)
    start = time.monotonic()
    new = join(export, source=ELSEWHERE, generation=2)
    assert time.monotonic() - start < 1
    assert old.is_closed(1)
    new.write(0, NEW)
    new.close()


def test_same_machine_with_a_new_session_takes_over_from_any_address(export):
    slots = [join(export, slot=slot) for slot in range(2)]
    start = time.monotonic()
    new = join(export, session_id=ID2, source=ELSEWHERE)
    assert time.monotonic() - start < 1
    for old in slots:
        assert old.is_closed(1)
    new.write(0, NEW)
    new.close()


def test_session_that_was_replaced_does_not_come_back(export):
    join(export, session_id=ID)
    new = join(export, session_id=ID2)
    for generation in (1, 2, 1000):
        for source in (None, ELSEWHERE):
            words = words_of_refusal(export, session_id=ID, generation=generation, source=source)
            assert "newer" in words
    new.write(0, NEW)  # it was not disturbed
    newest = join(export, session_id=ID3)
    assert new.is_closed(1)
    newest.close()
    # not even when nobody is there
    join_when_free(export, session_id=ID3, generation=2).close()
    for old in (ID, ID2):
        assert "newer" in words_of_refusal(export, session_id=old, generation=3)


def test_lower_generation_is_refused_and_leaves_the_connection_usable(export):
    holder = join(export, generation=5)
    for slot in (0, 1):
        with say(export, generation=4, slot=slot) as late:
            kind = late.said if late.said != nbd.REP_ACK else late.option(nbd.OPT_GO,
                                                                        nbd.go_data("a"))
            assert kind == nbd.ERR_POLICY
            assert "something newer" in late.replies[-1][1].decode()
            # in sync: another question is answered, and another export is to be had
            assert late.option(nbd.OPT_INFO, nbd.go_data("a")) == nbd.REP_ACK
            assert late.session("b", MACHINE, ID, generation=4) == nbd.REP_ACK
            late.go("b")
            late.write(0, NEW)
    holder.write(0, NEW)
    holder.close()


def test_newer_connection_of_a_slot_takes_over_from_that_slot_alone(export):
    first, second = join(export, slot=0), join(export, slot=1)
    again = join(export, slot=1, source=ELSEWHERE)
    assert second.is_closed(1)
    first.write(0, OLD)
    again.write(BLOCK, NEW)
    assert first.read(BLOCK, BLOCK) == NEW
    for client in (first, again):
        client.close()


def test_connections_of_one_generation_hold_a_writable_export_together(export):
    clients = [join(export, slot=slot, source=source)
               for slot, source in ((0, None), (1, None), (7, ELSEWHERE))]
    for number, client in enumerate(clients):
        assert client.flags & nbd.FLAG_MULTI_CONN
        assert not client.flags & nbd.FLAG_READ_ONLY
        client.write(number * BLOCK, NEW)
    for client in clients:
        assert client.read(0, 3 * BLOCK) == NEW * 3
    # without a session there are no slots, and nobody may think that there are
    for client in clients:
        client.close()
    with export.client("a") as alone:
        assert not alone.flags & nbd.FLAG_MULTI_CONN


# ---- with a disk that fails --------------------------------------------------------------------

class OnFaultyDisk(Running):
    def __init__(self, folder, engine):
        self.fs = faultfs.FaultFS(folder, record=True)
        super().__init__(folder, engine)
        self.disk = self.fs.mount
        for name in ("a", "b"):
            self.fs.image(name, SIZE)

    def close(self):
        self.fs.clear()
        try:
            super().close()
        finally:
            self.fs.close()


@pytest.fixture
def faulty(tmp_path, engine):
    with contextlib.closing(OnFaultyDisk(tmp_path, engine)) as faulty:
        yield faulty


class Asking:
    """GO from a client that has said its session, to be answered when the server sees fit."""

    def __init__(self, server, **session):
        self.client = say(server, **session)
        assert self.client.said == nbd.REP_ACK
        self.client.send_option(nbd.OPT_GO, nbd.go_data("a"))

    def admitted(self):
        start = time.monotonic()
        while (kind := self.client.option_reply(nbd.OPT_GO)[0]) != nbd.REP_ACK:
            assert kind == nbd.REP_INFO
        return self.client, time.monotonic() - start


NEXT = {"the same machine's next generation": {"generation": 2},
        "that, from another address": {"generation": 2, "source": ELSEWHERE},
        "the same slot": {"slot": 1},
        "a new session": {"session_id": ID2, "source": ELSEWHERE}}


@pytest.mark.parametrize("session", NEXT.values(), ids=NEXT)
def test_newcomer_waits_for_the_end_of_a_write_of_whom_it_replaces(faulty, session):
    server = faulty.start()
    old = [join(server, slot=slot) for slot in range(2)]
    frozen = faulty.fs.freeze("write", file="a", offset=0, length=BLOCK)
    for _ in range(4):
        old[1].request(nbd.WRITE, 0, data=OLD)
    faulty.fs.wait_for_hits(frozen, 1)
    asking = Asking(server, **session)
    assert asking.client.is_silent(0.5), "admitted while a write of the replaced one was running"
    assert old[1].is_closed(1)
    assert old[0].is_closed(0.2) == ("slot" not in session)
    faulty.fs.clear(frozen)
    new, seconds = asking.admitted()
    assert seconds < 1
    assert faulty.fs.is_idle()
    new.write(0, NEW)
    new.flush()
    time.sleep(0.1)
    assert new.read(0, BLOCK) == NEW
    assert (faulty.fs.folder / "a").read_bytes()[:BLOCK] == NEW
    new.close()


def test_slots_of_a_new_generation_all_wait_and_all_get_in(faulty):
    server = faulty.start()
    old = [join(server, slot=slot) for slot in range(3)]
    frozen = faulty.fs.freeze("write", file="a", offset=0, length=BLOCK)
    old[2].request(nbd.WRITE, 0, data=OLD)
    faulty.fs.wait_for_hits(frozen, 1)
    asking = [Asking(server, generation=2, slot=slot) for slot in range(3)]
    for one in asking:
        assert one.client.is_silent(0.2)
    faulty.fs.clear(frozen)
    new = [one.admitted()[0] for one in asking]
    for number, client in enumerate(new):
        client.write(number * BLOCK, NEW)
    assert new[0].read(0, 3 * BLOCK) == NEW * 3
    for client in new:
        client.close()


def test_still_newer_generation_is_the_one_that_gets_in(faulty):
    server = faulty.start()
    old = join(server)
    frozen = faulty.fs.freeze("write", file="a", offset=0, length=BLOCK)
    old.request(nbd.WRITE, 0, data=OLD)
    faulty.fs.wait_for_hits(frozen, 1)
    second, third = Asking(server, generation=2), Asking(server, generation=3)
    kind, words = second.client.option_reply(nbd.OPT_GO)
    assert kind == nbd.ERR_POLICY and b"newer" in words
    assert third.client.is_silent(0.2)
    faulty.fs.clear(frozen)
    new, seconds = third.admitted()
    assert seconds < 1
    new.write(0, NEW)
    assert (faulty.fs.folder / "a").read_bytes()[:BLOCK] == NEW
    new.close()


def test_flush_of_one_slot_covers_what_another_one_wrote(faulty):
    fs = faulty.fs
    server = faulty.start(f"a={faulty.disk / 'a'},durability=flush")
    writer, flusher = join(server, slot=0), join(server, slot=1)
    writer.write(5 * BLOCK, NEW)
    writer.write(9 * BLOCK, NEW)
    written = [number for number, e in enumerate(fs.events()) if e.kind == faultfs.WRITE]
    assert sum(fs.events()[n].length for n in written) == 2 * BLOCK
    assert all(e.kind != faultfs.SYNC for e in fs.events()), "the flush would prove nothing"
    flusher.flush()
    syncs = [e for e in fs.events() if e.kind == faultfs.SYNC and e.node == fs.node("a")]
    assert syncs and syncs[-1].covers > max(written)
    writer.close()
    flusher.close()


# ---- others ------------------------------------------------------------------------------------

@pytest.mark.parametrize("source", [None, ELSEWHERE])
def test_another_machine_is_refused_and_told_who_has_the_export(export, source):
    holder = join(export, host="pc07")
    with say(export, machine=OTHER, session_id=ID2, source=source) as other:
        assert other.said == nbd.ERR_POLICY
        assert other.verdict.is_refused
        for words in (other.verdict.holder, other.replies[-1][1].decode()):
            assert "127.0.0.1" in words and "pc07" in words and MACHINE in words
        # the verdict is no promise: it is decided again
        with pytest.raises(Refused, match=f"in use by 127.0.0.1.*pc07.*{MACHINE}"):
            other.go("a")
        holder.close()
        until(lambda: other.option(nbd.OPT_GO, nbd.go_data("a")) == nbd.REP_ACK,
              what="the export to be free")
        other.write(0, NEW)


@pytest.mark.parametrize("source", [None, ELSEWHERE], ids=["same address", "another address"])
def test_client_without_a_session_is_kept_out_by_one_with_and_the_reverse(export, source):
    holder = join(export, host="pc07")
    with Client(export.address, source=source) as plain:
        with pytest.raises(Refused, match=f"in use by 127.0.0.1.*pc07.*{MACHINE}"):
            plain.go("a")
        holder.close()
        until(lambda: plain.option(nbd.OPT_GO, nbd.go_data("a")) == nbd.REP_ACK,
              what="the export to be free")
        with say(export) as late:
            assert late.said == nbd.ERR_POLICY and late.verdict.is_refused
            assert (source or "127.0.0.1") in late.verdict.holder
        plain.write(0, NEW)


def test_read_only_export_is_everybodys(running):
    server = running.start(f"a={running.disk / 'a'},ro")
    clients = [join(server, session_id=ID), join(server, session_id=ID2),
               join(server, session_id=ID3, machine=OTHER, source=ELSEWHERE), server.client("a")]
    for client in clients:
        assert client.read(0, BLOCK) == bytes(BLOCK)
        client.close()


# ---- nbdclient: what it says -------------------------------------------------------------------

class Recorder(threading.Thread):
    """A server that knows no option and remembers what it was asked."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.options = []
        self.start()

    def run(self):
        with contextlib.suppress(OSError, struct.error):
            while True:
                peer = self.listener.accept()[0]
                with peer:
                    self.serve(peer)

    def serve(self, peer):
        peer.sendall(struct.pack(">QQH", nbd.MAGIC, nbd.IHAVEOPT, 3))
        peer.recv(4, socket.MSG_WAITALL)
        while head := peer.recv(16, socket.MSG_WAITALL):
            _, option, size = struct.unpack(">QII", head)
            peer.recv(size, socket.MSG_WAITALL)
            self.options.append(option)
            peer.sendall(struct.pack(">QIII", nbd.OPTION_REPLY, option, nbd.ERR_UNSUP, 0))


@pytest.mark.parametrize("command, option", [("info", nbd.OPT_INFO), ("list", nbd.OPT_LIST)])
def test_a_look_at_a_server_says_no_session(command, option):
    recorder = Recorder()
    with recorder.listener:
        subprocess.run([lab.NBDCLIENT, command, f"nbd://127.0.0.1:{recorder.port}/a"],
                       capture_output=True, check=False, timeout=20)
        until(lambda: nbd.OPT_ABORT in recorder.options or len(recorder.options) > 1)
    assert set(recorder.options) <= {option, nbd.OPT_ABORT}


# ---- nbdclient and a real kernel ---------------------------------------------------------------

URI = f"nbd://{lab.SERVER_IP}/root"
GUEST = lab.GUEST_MAC.replace(":", "-")
NEW_IP = "10.77.0.3"
# as in test_failover.py: a machine that does other things too is slower
SLACK = 1 if os.environ.get("NBDROOT_STRICT") else 2


class Intruder:
    """A raw client on the server's side of the lab, with a session of its own or none."""

    SCRIPT = """
import sys, time, nbd
client = nbd.Client((sys.argv[1], 10809))
if sys.argv[2]:
    if client.session("root", sys.argv[2], bytes([9]) * 16, "pc09") != nbd.REP_ACK:
        print("refused:", client.replies[-1][1].decode(), flush=True)
        sys.exit()
try:
    client.go("root")
    print("in", flush=True)
except nbd.Refused as e:
    print("refused:", e.text, flush=True)
sys.stdin.read()
"""

    def __init__(self, network, machine=""):
        self.process = subprocess.Popen(
            network.inside(sys.executable, "-B", "-c", self.SCRIPT, lab.SERVER_IP, machine),
            cwd=pathlib.Path(__file__).parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True)
        self.answer = self.process.stdout.readline().strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(timeout=10)


def read_once(guest, block=0):
    guest.run(f"dd if=/dev/nbd0 of=/dev/null bs=4096 count=1 skip={block} iflag=direct")


def test_attach_says_the_machines_card_and_each_reconnection_is_a_newer_generation(guest, server):
    guest.run("hostname pc17")
    guest.run(f"nbdclient attach {URI} --device /dev/nbd0")
    first = guest.status()
    assert first["machine"] == GUEST and first["session_is_known"]
    assert first["generation"] == 1 and len(first["session"]) == 32
    text = guest.run("nbdclient status")
    assert f"machine {GUEST}, session {first['session']}, generation 1\n" in text
    for outage in (1, 2):
        server.kill()
        server.start()
        lab.wait_until(lambda n=outage: guest.status()["outages"] == n, 10, "the loss")
        guest.wait_state("attached")
        read_once(guest, outage)
    last = guest.status()
    assert last["session"] == first["session"] and last["generation"] >= 3
    assert not guest.io_errors()


def test_guest_whose_address_changes_is_let_in_as_soon_as_it_asks(guest, server, image):
    """Its old connection says nothing any more; the server has not yet missed it."""
    guest.run(f"nbdclient attach {URI} --device /dev/nbd0")
    guest.run("mount -t ext3 /dev/nbd0 /mnt")
    writer = guest.start("guest write /mnt/records /tmp/acked")
    lab.wait_until(lambda: int(guest.run("cat /tmp/acked 2>/dev/null | wc -l")) > 20, 10,
                   "the first records")
    guest.run(f"ip addr flush dev vec0 && ip addr add {NEW_IP}/24 dev vec0")
    changed = time.monotonic()
    # counted and not looked for by its state, which lasts no longer than a look from here takes
    lab.wait_until(lambda: guest.status()["outages"] == 1, 15 * SLACK, "the loss to be noticed")
    noticed = time.monotonic()
    guest.wait_state("attached", 20)
    back = time.monotonic()
    outage = guest.status()["longest_outage_ms"]
    print(f"noticed {noticed - changed:.1f} s after the change of the address, back after "
          f"{back - changed:.1f} s, of which {outage} ms were for the reconnection")
    assert outage < 2000 * SLACK
    assert "in use by" not in guest.log() + server.log_text()
    before = int(guest.run("wc -l </tmp/acked"))
    lab.wait_until(lambda: int(guest.run("wc -l </tmp/acked")) > before + 5, 10, "I/O to go on")
    guest.run("kill $(cat /tmp/guest-write.pid)")
    guest.finish(writer)
    assert guest.run("guest verify /mnt/records /tmp/acked").endswith(" 0 lost\n")
    guest.run("umount /mnt && nbdclient detach /dev/nbd0")
    assert not guest.io_errors()
    server.kill()
    clean, text = lab.fsck_is_clean(image)
    assert clean, text


def test_guest_that_was_reset_gets_its_export_at_once_at_another_address(network, server):
    """The server has heard no goodbye, and its old connection may be silent for some time yet."""
    before = lab.Guest(network)
    try:
        before.run(f"nbdclient attach {URI} --device /dev/nbd0")
    finally:
        before.close()
    after = lab.Guest(network)
    try:
        after.run(f"ip addr flush dev vec0 && ip addr add {NEW_IP}/24 dev vec0")
        start = time.monotonic()
        after.run(f"nbdclient attach {URI} --device /dev/nbd0")
        assert time.monotonic() - start < 2 * SLACK
        read_once(after)
        assert not after.io_errors()
    finally:
        after.close()


@pytest.mark.parametrize("machine", ["", OTHER], ids=["without a session", "with a session"])
def test_nobody_else_gets_the_export_while_the_guest_has_it(guest, network, server, machine):
    guest.run("hostname pc17")
    guest.run(f"nbdclient attach {URI} --device /dev/nbd0")
    with Intruder(network, machine) as intruder:
        assert intruder.answer.startswith("refused:")
        for word in (lab.GUEST_IP, "pc17", GUEST):
            assert word in intruder.answer
    assert guest.status()["outages"] == 0
    read_once(guest)


def test_attach_to_what_another_machine_has_says_which_one_and_fails(guest, network, server):
    with Intruder(network, OTHER) as intruder:
        assert intruder.answer == "in"
        status, output = guest.run(f"nbdclient attach {URI} --device /dev/nbd0", check=False)
        assert status == 1
        assert f"is in use by {lab.SERVER_IP}" in output and f"(pc09, {OTHER})" in output
        assert "nothing is attached" in output


def test_guest_waits_for_an_export_that_another_machine_took_and_says_so_once(
        guest, network, server):
    guest.run(f"nbdclient attach {URI} --device /dev/nbd0")
    pid = guest.status()["pid"]
    guest.run(f"kill -STOP {pid}")
    server.kill()
    server.start()
    with Intruder(network, OTHER) as intruder:
        assert intruder.answer == "in"
        guest.run(f"kill -CONT {pid}")
        lab.wait_until(lambda: "in use by" in guest.status()["last_error"], 10, "the refusal")
        assert f"(pc09, {OTHER})" in guest.status()["last_error"]
        reader = guest.start("dd if=/dev/nbd0 of=/dev/null bs=4096 count=1 iflag=direct")
        time.sleep(3)
        assert guest.is_running(reader)
    status, output = guest.finish(reader, 20)
    assert status == 0, output
    assert guest.log().count("is in use by") == 1
    assert not guest.io_errors()


def test_successor_of_a_killed_nbdclient_is_a_new_session_of_the_machine(guest, server):
    guest.run(f"nbdclient attach {URI} --device /dev/nbd0")
    first = guest.status()
    guest.run(f"kill -9 {first['pid']}")
    # the live link was the first one's, of which nobody has a copy: it gets its own
    _, said = guest.run(f"nbdclient attach {URI} --device /dev/nbd0", check=False)
    assert "has a connection of its own" in said
    adopted = guest.status()
    assert adopted["session"] != first["session"] and adopted["machine"] == GUEST
    assert adopted["generation"] > 0 and adopted["session_is_known"]
    assert adopted["outages"] == 0
    read_once(guest, 3)
    assert not guest.io_errors()


def test_successor_with_a_dead_link_takes_over_from_another_address_than_it_had(guest, server):
    guest.run(f"nbdclient attach {URI} --device /dev/nbd0")
    first = guest.status()
    guest.run(f"kill -9 {first['pid']}")
    guest.run(f"ip addr flush dev vec0 && ip addr add {NEW_IP}/24 dev vec0")
    job = guest.start(f"nbdclient attach {URI} --device /dev/nbd0")
    lab.wait_until(lambda: f"{NEW_IP}:" in server.log_text(), 15, "the successor to ask")
    # the driver keeps its old connection for as long as it does not hear of its end: now it does
    guest.run(f"ip addr add {lab.GUEST_IP}/24 dev vec0")
    status, output = guest.finish(job, 30)
    assert status == 0, output
    assert "in use by" not in output + guest.log() + server.log_text()
    status = guest.status()
    assert status["session_is_known"] and status["session"] != first["session"]
    read_once(guest, 3)
    assert not guest.io_errors()


def test_server_that_knows_no_sessions_is_as_good_as_before(guest, network, image):
    server = lab.Server(network, {}, argv=["nbdkit", "-f", "-i", lab.SERVER_IP, "file", image])
    server.start()
    try:
        guest.run(f"nbdclient attach {URI} --device /dev/nbd0")
        assert not guest.status()["session_is_known"]
        server.kill()
        server.start()
        lab.wait_until(lambda: guest.status()["outages"] == 1, 10, "the loss")
        guest.wait_state("attached")
        read_once(guest)
        assert "session" not in guest.run("nbdclient status") + guest.log().split("nbd0:", 1)[1]
        assert not guest.io_errors()
    finally:
        server.close()
