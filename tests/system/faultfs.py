# SPDX-License-Identifier: GPL-2.0-or-later
"""
faultfs (faultfs.c) in a test's hands: a folder whose files fail, stall and remember on command.
Images are made in .folder, which is the disk itself, and served from .mount. Whatever happens to
the test, nothing stays frozen and nothing stays mounted.
"""
import atexit
import os
import pathlib
import select
import struct
import subprocess
import threading
import time
from typing import NamedTuple

import pytest
from nbd import BUILD, until

EVENT = struct.Struct("=7Q")
WRITE, ZERO, SYNC = range(3)
EVER = -1
WHOLE = (1 << 64) - 1


def now_ns():
    """The clock of the record."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Event(NamedTuple):
    """What happened to the disk; a SYNC covers those of its file among the first `covers`."""
    kind: int
    node: int
    offset: int
    length: int
    data_at: int
    covers: int
    at_ns: int


class FaultFS:
    def __init__(self, tmp, record=False):
        program = BUILD / "faultfs"
        if not program.exists():
            pytest.skip("faultfs is not built (make build/faultfs)")
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            pytest.skip("/dev/fuse cannot be opened, so there is no disk that fails on command")
        home = pathlib.Path(tmp) / f"faultfs-{time.monotonic_ns()}"
        self.folder, self.mount = home / "disk", home / "mount"
        self.log, self.data = home / "log", home / "data"
        self.folder.mkdir(parents=True)
        self.mount.mkdir()
        self.lock = threading.Lock()
        self.process = subprocess.Popen(
            [program, self.folder, self.mount, *([self.log, self.data] if record else [])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        atexit.register(self.close)
        try:
            self.answer()
            until(self.mount.is_mount, what="the mount")
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Also ends a server's wait in a frozen call: with an error, as its disk is gone."""
        atexit.unregister(self.close)
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        command = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
        subprocess.run([*command, self.mount], stderr=subprocess.DEVNULL, check=False)

    # commands

    def answer(self):
        ready, _, _ = select.select([self.process.stdout], [], [], 10)
        line = self.process.stdout.readline() if ready else ""
        assert line.startswith("ok"), f"faultfs says: {line!r}"
        return line.split()[1:]

    def command(self, text):
        with self.lock:
            self.process.stdin.write(text + "\n")
            self.process.stdin.flush()
            return self.answer()

    def add(self, action, op, value=0, file="*", offset=0, length=WHOLE, count=EVER):
        return int(self.command(f"add {action} {op} {file} {offset} {length} {count} {value}")[0])

    def freeze(self, op, **where):
        """Calls of op wait until the rule, whose id this returns, is cleared."""
        return self.add("freeze", op, **where)

    def delay(self, op, ms, **where):
        return self.add("delay", op, ms, **where)

    def fail(self, op, error, **where):
        return self.add("fail", op, error, **where)

    def cut_short(self, op, size, **where):
        """At most size bytes a call."""
        return self.add("short", op, size, **where)

    def clear(self, rule="all"):
        self.command(f"clear {rule}")

    def hits(self, rule):
        return int(self.command(f"hits {rule}")[0])

    def wait_for_hits(self, rule, count):
        until(lambda: self.hits(rule) >= count, what=f"{count} hits of rule {rule}")

    def counts(self):
        """How many calls have begun and how many are done: {"read": (7, 7), ...}."""
        words = self.command("count")
        return {words[i]: (int(words[i + 1]), int(words[i + 2])) for i in range(0, 12, 3)}

    def begun(self, *ops):
        return sum(self.counts()[op][0] for op in ops)

    def frozen(self):
        return int(self.command("count")[-1])

    def is_idle(self):
        return all(begun == done for begun, done in self.counts().values())

    # images and the record

    def image(self, name, size):
        """Makes an image; returns its path as a server is to see it."""
        with open(self.folder / name, "wb") as f:
            f.truncate(size)
        return self.mount / name

    def node(self, name):
        return os.stat(self.mount / name).st_ino

    def events(self):
        return [Event(*fields) for fields in EVENT.iter_unpack(self.log.read_bytes())]
