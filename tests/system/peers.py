# SPDX-License-Identifier: GPL-2.0-or-later
"""
The servers that a wire test runs against: ours in each of its engines, and other people's where
they are installed, all with the same exports and all behind the same few methods. A peer that a
test has killed is started again for the next one; ours has to survive everything.
"""
import atexit
import functools
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess

import nbd

MIB = 1 << 20
SIZE = 192 * MIB
EXPORTS = ("rw", "ro", "cut", "guarded")
PEERS = ("nbd-server", "nbdkit", "qemu-nbd")
NOT_ALLOWED = "127.0.0.70"  # "guarded" is for 192.0.2.0/24 and 127.0.0.1


def make_images(folder):
    """What every server serves: rw is zeroes, ro and cut begin with 4 MiB of known bytes."""
    for name in EXPORTS:
        with open(folder / f"{name}.img", "wb") as f:
            f.truncate(SIZE)
            if name in ("ro", "cut"):
                f.write(random.Random(1).randbytes(4 * MIB))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def program(name):
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


@functools.cache
def version(peer):
    """"3.24" of what is installed, None if nothing is."""
    if not program(peer):
        return None
    text = subprocess.run([program(peer), "--version"], capture_output=True, text=True,
                          check=False).stdout
    return re.search(r"(\d+\.\d+(\.\d+)?)", text).group(1)


class Ours:
    """
    nbdserve in one engine; name is the engine's, or "nbdserve" where there is one only. folder is
    for what it writes, images is where the images are: the same, if not said.
    """
    is_peer = False

    def __init__(self, name, folder, images=None, prefix=(), rw_options=""):
        self.name, self.folder = name, images or folder
        self.server = nbd.Server(
            folder, "--unix", folder / "sock",
            "--export", f"rw={self.folder}/rw.img{rw_options}",
            "--export", f"ro={self.folder}/ro.img,ro",
            "--export", f"cut={self.folder}/cut.img,ro",
            "--export", f"guarded={self.folder}/guarded.img,allow=192.0.2.0/24+127.0.0.1",
            engine=None if name == "nbdserve" else name, prefix=prefix)

    def address(self, _):
        return self.server.address

    def client(self, export=None, **kwargs):
        return self.server.client(export, **kwargs)

    def raw(self, export="ro", **kwargs):
        """A client that has greeted and not yet asked for anything."""
        return nbd.Client(self.address(export), **kwargs)

    def text(self):
        return self.server.text()

    def rss_kib(self):
        return self.server.rss_kib()

    def revive(self):
        assert self.server.is_alive(), self.text()

    def stop_soon(self):
        self.server.process.send_signal(signal.SIGTERM)

    def close(self):
        assert self.server.is_alive(), self.text()
        assert self.server.stop() == 0, self.text()
        text = self.text()
        assert "ERROR: " not in text and "runtime error" not in text, text


class Peer:
    """One process for each export, but for nbd-server, which knows names."""
    is_peer = True

    def __init__(self, name, folder, images=None, prefix=()):
        self.name, self.folder, self.prefix = name, images or folder, tuple(prefix)
        self.home = folder
        self.running = {}
        atexit.register(self.close)

    def command(self, export, port):
        image = self.folder / f"{export}.img"
        pid = self.home / f"{self.name}-{export}.pid"
        ro = ["-r"] if export in ("ro", "cut") else []
        if self.name == "nbdkit":
            return ["nbdkit", "-f", "-i", "127.0.0.1", "-p", str(port), "-P", pid, *ro, "file",
                    f"file={image}"]
        if self.name == "qemu-nbd":
            return ["qemu-nbd", "-f", "raw", "-t", "-e", "0", "-b", "127.0.0.1", "-p", str(port),
                    "-x", export, "--discard=unmap", "--pid-file", pid, *ro, image]
        conf = self.home / "nbd-server.conf"
        (self.home / "guests").write_text("192.0.2.0/24\n127.0.0.1\n")
        words = [f"[generic]\nlistenaddr = 127.0.0.1\nport = {port}\nallowlist = true\n"]
        for name in EXPORTS:
            is_ro = "true" if name in ("ro", "cut") else "false"
            words.append(f"[{name}]\nexportname = {self.folder}/{name}.img\nreadonly = {is_ro}\n"
                         "flush = true\nfua = true\ntrim = true\n")
        words.append(f"authfile = {self.home}/guests\n")  # of the last one, "guarded"
        conf.write_text("".join(words))
        return ["nbd-server", "-C", conf, "-p", pid]

    def address(self, export):
        export = "all" if self.name == "nbd-server" else export
        if export not in self.running:
            self.start(export)
        return self.running[export][0]

    def start(self, export):
        port = free_port()
        command = self.command(export, port)
        pid_file = pathlib.Path(self.home / f"{self.name}-{export}.pid")
        if self.name == "nbd-server":
            pid_file = command[-1]
        pid_file.unlink(missing_ok=True)
        command[0] = program(command[0])
        with open(self.home / f"{self.name}.log", "a") as log:
            process = subprocess.Popen([*map(str, self.prefix), *map(str, command)], stdout=log,
                                       stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            nbd.until(lambda: pid_file.exists() and pid_file.read_text().strip(), what=f"{command}")
        except AssertionError:
            process.kill()
            process.wait()
            raise
        pid = process.pid
        if self.name == "nbd-server":  # becomes a daemon, in a session of its own
            process.wait()
            pid = int(pid_file.read_text())
        self.running[export] = (("127.0.0.1", port), process, pid)
        nbd.until(lambda: self.listens(port), what=f"a greeting from {self.name}")

    @staticmethod
    def listens(port):
        try:
            nbd.Client(("127.0.0.1", port), timeout=2).close()
            return True
        except OSError:
            return False

    def client(self, export=None, **kwargs):
        return self.raw(export or "ro", **kwargs).go(export) if export else self.raw(**kwargs)

    def raw(self, export="ro", **kwargs):
        return nbd.Client(self.address(export), **{"timeout": 2, **kwargs})

    def rss_kib(self, export="rw"):
        """Of the process and its children."""
        _, _, pid = self.running["all" if self.name == "nbd-server" else export]
        total = 0
        for status in pathlib.Path("/proc").glob("[0-9]*/status"):
            try:
                text = status.read_text()
            except OSError:
                continue
            ids = re.search(r"^PPid:\s+(\d+)", text, re.M).group(1), status.parent.name
            found = re.search(r"VmRSS:\s+(\d+)", text)
            if str(pid) in ids and found:
                total += int(found.group(1))
        return total

    def is_alive(self, export):
        try:
            text = pathlib.Path(f"/proc/{self.running[export][2]}/stat").read_text()
            return text.rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    def revive(self):
        for export in list(self.running):
            if not self.is_alive(export):
                self.stop(export)

    def stop_soon(self):
        for _, _, pid in self.running.values():
            os.kill(pid, signal.SIGTERM)

    def stop(self, export):
        _, process, pid = self.running.pop(export)
        try:
            os.killpg(pid, signal.SIGKILL)  # the session that it leads
        except ProcessLookupError:
            pass
        process.wait()

    def close(self):
        for export in list(self.running):
            self.stop(export)


def ours():
    """The names of our engines."""
    return [engine or "nbdserve" for engine in nbd.engines()]


def start(name, folder, **kwargs):
    return Peer(name, folder, **kwargs) if name in PEERS else Ours(name, folder, **kwargs)


def only(*names):
    """Runs a test against these only: "ours" and the peers that have what it is about."""
    def mark(function):
        function.targets = names
        return function
    return mark


def in_step(client):
    """The stream is still understood by both sides."""
    return len(client.read(0, 512)) == 512
