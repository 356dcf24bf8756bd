# SPDX-License-Identifier: GPL-2.0-or-later
"""
The judge: looks at what a trial has left in its folder and says what is wrong. It knows nothing of
how the trial was run, so a folder in which something was changed by hand is judged the same.

	plan.json    how it was to end, and with how many places for records
	acks         what the guest's load was told (tests/system/guest-load.c), and when
	console      what the guest's kernel and programs said
	root.img     the image, and rpmdb.img where there is one
"""
import contextlib
import json
import os
import re
import sqlite3
import struct
import subprocess
import tempfile

BLOCK = 4096
WORDS = BLOCK // 8
MASK = (1 << 64) - 1
ERROR_WORDS = ("I/O error", "Buffer I/O", "lost async page write", "EXT4-fs error",
               "EXT4-fs warning", "JBD2: Error", "Aborting journal", "aborted",
               "Remounting filesystem read-only", "blk_update_request", "Kernel panic",
               "BUG:", "Oops:", "Segmentation fault")
# What e2fsck -p may mend after a machine was switched off: what the kernel mends at a mount.
PREEN_MAY = re.compile(r"recovering journal|[Cc]learing orphaned inode|: clean,|"
                       r"Setting free (blocks|inodes) count|Free (blocks|inodes) count wrong|"
                       r"truncating orphaned|Truncating orphaned|\d+/\d+ files|^$")


def record(name, sequence):
    """As make_record() of guest-load.c makes it."""
    writer = 0
    for byte in name.encode():
        writer = (writer * 256 + byte) & MASK
    base = (sequence * 0x9e3779b97f4a7c15 & MASK) ^ writer
    return struct.pack(f"<{WORDS}Q", sequence, writer,
                       *((base + i) & MASK for i in range(2, WORDS)))


class Acks:
    """What was acknowledged: of each writer its records, of rpm its transactions."""

    def __init__(self, text):
        self.records = {}  # name: [(start, end)], of sequence 1 on
        self.packages = []  # (installed, is certain, time)
        self.slow = []  # (start, end) of single reads
        self.problems = []
        # the last line may have been cut short when the machine was switched off
        for line in text.replace("\r", "").split("\n")[:-1]:
            try:
                self._line(line.split())
            except (ValueError, IndexError):
                self.problems.append(f"acks: a line that makes no sense: {line[:100]!r}")

    def _line(self, words):
        if not words:
            return
        if words[1] == "ack":
            known = self.records.setdefault(words[0], [])
            if int(words[2]) != len(known) + 1:
                raise ValueError(words[2])
            known.append((float(words[3]), float(words[4])))
        elif words[1] == "wrong":
            what = "an older one: a stale write" if int(words[3]) < int(words[2]) else "lost"
            self.problems.append(f"{words[0]}: record {words[2]} was acknowledged, but later "
                                 f"{words[3]} stood in its place ({what})")
        elif words[:2] == ["probe", "slow"]:
            self.slow.append((float(words[2]), float(words[3])))
        elif words[0] == "rpm":
            if words[2] == "failed":
                self.problems.append(f"rpm: {words[1]} failed")
            self.packages.append((words[1], words[2] == "done", float(words[3])))
        else:
            raise ValueError(words[0])

    def count(self):
        return sum(map(len, self.records.values()))

    def requests(self):
        """(start, end) of all that was timed."""
        return [pair for known in self.records.values() for pair in known] + self.slow


def io_errors(console):
    return [f"console: {line.strip()[:200]}" for line in console.splitlines()
            if any(w in line for w in ERROR_WORDS)]


def e2fsck(*argv):
    # without a progress bar and questions
    result = subprocess.run(["e2fsck", *map(str, argv)], stdin=subprocess.DEVNULL, check=False,
                            capture_output=True, text=True)
    return result.returncode, result.stdout + result.stderr


def check_file_system(image, is_off, scratch):
    """Problems, and the image as it is to be read: a copy with its journal replayed, if need be."""
    problems = []
    if is_off:
        copy = os.path.join(scratch, os.path.basename(image))
        subprocess.run(["cp", "--sparse=always", image, copy], check=True)
        image = copy
        status, text = e2fsck("-p", image)
        unusual = [line for line in text.splitlines() if not PREEN_MAY.search(line)]
        if status > 1 or unusual:
            problems.append(f"e2fsck -p {os.path.basename(image)}: exit {status}: {text.strip()}")
    status, text = e2fsck("-fn", image)
    if status != 0:
        problems.append(f"e2fsck -fn {os.path.basename(image)}: exit {status}: {text.strip()}")
    return problems, image


def dump(image, path, to):
    subprocess.run(["debugfs", "-R", f"dump {path} {to}", image], check=False,
                   capture_output=True)
    with contextlib.suppress(OSError):
        with open(to, "rb") as f:
            return f.read()
    return b""


def check_records(name, known, slots, content):
    """Each place has the newest record that was acknowledged for it, or the one under way."""
    problems = []
    for slot in range(min(slots, len(known) + 1)):
        newest = len(known) - (len(known) - slot) % slots
        if newest <= 0:
            continue
        block = content[slot * BLOCK:(slot + 1) * BLOCK]
        allowed = [newest]
        if (len(known) + 1) % slots == slot:
            allowed.append(len(known) + 1)  # written, but nobody was told
        if block in (record(name, s) for s in allowed):
            continue
        found = struct.unpack("<Q", block[:8])[0] if len(block) == BLOCK else None
        what = "there is nothing" if found is None else f"there is {found}"
        if found is not None and found < newest and block == record(name, found):
            what += ", an older one: a stale write or a lost one"
        problems.append(f"{name}: record {newest} of place {slot} was acknowledged; {what}")
    return problems


def check_packages(packages, image, scratch):
    """The rpm database is whole, and says what the last acknowledged transaction did."""
    folder = os.path.join(scratch, "rpmdb")
    os.mkdir(folder)
    subprocess.run(["debugfs", "-R", f"rdump / {folder}", image], check=False, capture_output=True)
    path = os.path.join(folder, "rpmdb.sqlite")
    if not os.path.exists(path):
        return ["rpm: there is no database"]
    try:
        with contextlib.closing(sqlite3.connect(path)) as db:
            verdict = db.execute("PRAGMA integrity_check").fetchone()[0]
            rows = db.execute("SELECT count(*) FROM Name "
                              "WHERE key = 'nbdroot-hello'").fetchone()[0]
    except sqlite3.Error as e:
        return [f"rpm: its database cannot be read: {e}"]
    problems = [] if verdict == "ok" else [f"rpm: PRAGMA integrity_check: {verdict}"]
    done = [i for i, p in enumerate(packages) if p[1]]
    last = packages[done[-1]][0] if done else "erase"
    # one that had begun when the machine was switched off may be there or not
    under_way = bool(packages) and not packages[-1][1]
    if not under_way and rows != (last == "install"):
        problems.append(f"rpm: the last acknowledged transaction was {last} "
                        f"({len(done)} of them), but the database has {rows} such packages")
    return problems


def check(folder):
    """What is wrong with the trial in this folder (nothing: []), and what was counted."""
    def text(name):
        with open(os.path.join(folder, name), errors="replace") as f:
            return f.read()

    plan = json.loads(text("plan.json"))
    acks = Acks(text("acks"))
    problems = io_errors(text("console")) + acks.problems
    is_off = plan["ending"] == "off"
    with tempfile.TemporaryDirectory(prefix="nbdroot-check-") as scratch:
        for image in ("root.img", "rpmdb.img"):
            path = os.path.join(folder, image)
            if not os.path.exists(path):
                continue
            more, readable = check_file_system(path, is_off, scratch)
            problems += more
            if image == "rpmdb.img":
                problems += check_packages(acks.packages, readable, scratch)
                continue
            for name, known in sorted(acks.records.items()):
                content = dump(readable, f"/{plan.get('where', '')}{name}",
                               os.path.join(scratch, name))
                problems += check_records(name, known, plan["slots"], content)
    return problems, {"records": acks.count(),
                      "transactions": sum(p[1] for p in acks.packages)}, acks
