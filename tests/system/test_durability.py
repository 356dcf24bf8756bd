# SPDX-License-Identifier: GPL-2.0-or-later
"""
What was acknowledged is there: after SIGKILL at random instants, and after simulated power cuts.

Writers record every request with the time at which it was sent and that at which its answer had
come. Afterwards a block may hold any write that was not superseded: w is superseded by a durable
write that was sent after w had ended, which is when w was answered or its connection fenced off.
Anything else is a loss, zeroes that nobody asked for as well.

A power cut keeps what a sync had covered when the power went (faultfs records below the server
what was written and synced, and when), and of the rest any part, in blocks of 4 KiB. An answer
counts when the client had it before the cut: its clock is read after the receipt, faultfs' before
the server hears of a sync, so an error of the clock can hide a loss but not invent one. Syncs
are slowed down to make what it can hide small.
"""
import bisect
import collections
import functools
import itertools
import os
import random
import struct
import threading
import time

import faultfs
import nbd
import pytest
from faultfs import FaultFS, now_ns
from nbd import Server, until

BLOCK, BLOCKS, DEPTH = 4096, 96, 12
SIZE = BLOCK * BLOCKS
KILLS = int(os.environ.get("NBDROOT_KILLS", "10"))
CUTS = 2000
EXPORTS = ("a", "b", "c")
NEVER = 1 << 63
ZEROES = bytes(BLOCK)


# ---- what was asked for and what may be there ------------------------------------------------

@functools.cache
def pattern(version):
    return struct.pack(">QQ", 0x5645525349F4E000, version) * (BLOCK // 16)


def blocks_of(data):
    return [data[i:i + BLOCK] for i in range(0, len(data), BLOCK)]


class Op:
    """A request; version is its data's, 0 for those that leave zeroes."""

    def __init__(self, kind, first, count, version, flags):
        self.kind, self.first, self.count, self.version, self.flags = (
            kind, first, count, version, flags)
        self.sent_ns = now_ns()
        self.acked_ns = self.ended_ns = self.durable_ns = NEVER

    def blocks(self):
        return range(self.first, self.first + self.count)


class History:
    """What was asked of one image since it held `initial`."""

    def __init__(self, initial=(ZEROES,) * BLOCKS):
        self.initial, self.ops, self.flushes = initial, [], []
        self.versions = itertools.count(1)

    def acknowledged(self):
        return sum(op.acked_ns != NEVER for op in self.ops)

    def make_durable_when_acknowledged(self):
        for op in self.ops:
            op.durable_ns = op.acked_ns

    def make_durable_when_flushed(self):
        """A flush covers what was answered before it was sent."""
        sent = [flush.sent_ns for flush in self.flushes]  # which rises
        first = [NEVER]  # the earliest answer to one of the flushes from this one on
        for flush in reversed(self.flushes):
            first.append(min(first[-1], flush.acked_ns))
        first.reverse()
        for op in self.ops:
            covered_ns = first[bisect.bisect_right(sent, op.acked_ns)]
            op.durable_ns = op.acked_ns if op.flags & nbd.FUA else covered_ns


class Checker:
    """Finds the blocks of an image that hold less than they must."""

    def __init__(self, history):
        self.initial = history.initial
        by_block = [[] for _ in range(BLOCKS)]
        for op in history.ops:
            for b in op.blocks():
                by_block[b].append(op)
        # the newest first, for that is what is found most of the time
        self.zeroing = [[op for op in reversed(ops) if op.version == 0] for ops in by_block]
        self.by_version = {op.version: op for op in history.ops if op.version}
        # Per block: times at which something became durable, and when the latest of those that
        # were durable then had been sent. A trim promises no content, so it supersedes nothing.
        self.durable = []
        for ops in by_block:
            times, latest, found = [], [], 0
            for op in sorted(ops, key=lambda op: op.durable_ns):
                if op.durable_ns != NEVER and op.kind != nbd.TRIM:
                    found = max(found, op.sent_ns)
                    times.append(op.durable_ns)
                    latest.append(found)
            self.durable.append((times, latest))

    def may_hold(self, b, content, cut_ns):
        times, latest = self.durable[b]
        i = bisect.bisect_right(times, cut_ns)
        must_ns = latest[i - 1] if i else 0  # what had ended by then is superseded
        if i == 0 and content == self.initial[b]:
            return True
        if content == ZEROES:
            return any(op.sent_ns <= cut_ns and op.ended_ns >= must_ns
                       for op in self.zeroing[b])
        op = self.by_version.get(struct.unpack_from(">Q", content, 8)[0])
        return (op is not None and content == pattern(op.version) and b in op.blocks()
                and op.sent_ns <= cut_ns and op.ended_ns >= must_ns)

    def lost(self, image, cut_ns=NEVER):
        return [b for b in range(BLOCKS) if not self.may_hold(b, image[b], cut_ns)]


class Writer(threading.Thread):
    """
    Changes one export at random, DEPTH requests in flight, over itself all the time, until its
    server dies or it is told to stop. Now and then it leaves its connection behind, with all that
    is in flight, and goes on with a new one. With a slot it is one of several connections of a
    machine that share the export.
    """

    RECONNECTS = 0.003

    def __init__(self, server, name, history, seed, slot=None):
        super().__init__()
        self.server, self.name, self.history, self.slot = server, name, history, slot
        self.rng = random.Random(f"{seed} {name} {slot}")
        self.must_stop, self.failure, self.waiting = False, None, {}
        self.client = self.connect()
        self.start()

    def connect(self):
        if self.slot is None:
            return self.server.client(self.name)
        client = self.server.client()
        assert client.session(self.name, "52-54-00-12-34-56", slot=self.slot) == nbd.REP_ACK
        return client.go(self.name)

    def op(self):
        kind, flags = self.rng.choices([nbd.WRITE, nbd.WRITE_ZEROES, nbd.TRIM, nbd.FLUSH],
                                       [80, 8, 4, 8])[0], 0
        if kind == nbd.FLUSH:
            return Op(kind, 0, 0, 0, 0)
        if self.rng.random() < 0.1:
            flags = nbd.FUA
        # some blocks are written all the time
        first = self.rng.randrange(8 if self.rng.random() < 0.3 else BLOCKS)
        count = min(self.rng.choice([1, 1, 2, 4, 16]), BLOCKS - first)
        version = next(self.history.versions) if kind == nbd.WRITE else 0
        return Op(kind, first, count, version, flags)

    def send(self):
        op = self.op()
        (self.history.flushes if op.kind == nbd.FLUSH else self.history.ops).append(op)
        data = pattern(op.version) * op.count if op.version else b""
        cookie = self.client.request(op.kind, op.first * BLOCK, op.count * BLOCK, data, op.flags)
        self.waiting[cookie] = op

    def receive(self):
        error, cookie, _ = self.client.reply()
        assert error == 0
        op = self.waiting.pop(cookie)
        op.acked_ns = op.ended_ns = now_ns()

    def fenced_off(self):
        """What was in flight has ended: it never lands from now on."""
        now = now_ns()
        for op in self.waiting.values():
            op.ended_ns = now
        self.waiting.clear()

    def run(self):
        try:
            while not self.must_stop:
                while len(self.waiting) < DEPTH:
                    self.send()
                self.receive()
                if self.rng.random() < self.RECONNECTS:
                    self.rng.choice([self.client.close, self.client.reset])()
                    self.client = self.connect()
                    self.fenced_off()
            while self.waiting:
                self.receive()
        except (EOFError, OSError):
            pass
        except Exception as e:  # for join() to raise
            self.failure = e
        self.client.close()

    def join(self, timeout=30):
        super().join(timeout)
        assert not self.is_alive(), "the server does not answer"
        if self.failure:
            raise self.failure


# ---- SIGKILL ---------------------------------------------------------------------------------

def test_kills_lose_no_acknowledged_write(engine, tmp_path):
    histories = {name: History() for name in EXPORTS}
    exports = []
    for name, durability in zip(EXPORTS, ("write", "flush", "write")):
        (tmp_path / name).write_bytes(bytes(SIZE))
        exports += ["--export", f"{name}={tmp_path / name},durability={durability}"]
    rng = random.Random(f"kills {engine}")
    acknowledged = port = 0
    for kill in range(KILLS):
        server = Server(tmp_path, *exports, port=port, engine=engine)
        port = server.address[1]
        writers = [Writer(server, name, histories[name], kill) for name in EXPORTS]
        until(lambda: all(h.acknowledged() for h in histories.values()))
        time.sleep(rng.uniform(0, 0.15))
        server.kill()
        for writer in writers:
            writer.join()
            writer.fenced_off()
        # as the next client sees it
        server = Server(tmp_path, *exports, port=port, engine=engine)
        for name, history in histories.items():
            with server.client(name) as client:
                found = blocks_of(client.read(0, SIZE))
            history.make_durable_when_acknowledged()
            acknowledged += history.acknowledged()
            assert Checker(history).lost(found) == [], f"lost on {name} by kill {kill}"
            histories[name] = History(found)
            histories[name].versions = history.versions
        assert server.stop() == 0, server.text()
    print(f"{engine}: {KILLS} kills, {acknowledged} acknowledged writes, 0 lost")
    assert acknowledged > 100 * KILLS


# ---- power cuts ------------------------------------------------------------------------------

class Remains:
    """What cuts leave of one image; they have to come in the order of their time."""

    def __init__(self, fs, name):
        node, data = fs.node(name), fs.data.read_bytes()
        self.changes, syncs = [], []  # changes: (number, when, first block, blocks)
        for number, e in enumerate(fs.events()):
            if e.node != node:
                continue
            if e.kind == faultfs.SYNC:
                syncs.append(e)
            else:
                new = (data[e.data_at:e.data_at + e.length] if e.kind == faultfs.WRITE
                       else bytes(e.length))
                assert e.offset % BLOCK == e.length % BLOCK == 0
                self.changes.append((number, e.at_ns, e.offset // BLOCK, blocks_of(new)))
        self.syncs = collections.deque(syncs)
        self.n_syncs, self.n_durable, self.image = len(syncs), 0, [ZEROES] * BLOCKS

    def at(self, cut_ns, keep, rng):
        """keep: how likely a block that was not synced has reached the disk nevertheless."""
        covers = 0
        while self.syncs and self.syncs[0].at_ns <= cut_ns:
            covers = max(covers, self.syncs.popleft().covers)
        while self.n_durable < len(self.changes) and self.changes[self.n_durable][0] < covers:
            _, _, first, new = self.changes[self.n_durable]
            self.image[first:first + len(new)] = new
            self.n_durable += 1
        image = list(self.image)
        for _, at_ns, first, new in self.changes[self.n_durable:]:
            if at_ns > cut_ns:
                break
            for i, block in enumerate(new, first):
                if rng.random() < keep:
                    image[i] = block
        return image


def run_workload(fs, engine, tmp_path, durability, seconds=1.5):
    """Histories by export, after a while of writing on a disk that takes its time to sync."""
    exports = []
    for name in EXPORTS:
        exports += ["--export", f"{name}={fs.image(name, SIZE)},durability={durability}"]
    fs.delay("fsync", 4)
    server = Server(tmp_path, *exports, engine=engine)
    histories = {name: History() for name in EXPORTS}
    writers = [Writer(server, name, histories[name], "cuts") for name in EXPORTS[1:]]
    # Whether a flush covers the other connections' writes is another matter; a durable write is one.
    slots = (0, 1, 2) if durability == "write" else (None,)
    writers += [Writer(server, EXPORTS[0], histories[EXPORTS[0]], "cuts", slot) for slot in slots]
    time.sleep(seconds)
    for writer in writers:
        writer.must_stop = True
    for writer in writers:
        writer.join()
    assert server.stop() == 0, server.text()
    return histories


def cut_power(fs, histories, count=CUTS):
    """How many blocks that many cuts lose, of all images at the same instants."""
    rng = random.Random("cuts")
    acks = [op.acked_ns for h in histories.values() for op in h.ops if op.acked_ns != NEVER]
    # Right after an answer is when a promise that is not kept shows best.
    cuts = sorted(rng.choice(acks) if rng.random() < 0.5 else rng.randint(min(acks), max(acks))
                  for _ in range(count))
    lost = 0
    for name, history in histories.items():
        remains, checker = Remains(fs, name), Checker(history)
        assert remains.n_syncs > 20 and history.acknowledged() > 200
        for cut_ns in cuts:
            lost += len(checker.lost(remains.at(cut_ns, rng.choice((0, 0.5, 0.9)), rng), cut_ns))
    return lost


def report(engine, histories, lost):
    count = sum(history.acknowledged() for history in histories.values())
    print(f"{engine}: {CUTS} power cuts, {count} acknowledged writes, {lost} lost")


def test_power_cuts_lose_no_write_that_a_durable_export_acknowledged(engine, tmp_path):
    with FaultFS(tmp_path, record=True) as fs:
        histories = run_workload(fs, engine, tmp_path, "write")
        for history in histories.values():
            history.make_durable_when_acknowledged()
        lost = cut_power(fs, histories)
    report(engine, histories, lost)
    assert lost == 0


def test_power_cuts_lose_no_flushed_write_and_the_count_sees_what_was_not_flushed(engine, tmp_path):
    with FaultFS(tmp_path, record=True) as fs:
        histories = run_workload(fs, engine, tmp_path, "flush")
        for history in histories.values():
            history.make_durable_when_flushed()
        lost = cut_power(fs, histories)
        report(engine, histories, lost)
        assert lost == 0
        # The same count must be able to find losses: nobody promised these writes anything.
        for history in histories.values():
            history.make_durable_when_acknowledged()
        assert cut_power(fs, histories, 100) > 0


# ---- that the check can fail -----------------------------------------------------------------

def written(*ops):
    """A history of writes of block 0: (sent, ended, durable)."""
    history = History()
    for version, (sent, ended, durable) in enumerate(ops, 1):
        op = Op(nbd.WRITE, 0, 1, version, 0)
        op.sent_ns, op.ended_ns, op.durable_ns = sent, ended, durable
        history.ops.append(op)
    return history


@pytest.mark.parametrize("history, holds, cut, is_lost", [
    (written((1, 5, 5)), 0, 4, False),  # not durable yet
    (written((1, 5, 5)), 0, 5, True),
    (written((1, 5, 5)), 1, 5, False),
    (written((1, 5, 5), (6, NEVER, NEVER)), 2, 7, False),  # later, sent, not answered
    (written((1, 5, 5), (6, 9, 9)), 1, 8, False),
    (written((1, 5, 5), (6, 9, 9)), 1, 9, True),
    (written((1, 5, 5), (2, 9, 9)), 1, 9, False),  # side by side: either may win
    (written((1, 5, NEVER), (6, 9, 9)), 1, 9, True),  # a ghost: fenced off, and back
    (written((1, 5, 5)), 7, 9, True),  # what nobody wrote
])
def test_checker_tells_a_loss_from_what_may_be(history, holds, cut, is_lost):
    image = [pattern(holds) if holds else ZEROES, *[ZEROES] * (BLOCKS - 1)]
    assert bool(Checker(history).lost(image, cut)) == is_lost
    image[0] = pattern(1)[:BLOCK // 2] + bytes(BLOCK // 2)  # torn
    assert Checker(history).lost(image, cut) == [0]


def test_checker_does_not_take_zeroes_for_a_write():
    history = written((1, 5, 5))
    history.ops.append(Op(nbd.WRITE_ZEROES, 0, 1, 0, 0))
    history.ops[-1].sent_ns, history.ops[-1].ended_ns = 2, 4
    assert Checker(history).lost([ZEROES] * BLOCKS, 9) == []
    history.ops[0].sent_ns = 4.5  # after the zeroes had ended
    assert Checker(history).lost([ZEROES] * BLOCKS, 9) == [0]
