# SPDX-License-Identifier: GPL-2.0-or-later
"""
A diskless machine: QEMU without a disk, which boots by PXE from a TFTP folder through QEMU's own
user network (no root needed), and whose serial console is read line by line with the time of
each, and typed at.

Emulated unless NBDROOT_ACCEL names an accelerator: /dev/kvm may exist and never run a kernel.
"""
import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))
import lab  # noqa: E402

MAC = "52:54:00:12:34:56"
HOST = "10.0.2.2"  # this machine, as the guest sees it
PXELINUX = pathlib.Path("/usr/lib/PXELINUX/pxelinux.0")
LDLINUX = pathlib.Path("/usr/lib/syslinux/modules/bios/ldlinux.c32")
PACKAGE = "nbdroot-hello-1.0-1.noarch.rpm"
DRIVERS = "virtio_net,virtio_pci,e1000,e1000e,r8169"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def run(*argv):
    result = subprocess.run(list(map(str, argv)), capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, argv))}: exit {result.returncode}: "
                             f"{result.stdout}{result.stderr}")
    return result.stdout


def make_initramfs(path, drivers=DRIVERS):
    """With the product's own tool, for Debian's unmodified kernel."""
    return run(lab.NBDROOT, "initramfs", "-o", path, "--modules", lab.BUILD / "kernel/modules",
               "--drivers", drivers)


class Disks:
    """The server's images: a root with rpm in it and a package, and an empty rpm database."""

    def __init__(self, folder):
        self.root = folder / "root.img"
        self.rpmdb = folder / "rpmdb.img"
        run("cp", "--sparse=always", lab.BUILD / "demo-root.img", self.root)
        # the machine has no network of its own to fetch it by
        run("debugfs", "-w", "-R",
            f"write {lab.BUILD}/demo-package/{PACKAGE} /root/{PACKAGE}", self.root)
        run(lab.NBDROOT, "image", "create", self.rpmdb, "--size", "64M", "--label", "rpmdb")

    def exports(self):
        return {"root": self.root, f"clients/{MAC.replace(':', '-')}/rpm": self.rpmdb}

    def check(self):
        """e2fsck -fn of both, as they are: {name: (is clean, text)}."""
        results = {}
        for path in (self.root, self.rpmdb):
            r = subprocess.run(["e2fsck", "-fn", path], capture_output=True, text=True,
                               check=False)
            results[path.name] = (r.returncode == 0, r.stdout + r.stderr)
        return results


class Console:
    """
    A process whose output is a machine's serial console. Lines come with seconds since its start.
    """

    def __init__(self, argv):
        self.lines = []
        self._partial = ""
        self._changed = threading.Condition()
        self._commands = 0
        self.started = time.monotonic()
        self.process = subprocess.Popen(list(map(str, argv)), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def now(self):
        return time.monotonic() - self.started

    def _read(self):
        while chunk := os.read(self.process.stdout.fileno(), 65536):
            with self._changed:
                self._partial += chunk.decode("utf-8", "replace")
                *whole, self._partial = self._partial.split("\n")
                for line in whole:
                    self.lines.append((self.now(), line.rstrip("\r")))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def wait_for(self, pattern, timeout, start=0, whole=False):
        """
        The first line from number start on that matches (the unfinished one counts unless whole):
        its number, time and match. Fails with the end of the console after timeout seconds.
        """
        regex = re.compile(pattern)

        def found():
            for number in range(start, len(self.lines)):
                if match := regex.search(self.lines[number][1]):
                    return number, self.lines[number][0], match
            if not whole and (match := regex.search(self._partial)):
                return len(self.lines), self.now(), match
            return None

        with self._changed:
            result = self._changed.wait_for(
                lambda: found() or (self.process.poll() is not None and "over"), timeout)
            if result == "over":
                result = found()
        if not result:
            raise AssertionError(f"the console does not say {pattern!r} in {timeout} s; it ends:\n"
                                 + self.tail())
        return result

    def tail(self, count=40):
        return "\n".join(line for _, line in self.lines[-count:]) + "\n" + self._partial

    def text(self):
        return "\n".join(line for _, line in self.lines)

    def type(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def start_command(self, command):
        """Types a shell command; returns what finish_command() needs."""
        self._commands += 1
        mark = f"done-{self._commands}"
        start = len(self.lines)
        # the mark is split so that the echo of the line does not look like the answer
        self.type(f"{command}; echo \"$?\" is-{mark[:5]}\"{mark[5:]}\"\n")
        return start, mark

    def finish_command(self, token, timeout=120):
        """Its exit status and output (without kernel messages that came between)."""
        start, mark = token
        number, _, match = self.wait_for(rf"(\d+) is-{mark}$", timeout, start, whole=True)
        # what was typed ahead of the prompt is echoed twice
        echo = max(i for i in range(start, number) if f'is-{mark[:5]}"' in self.lines[i][1])
        output = [line for _, line in self.lines[echo + 1:number]
                  if not re.match(r"\[ *\d+\.\d+\]", line)]
        return int(match.group(1)), "\n".join(output)

    def is_finished(self, token):
        start, mark = token
        return any(line.endswith(f" is-{mark}") for _, line in self.lines[start:])

    def command(self, command, timeout=120):
        return self.finish_command(self.start_command(command), timeout)

    def wait_login(self, timeout=240):
        """Until the shell on the console answers."""
        number, at, _ = self.wait_for(r"root@demo:~# ?$", timeout)
        # long lines would be wrapped; kernel messages stay, they are part of the story
        self.command("stty cols 300; bind 'set enable-bracketed-paste off' 2>/dev/null")
        return number, at

    def io_errors(self):
        words = ("I/O error", "Buffer I/O", "Aborting journal", "EXT4-fs error", "aborted",
                 "Remounting filesystem read-only")
        return [line for _, line in self.lines if any(w in line for w in words)]

    def wait_off(self, timeout=120):
        """Until it has switched itself off."""
        self.process.wait(timeout=timeout)
        self._reader.join(timeout=10)

    def close(self):
        lab.end(self.process, signal.SIGKILL)
        self._reader.join(timeout=10)
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.stdout.close()


def qemu(memory, *more, program="qemu-system-x86_64"):
    """A machine without a disk whose serial console is the process' output."""
    return [program, "-accel", os.environ.get("NBDROOT_ACCEL", "tcg,thread=multi"),
            "-machine", "pc", "-m", memory, "-smp", "2", "-display", "none", "-no-reboot",
            "-nodefaults", "-serial", "stdio", "-device", "virtio-rng-pci", *more]


class Machine(Console):
    """Switched on by its creation, behind QEMU's own network; more: arguments of QEMU."""

    def __init__(self, folder, initramfs, append, card="virtio-net-pci", memory="768M", more=()):
        tftp = folder / "tftp"
        (tftp / "pxelinux.cfg").mkdir(parents=True)
        shutil.copy(PXELINUX, tftp)
        shutil.copy(LDLINUX, tftp)
        shutil.copy(lab.BUILD / "kernel/vmlinuz", tftp / "vmlinuz")
        shutil.copy(initramfs, tftp / "initrd")
        (tftp / "pxelinux.cfg/default").write_text(
            "DEFAULT nbdroot\nLABEL nbdroot\nKERNEL vmlinuz\nINITRD initrd\nIPAPPEND 2\n"
            f"APPEND console=ttyS0,115200 {append}\n")
        super().__init__(qemu(memory, "-boot", "n",
                              "-netdev", f"user,id=net,tftp={tftp},bootfile=pxelinux.0",
                              "-device", f"{card},netdev=net,mac={MAC}", *more))
