# SPDX-License-Identifier: GPL-2.0-or-later
"""
A trial of the slow lane: an emulated machine without a disk boots Debian's kernel and the demo root
by PXE, while its server is killed at instants of the boot; then writers, readers and rpm
transactions run, with the faults of the plan. Its root and its rpm database are on nbdserve.

The network between is QEMU's own, which ends the guest's TCP connections and makes its own to the
server: a reset of these reaches the guest as the end of its connection.
"""
import json
import pathlib
import re
import shutil
import socket
import sys
import tempfile
import threading
import time

from plan import BOOT_STEPS
from server import Server, lab
import uml

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "boot"))
import machine  # noqa: E402

BOOT_S = 900  # for a step of a boot, on a busy machine without KVM
RECOVERY_S = 180
BIN = "/run/initramfs/bin"  # in memory, so it can be run while the root is away
_initramfs_lock = threading.Lock()


def initramfs(out):
    """One for all trials of a campaign."""
    path = out / "initrd"
    with _initramfs_lock:
        if not path.exists():
            machine.make_initramfs(path)
    return path


class Lines(threading.Thread):
    """
    The machine's second serial line: copies it to a file, and learns how the guest's clock differs
    from ours (offset: ours minus its).
    """

    def __init__(self, path, to):
        super().__init__(daemon=True)
        self.path, self.to = path, to
        self.offset = None
        self.start()

    def run(self):
        with socket.socket(socket.AF_UNIX) as s, open(self.to, "ab", buffering=0) as out:
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                try:
                    s.connect(self.path)
                    break
                except OSError:
                    time.sleep(0.05)
            else:
                return
            pending = b""
            while chunk := s.recv(65536):
                now = time.time()
                out.write(chunk)
                *lines, pending = (pending + chunk).split(b"\n")
                for line in lines:
                    words = line.split()
                    if words[1:2] == [b"ack"] and len(words) == 5:
                        difference = now - float(words[4])
                        # what came without delay tells the clock
                        self.offset = min(difference, self.offset or difference)


class Trial(uml.Trial):
    def __init__(self, plan, folder):
        super().__init__(plan, folder)
        plan["where"] = "root/"
        self.private = pathlib.Path(tempfile.mkdtemp(prefix="nbdroot-qemu-"))
        self.lines = None
        self.box = self.card = self.uri = self.fallback = None

    def set_up(self):
        disks = machine.Disks(self.folder)
        here = pathlib.Path(__file__).parent
        for source in (lab.BUILD / "guest", here / "load.sh", here / "faults.sh"):
            machine.run("debugfs", "-w", "-R", f"write {source} /root/{source.name}", disks.root)
        ports = [machine.free_port(), machine.free_port()]
        self.server = Server(None, disks.exports(), [("127.0.0.1", p) for p in ports], self.folder)
        self.server.start()
        self.uri = f"nbd://{machine.HOST}:{ports[0]}"
        self.fallback = f"{machine.HOST}:{ports[1]}"
        self.box = machine.Machine(
            self.folder, initramfs(self.folder.parent.parent),
            f"root={self.uri}/root rw rpmdb={self.uri}/clients/{{mac}}/rpm "
            f"nbdroot.fallback={self.fallback}",
            # with a source of random numbers: a Debian kernel without one makes them of timers,
            # which has kept an emulated processor busy for ever
            more=["-cpu", "qemu64,+rdrand", "-qmp", f"unix:{self.private}/qmp,server=on,wait=off",
                  "-chardev", f"socket,id=acks,path={self.private}/acks,server=on,wait=off",
                  "-serial", "chardev:acks"])
        self.lines = Lines(f"{self.private}/acks", self.folder / "acks")
        self.boot()

    def boot(self):
        start = 0
        for fault in self.plan["boot"]:
            start, _, _ = self.box.wait_for(BOOT_STEPS[fault["step"]][0], BOOT_S, start)
            time.sleep(fault["after"])
            with self.outage(fault) as note:
                note["step"] = fault["step"]
                self.fault_kill(fault, note)
        # a kernel message may stand behind the prompt; no more than warnings from now on
        self.box.wait_for(r"root@demo:~#", BOOT_S, start)
        self.box.type("dmesg -n 5\n")
        self.box.wait_login(BOOT_S)

    def command(self, line, timeout=300):
        status, output = self.box.command(line, timeout)
        if status != 0:
            raise AssertionError(f"guest: {line}: exit {status}: {output}")
        return output

    def start_load(self):
        self.card = self.command("basename $(ls -d /sys/class/net/e*)").split()[-1]
        self.command("cp /root/faults.sh /run && rpm --initdb")
        self.command(f"(setsid /root/load.sh /root/{machine.PACKAGE} {self.plan['slots']} "
                     ">/run/load.log 2>&1; echo $? >/run/load.status) & sleep 1")
        self.wait_progress()

    def wait_progress(self):
        before = self.acked()
        lab.wait_until(lambda: all(n > before[name] + 3 for name, n in self.acked().items()),
                       RECOVERY_S, "I/O to go on; the console ends:\n" + self.box.tail(20))

    # ---- faults, where they are not the fast lane's -------------------------------------------

    def monitor(self, command, **arguments):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(30)
            s.connect(f"{self.private}/qmp")
            with s.makefile("rw") as f:
                f.readline()
                for line in ({"execute": "qmp_capabilities"},
                             {"execute": command, "arguments": arguments}):
                    f.write(json.dumps(line) + "\n")
                    f.flush()
                    while "return" not in (answer := json.loads(f.readline())):
                        if "error" in answer:
                            raise AssertionError(f"{command}: {answer}")

    def fault_link(self, fault, _note):
        self.monitor("set_link", name="net", up=False)
        time.sleep(fault["for"])
        self.monitor("set_link", name="net", up=True)

    def in_memory(self, *words):
        self.command(f"{BIN}/busybox sh /run/faults.sh {' '.join(map(str, words))}")

    def fault_stale(self, fault, note):
        super().fault_stale(fault | {"pick": fault["pick"] / 2}, note)

    def fault_address(self, fault, _note):
        self.in_memory("address", self.card, int(fault["for"] * 1e6))

    def fault_client(self, fault, note):
        device, export = ("nbd0", "root") if fault["pick"] < 0.5 else (
            "nbd1", f"clients/{machine.MAC.replace(':', '-')}/rpm")
        note["device"] = device
        self.in_memory("client", device, int(fault["for"] * 1e6), f"{self.uri}/{export}",
                       f"nbd://{self.fallback}/{export}")

    # ---- the end -----------------------------------------------------------------------------

    def end(self):
        self.wait_progress()
        # a transaction of after the last fault
        if self.plan["ending"] == "off":
            time.sleep(self.plan["off_after"] * 20)
            self.box.close()
        else:
            self.command(": >/run/campaign-stop; while ! [ -e /run/load.status ]; do sleep 0.2; "
                         "done; cat /run/load.log", 600)
            self.command("[ \"$(cat /run/load.status)\" = 0 ]")
            self.command("rpmdb --verifydb")
            self.box.type("dmesg -n 8; systemctl poweroff\n")
            self.box.wait_off(300)
            if "everything is written" not in self.box.text():
                raise AssertionError("the shutdown does not say that everything is written:\n"
                                     + self.box.tail(30))
        self.lines.join(timeout=30)
        self.server.terminate()

    def play(self):
        super().play()
        # the guest's clock was set to whole seconds
        for outage in self.outages:
            outage["began"] -= self.lines.offset
            outage["ended"] -= self.lines.offset

    def close(self):
        if self.box:
            (self.folder / "console").write_text(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "",
                                                        self.box.text()) + "\n")
            self.box.close()
        if self.lines:
            self.lines.join(timeout=30)
        if self.server:
            self.server.close()
        shutil.rmtree(self.private, ignore_errors=True)
        shutil.rmtree(self.folder / "tftp", ignore_errors=True)
