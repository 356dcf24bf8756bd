# SPDX-License-Identifier: GPL-2.0-or-later
"""
The columns of bench-boot.py: one machine of one system in one fault, and what came of it. A system
passes a column when the machine does what a machine with a disk would do after a pause: it gets to
a login or writes on, no error reaches a file system, it switches itself off, and on the server
e2fsck finds nothing and every record that was acknowledged.
"""
import contextlib
import re
import shutil
import tempfile
import time

import boot_machine
import boot_systems
from boot_machine import lab
from boot_systems import FOLDER, SLOTS, WRITER, check

INIT = r"Run /init as init process"
CONNECTED = r"nbd0: detected capacity change from 0"
MOUNTED = r"EXT4-fs \(nbd0\): mounted filesystem"
REAL_INIT = r"systemd\[1\]: systemd \S+ .*running in system mode"
LOGIN = r"root@demo:~#"
GIVES_UP = (r"(\(initramfs\)|Entering emergency mode|for maintenance|end Kernel panic|"
            r"this machine cannot boot)")

KERNEL_S = 120      # from power to /init
BOOT_S = 300        # from /init to a login
RECOVERY_S = 120    # for what has to come after a fault; a login needs more
LOGIN_S = 180
QUICK_S = 5         # in which the first write has to be answered when the server is back
OFF_S = 120         # then it is taken to hang
GONE_S = 60         # the same with its server gone for good
SETTLE_ACKS = 20    # the writer is at work


class Failed(Exception):
    """The system did not pass; the text is for the table."""


class Run:
    """One machine, its server and its image."""

    def __init__(self, system, folder, append="", is_up=True):
        self.folder = folder
        self.image = folder / "root.img"
        boot_systems.run("cp", "--reflink=auto", "--sparse=always", FOLDER / "root.img", self.image)
        self.stack = contextlib.ExitStack()
        self.figures = {}
        with contextlib.ExitStack() as stack:
            self.room = stack.enter_context(contextlib.closing(boot_machine.Room(folder)))
            self.server = stack.enter_context(
                contextlib.closing(lab.Server(self.room.net, {"root": self.image})))
            self.up_at = None
            if is_up:
                self.start_server()
            self.machine = stack.enter_context(contextlib.closing(
                boot_machine.Machine(self.room, system.initrd, f"{system.append} {append}")))
            self.console, self.writer = self.machine.console, self.machine.writer
            self.stack = stack.pop_all()

    def start_server(self):
        self.server.start()
        self.up_at = time.monotonic()

    def close(self):
        self.stack.close()

    def line(self, number):
        return self.console.lines[number]

    # ---- what is waited for ------------------------------------------------------------------

    def init(self):
        """The line in which the kernel starts /init."""
        number = self.console.wait_line(INIT, KERNEL_S)
        if number is None:
            raise RuntimeError(f"the kernel did not start /init; the console ends:\n{self.tail()}")
        return number

    def reach(self, pattern, timeout, what, start=0):
        """The number of a line that has to come; a machine that gives up fails at once."""
        number = self.console.wait_text(f"{pattern}|{GIVES_UP}", timeout, start)
        if number is None:
            raise Failed(f"no {what} in {timeout:.0f} s")
        text = self.console.text().split("\n")[number]
        if not re.search(pattern, text):
            raise Failed(self.gave_up(number))
        return number

    def gave_up(self, number):
        text = self.console.text().split("\n")[number]
        at = self.line(number).at if number < len(self.console.lines) else time.monotonic()
        after = at - self.line(self.console.find(INIT)).at
        what = ("kernel panic" if "panic" in text else
                "BusyBox shell" if "(initramfs)" in text else
                "gave up" if "cannot boot" in text else "emergency shell")
        return f"{what} {after:.0f} s after /init"

    def acks(self):
        return sum(" ack " in line.text for line in self.writer.lines)

    def write_error(self):
        """The writer's own words, if it was told of an error."""
        for line in self.writer.lines:
            if re.match(r"(write|fsync|read): ", line.text):
                return line
        return None

    def writing(self):
        """Until it is logged in and the writer is at work; its acknowledgements so far."""
        self.reach(LOGIN, BOOT_S, "login")
        if not self.writer.wait(lambda: self.acks() >= SETTLE_ACKS, BOOT_S):
            raise RuntimeError(f"the writer writes nothing; the console ends:\n{self.tail()}"
                               f"{self.writer.text()[-500:]}")
        return self.acks()

    def next_ack(self, since):
        """Seconds from since (our clock) to the first acknowledgement after it."""
        def first():
            if self.write_error():
                return -1
            return next((line.at for line in self.writer.lines
                         if line.at > since and " ack " in line.text), None)

        at = self.writer.wait(first, RECOVERY_S)
        if at == -1:
            raise Failed("write error")
        if at is None:
            raise Failed(f"no write answered in {RECOVERY_S} s{self.stuck()}")
        return at - since

    def power_off(self, limit):
        """Asks in the two ways that a shell on a root that may be dead has; seconds until off."""
        asked = time.monotonic()
        self.machine.type("systemctl poweroff || kill -s RTMIN+4 1\n")
        is_off = self.machine.wait_off(OFF_S)
        took = time.monotonic() - asked
        self.figures["off_s"] = round(took, 1) if is_off else None
        if not is_off:
            raise Failed(f"poweroff hung ({OFF_S} s)")
        if took > limit:
            raise Failed(f"poweroff took {took:.0f} s")
        return took

    # ---- what is judged ----------------------------------------------------------------------

    def errors(self):
        return check.io_errors(self.console.text())

    def judge_disk(self, is_off):
        """What is wrong on the server; with is_off as after a power cut."""
        self.machine.close()
        self.server.close()
        text = "\n".join(line.text for line in self.writer.lines
                         if not re.match(r"(write|fsync|read): ", line.text))
        acks = check.Acks(text + "\n")
        problems = list(acks.problems)
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            more, readable = check.check_file_system(str(self.image), is_off, scratch)
            if more and not is_off:  # so that records are looked for all the same
                _, readable = check.check_file_system(str(self.image), True, scratch)
            self.figures["fs_clean"] = not more
            problems += more
            lost = []
            for name, known in acks.records.items():
                content = check.dump(readable, f"/root/{name}", f"{scratch}/records")
                lost += check.check_records(name, known, SLOTS, content)
        self.figures["acked"], self.figures["lost"] = acks.count(), len(lost)
        return problems + lost

    def finish(self, limit=OFF_S, is_off=False):
        """The way down that every column ends with, and the verdict on the disk."""
        problems = []
        try:
            self.power_off(limit)
        except Failed as e:
            problems.append(str(e))
        errors = self.errors()
        self.figures["io_errors"] = len(errors)
        if errors:
            problems.append(f"{len(errors)} I/O errors")
        # what hung is switched off: then its journal may have to be replayed
        disk = self.judge_disk(is_off or self.figures["off_s"] is None)
        self.figures["disk"] = disk[:5]
        if self.figures["lost"]:
            problems.append(f"{self.figures['lost']} records lost")
        elif disk:
            problems.append("file system dirty")
        if problems:
            raise Failed(", ".join(problems))

    def stuck(self):
        """The driver's own words for a request that nobody will answer."""
        is_stuck = self.console.find(r"nbd0: Possible stuck request") is not None
        return " (a request is stuck in the driver)" if is_stuck else ""

    def tail(self, count=30):
        return "\n".join(self.console.text().split("\n")[-count:])


# ---- the columns -----------------------------------------------------------------------------


def boot(run):
    """No fault: how long everything takes."""
    init = run.line(run.init())
    where = {"connected": (CONNECTED, "connection"), "mounted": (MOUNTED, "mount"),
             "real_init": (REAL_INIT, "init of the root")}
    start = 0
    for name, (pattern, what) in where.items():
        start = run.reach(pattern, BOOT_S, what, start)
        run.console.wait(lambda at=start: len(run.console.lines) > at, 10)
        line = run.line(start)
        run.figures[name] = {"guest_s": round(line.guest - init.guest, 3),
                             "cpu_s": round(line.cpu - init.cpu, 2)}
    run.reach(LOGIN, BOOT_S, "login", start)
    run.figures["login"] = {"clock_s": round(time.monotonic() - init.at, 1),
                            "cpu_s": round(run.machine.cpu() - init.cpu, 2)}
    run.figures["kernel"] = {"guest_s": init.guest, "cpu_s": init.cpu}
    run.finish()
    return f"off in {run.figures['off_s']:.1f} s, clean"


def late(run):
    """The server comes up 45 s after the machine has first asked for it."""
    run.init()
    began = time.monotonic()
    lab.wait_until(lambda: run.room.refused() or run.console.find(GIVES_UP) is not None, BOOT_S,
                   "the machine to ask for its server")
    run.figures["asked_s"] = round(time.monotonic() - began, 1)
    # a shell before that is the end of it: nobody is there who types
    number = run.console.wait_text(GIVES_UP, 45)
    if number is not None:
        raise Failed(run.gave_up(number))
    run.start_server()
    run.reach(CONNECTED, RECOVERY_S, "connection")
    run.figures["connected_s"] = time.monotonic() - run.up_at
    run.reach(LOGIN, BOOT_S, "login")
    run.finish()
    return f"connected {run.figures['connected_s']:.1f} s after the port opened"


def kill_at_mount(run):
    """The server is killed when the root is mounted, and is back after 10 s."""
    run.init()
    number = run.reach(MOUNTED, BOOT_S, "mount")
    run.server.kill()
    time.sleep(10)
    run.start_server()
    try:
        run.reach(LOGIN, LOGIN_S, "login", number)
    except Failed as e:
        raise Failed(f"{e}{run.stuck()}, {len(run.errors())} I/O errors") from e
    run.figures["login_s"] = time.monotonic() - run.up_at
    run.finish()
    return f"login {run.figures['login_s']:.0f} s after the port opened"


def _outage(run, begin, end, away_s):
    """A fault under the writer; seconds from its end to the first write that is answered."""
    run.init()
    run.writing()
    began = time.monotonic()
    begin()
    time.sleep(away_s)
    end()
    since = time.monotonic()
    failure = took = None
    try:
        took = run.figures["first_ack_s"] = run.next_ack(since)
        if took > QUICK_S:
            failure = f"first write answered {took:.1f} s after"
    except Failed as e:
        failure = str(e)
        if error := run.write_error():
            run.figures["error_s"] = round(error.at - began, 1)
            failure = f"write error {error.at - began:.1f} s after the start"
    if took is not None:
        count = run.acks()
        run.writer.wait(lambda: run.acks() >= count + SETTLE_ACKS, RECOVERY_S)
    try:
        run.finish()
    except Failed as e:
        failure = f"{failure}, {e}" if failure else str(e)
    if failure:
        raise Failed(failure)
    return f"first write answered {took:.1f} s after, {run.figures['lost']} lost"


def kill_under_writer(run):
    """kill -9 under a writer that fsyncs, back after 30 s."""
    return _outage(run, run.server.kill, run.start_server, 30)


def silent_drop(run):
    """The network drops everything for 60 s and says nothing."""
    return _outage(run, run.room.black_hole, run.room.end_black_hole, 60)


def gone(run):
    """The server is killed for good; then the machine is asked to switch itself off."""
    run.init()
    run.writing()
    run.server.kill()
    time.sleep(5)
    failure = None
    try:
        took = run.power_off(GONE_S)
    except Failed as e:
        failure = str(e)
    errors = run.errors()
    run.figures["io_errors"] = len(errors)
    disk = run.judge_disk(is_off=True)
    run.figures["disk"] = disk[:5]
    if errors:
        failure = f"{failure or 'off'}, {len(errors)} I/O errors"
    if disk:
        failure = f"{failure or 'off'}, {disk[0]}"
    if failure:
        raise Failed(failure)
    return f"off after {took:.0f} s, {run.figures['lost']} lost"


FAULTS = {
    "late server": (late, {"is_up": False}),
    "kill at mount": (kill_at_mount, {}),
    "kill under writer": (kill_under_writer, {"append": "bench.writer"}),
    "silent drop": (silent_drop, {"append": "bench.writer"}),
    "poweroff, server gone": (gone, {"append": "bench.writer"}),
}


def play(system, name):
    """One run of a column ("boot" or one of FAULTS): what goes into result.json."""
    column, options = (boot, {}) if name == "boot" else FAULTS[name]
    folder = FOLDER / "runs" / f"{system.name}-{name}".replace(", ", "-").replace(" ", "-")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    run = Run(system, folder, **options)
    try:
        try:
            is_passed, text = True, column(run)
        except Failed as e:
            is_passed, text = False, str(e)
        except (AssertionError, RuntimeError) as e:  # no verdict on the system, but no pass either
            is_passed, text = False, f"not measured: {e}"
        return {"passed": is_passed, "text": text, "figures": run.figures}
    finally:
        (folder / "console").write_text("".join(
            f"{line.at - run.machine.started:8.2f} {line.text}\n" for line in run.console.lines)
            + run.console.partial + "\n")
        (folder / "writer").write_text(run.writer.text())
        run.close()
        run.image.unlink(missing_ok=True)
