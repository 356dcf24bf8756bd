# SPDX-License-Identifier: GPL-2.0-or-later
"""
A guest of Debian's own kernel, of any release, emulated by QEMU: as lab.Guest, which it is, but for
the kernel and the card. Its network is QEMU's own, in which this machine is 10.0.2.2, so no root
is needed. It can tell this machine's time from its own.
"""
import contextlib
import lzma
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))
import lab  # noqa: E402

HOST = "10.0.2.2"
# which Linux: the folder of images/fetch-kernel.sh
KERNELS = {"5.10": "kernel-5.10", "6.1": "kernel", "6.12": "kernel-6.12"}
MODULES = ("nbd", "e1000", "crc32c_generic", "ext4")

INIT = """#!/bin/sh
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mount -t tmpfs run /run
echo on >/proc/sys/kernel/printk_devkmsg
{insmod}
ip link set lo up
ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up; ip route add default via 10.0.2.2
exec /bin/guest agent /dev/ttyS1
"""


def module_files(tree, names):
    """The modules and what they depend on, in the order in which they load."""
    depends = {}
    for line in (tree / "modules.dep").read_text().splitlines():
        path, rest = line.split(":")
        depends[path] = rest.split()
    by_name = {pathlib.Path(p).name.split(".")[0].replace("-", "_"): p for p in depends}
    order = []
    for name in names:
        path = by_name.get(name)  # None: built in
        for needed in [*reversed(depends[path]), path] if path else []:
            if needed not in order:
                order.append(needed)
    return order


def read_module(path):
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def unpacked(vmlinuz):
    """A kernel packed with xz takes a minute to unpack itself on an emulated processor."""
    start = vmlinuz.find(b"\xfd7zXZ\0")
    return lzma.LZMADecompressor().decompress(vmlinuz[start:]) if start >= 0 else vmlinuz


def initramfs(folder, programs):
    exe, directory, link = 0o100755, 0o040755, 0o120777
    entries = [(d, directory) for d in
               ("bin", "dev", "proc", "sys", "run", "tmp", "mnt", "mod")]
    entries += [("dev/console", 0o020600, (5, 1)), ("dev/null", 0o020666, (1, 3))]
    busybox = lab.BUILD / "busybox"
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True,
                             text=True).stdout.split()
    entries.append(("bin/busybox", exe, busybox.read_bytes()))
    entries += [(f"bin/{a}", link, b"busybox") for a in applets if a != "busybox"]
    entries += [(f"bin/{p.name}", exe, p.read_bytes()) for p in programs]
    insmod = []
    for path in module_files(folder / "modules", MODULES):
        name = pathlib.Path(path).name.split(".")[0]
        options = "nbds_max=8 max_part=0" if name == "nbd" else ""
        entries.append((f"mod/{name}.ko", 0o100644, read_module(folder / "modules" / path)))
        insmod.append(f"insmod /mod/{name}.ko {options}")
    entries.append(("init", exe, INIT.format(insmod="\n".join(insmod)).encode()))
    return lab.cpio_archive(entries)


class Guest(lab.Guest):
    """
    Ready when it is made. loglevel: what goes to its console; its own log has all. has_own_time:
    its clock counts its own instructions and leaps over its idle time, so that what it measures
    does not depend on how busy this machine is; its time has nothing to do with ours then.
    """

    def __init__(self, kernel, programs, loglevel=7, has_own_time=False):  # pylint: disable=super-init-not-called
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="nbdroot-guest-"))
        self.console = open(self.folder / "console", "w+b")
        self._results, self._changed, self._next = {}, threading.Condition(), 0
        tree = lab.BUILD / KERNELS[kernel]
        (self.folder / "initrd").write_bytes(initramfs(tree, programs))
        speed = ["-accel", os.environ.get("NBDROOT_ACCEL", "tcg,thread=multi"), "-smp", "2"]
        if has_own_time: # older kernels never get a second processor up in this time
            speed = ["-accel", "tcg,thread=single", "-icount", "shift=1,sleep=off", "-smp", "1"]
        (self.folder / "kernel").write_bytes(unpacked((tree / "vmlinuz").read_bytes()))
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", *speed, "-machine", "pc", "-m", "512M", "-display", "none", "-nodefaults",
             "-kernel", self.folder / "kernel", "-initrd", self.folder / "initrd",
             "-append", f"console=ttyS0 loglevel={loglevel} panic=-1 log_buf_len=4M "
             "printk.devkmsg=on net.ifnames=0",
             "-no-reboot", "-device", "virtio-rng-pci", "-netdev", "user,id=net",
             "-device", "e1000,netdev=net", "-serial", f"file:{self.folder}/console",
             "-serial", "stdio"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            start_new_session=True)
        self._to = self.process.stdin.fileno()
        self._from = self.process.stdout
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.wait_ready(900)
        except AssertionError:
            self.close()
            raise

    def _read(self):
        self._from = os.fdopen(os.dup(self.process.stdout.fileno()), "rb", buffering=0)
        super()._read()

    def clock_offset(self):
        """What to add to the guest's time to have ours: of the quickest of some answers."""
        best = None
        for _ in range(10):
            before = time.time()
            theirs = float(self.run("date +%s.%N"))
            after = time.time()
            if best is None or after - before < best[0]:
                best = (after - before, (before + after) / 2 - theirs)
        return best[1]

    def close(self):
        lab.end(self.process, signal.SIGKILL)
        self._reader.join(timeout=5)
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.stdout.close()
        self.console.close()
        subprocess.run(["rm", "-rf", self.folder], check=True)
