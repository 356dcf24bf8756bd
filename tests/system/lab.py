# SPDX-License-Identifier: GPL-2.0-or-later
"""
A laboratory for failover tests: a network namespace with a server in it and a User-Mode Linux
guest on the other end of a tap. The guest runs a real Linux kernel with the real nbd driver and
boots in a second or two. All faults come from outside: signals, links, neighbour entries.

Nothing here knows what is tested. Everything started is ended by close(), by its process id; the
namespace goes away with the process that holds it.
"""
import contextlib
import json
import os
import pathlib
import select
import shutil
import signal
import subprocess
import tempfile
import threading
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("NBDROOT_BUILD", TOP / "build")).resolve()
# e2fsck, debugfs, nbd-server: for who is not root, too
os.environ["PATH"] += ":/usr/sbin:/sbin"
NBDSERVE = BUILD / "nbdserve"
NBDROOT = BUILD / "nbdroot"
NBDCLIENT = BUILD / "nbdclient"

SERVER_IP = "10.77.0.1"
GUEST_IP = "10.77.0.2"
GUEST_MAC = "02:00:00:00:00:17"


def wait_until(condition, timeout, what):
    """
    Polls until condition() is true and returns its value; fails with what, a text or a function that
    makes one, after timeout s.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            what = what() if callable(what) else what
            raise AssertionError(f"waited {timeout} s in vain for {what}")
        time.sleep(0.02)


def end(process, sig=signal.SIGKILL):
    """Ends a process that we started, and waits for it."""
    if process.poll() is None:
        process.send_signal(sig)
    process.wait(timeout=30)


class Namespace:
    """A network namespace with nothing but lo, held by a process of its own."""

    def __init__(self):
        flags = ["--net"] if os.geteuid() == 0 else ["--net", "--map-root-user"]
        self.holder = subprocess.Popen(["unshare", *flags, "sleep", "infinity"])
        own = os.readlink("/proc/self/ns/net")
        wait_until(lambda: os.readlink(f"/proc/{self.holder.pid}/ns/net") != own, 10,
                   "the network namespace")
        self.run("ip", "link", "set", "lo", "up")

    def inside(self, *argv):
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        return ["nsenter", f"--target={self.holder.pid}", "--net", *user, "--", *map(str, argv)]

    def run(self, *argv):
        return subprocess.run(self.inside(*argv), check=True, capture_output=True, text=True)

    def close(self):
        end(self.holder)


class Network(Namespace):
    """With a tap, on whose other end a guest may be."""

    def __init__(self):
        super().__init__()
        self.run("ip", "tuntap", "add", "tap0", "mode", "tap")
        self.run("ip", "addr", "add", f"{SERVER_IP}/24", "dev", "tap0")
        self.run("ip", "link", "set", "tap0", "up")

    def black_hole(self):
        """What is sent to the guest goes to a card that is not there. No reset, no error."""
        self.run("ip", "neigh", "replace", GUEST_IP, "lladdr", "02:00:00:00:00:99", "dev", "tap0",
                 "nud", "permanent")

    def end_black_hole(self):
        self.run("ip", "neigh", "del", GUEST_IP, "dev", "tap0")


class Server:
    """
    nbdserve, or with argv another server, in a namespace or (network None) in ours; started again
    and again on the same images.
    """

    def __init__(self, network, exports, argv=None, port=10809, address=SERVER_IP):
        self.inside = network.inside if network else lambda *argv: list(map(str, argv))
        self.exports = exports
        self.argv = argv
        self.port = port
        self.address = address
        self.process = None
        self.log = tempfile.TemporaryFile()
        self.up_at = None

    def start(self):
        """Returns when it accepts connections; up_at is the wall-clock time of that."""
        ready_r, ready_w = os.pipe()
        argv = self.argv
        if argv is None:
            argv = [NBDSERVE, "--foreground", "--ready-fd", ready_w,
                    "--listen", f"{self.address}:{self.port}"]
            for name, path in self.exports.items():
                argv += ["--export", f"{name}={path}"]
        self.process = subprocess.Popen(self.inside(*argv), pass_fds=[ready_w],
                                        stdout=self.log, stderr=self.log)
        os.close(ready_w)
        if self.argv is None:
            if not select.select([ready_r], [], [], 15)[0] or os.read(ready_r, 1) != b"\n":
                raise AssertionError("nbdserve did not start: " + self.log_text())
        else:
            self.wait_port()
        self.up_at = time.time()
        os.close(ready_r)

    def wait_port(self):
        def is_open():
            return subprocess.run(
                self.inside("bash", "-c", f"exec 3<>/dev/tcp/{self.address}/{self.port}"),
                capture_output=True, check=False).returncode == 0
        wait_until(is_open, 10, "the server's port")

    def log_text(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def signal(self, sig):
        self.process.send_signal(sig)

    def kill(self):
        end(self.process)

    def close(self):
        if self.process:
            end(self.process)
        self.log.close()


def cpio_archive(entries):
    """A newc archive: (name, mode, content or link target or (major, minor))."""
    out = bytearray()

    def add(name, mode, data=b"", rdev=(0, 0)):
        nonlocal out
        encoded = name.encode() + b"\0"
        fields = [0, mode, 0, 0, 1, 0, len(data), 0, 0, *rdev, len(encoded), 0]
        out += b"070701" + b"".join(b"%08x" % f for f in fields) + encoded
        out += b"\0" * (-len(out) % 4)
        out += data + b"\0" * (-len(data) % 4)

    for name, mode, *rest in entries:
        if rest and isinstance(rest[0], tuple):
            add(name, mode, rdev=rest[0])
        else:
            add(name, mode, *rest)
    add("TRAILER!!!", 0)
    return bytes(out)


GUEST_INIT = """#!/bin/sh
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mount -t tmpfs run /run
echo on >/proc/sys/kernel/printk_devkmsg
insmod /nbd.ko nbds_max=4 max_part=0
ip link set lo up
ip addr add {ip}/24 dev vec0; ip link set vec0 up
exec /bin/guest agent /dev/tty1
"""


def uml_modules():
    trees = sorted(pathlib.Path("/usr/lib/uml/modules").iterdir())
    return trees[-1]


def add_to_initrd(initrd, path, entries):
    """Writes an initramfs with a second archive behind it, as an administrator may append one."""
    first = initrd.read_bytes()
    path.write_bytes(first + b"\0" * (-len(first) % 4) + cpio_archive(entries))
    return path


@contextlib.contextmanager
def booting(network, initrd):
    """start(append) boots a guest of this initramfs; all are ended at the end."""
    guests = []

    def start(append):
        guests.append(Guest(network, initrd=initrd, append=append))
        return guests[-1]

    try:
        yield start
    finally:
        for guest in guests:
            guest.close()


class Guest:
    """
    A User-Mode Linux machine; run() gives it shell commands, start() leaves them running. Its
    initramfs is our own, with nbdclient in it, unless another is given: then whoever starts
    "guest agent /dev/tty1" there makes it ready, see wait_ready().
    """

    def __init__(self, network, memory="192M", initrd=None, append=""):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="nbdroot-guest-"))
        self.console = open(self.folder / "console", "w+b")
        self._results = {}
        self._changed = threading.Condition()
        self._next = 0
        is_ours = initrd is None
        if is_ours:
            initrd = self.folder / "initrd"
            initrd.write_bytes(self._initramfs())
        ours, theirs = os.pipe(), os.pipe()
        argv = ["env", f"LD_PRELOAD={BUILD}/uml-xstate.so", "linux.uml", f"mem={memory}", f"initrd={initrd}", "con=null",
                "con0=null,fd:1", f"con1=fd:{ours[0]},fd:{theirs[1]}",
                f"vec0:transport=tap,ifname=tap0,depth=128,gro=1,mac={GUEST_MAC}",
                "panic=-1", "loglevel=7",
                f"uml_dir={self.folder}/uml", *append.split()]
        self.process = subprocess.Popen(
            network.inside(*argv), stdin=subprocess.DEVNULL, stdout=self.console,
            stderr=self.console, pass_fds=[ours[0], theirs[1]], start_new_session=True)
        os.close(ours[0])
        os.close(theirs[1])
        self._to = ours[1]
        self._from = os.fdopen(theirs[0], "rb", buffering=0)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if is_ours:
            self.wait_ready()

    def wait_ready(self, timeout=30):
        self._wait("ready", timeout)

    @staticmethod
    def _initramfs():
        exe, folder, link = 0o100755, 0o040755, 0o120777
        entries = [(d, folder) for d in
                   ("bin", "dev", "proc", "sys", "run", "tmp", "mnt", "mnt2", "etc")]
        entries += [("dev/console", 0o020600, (5, 1)), ("dev/null", 0o020666, (1, 3))]
        busybox = BUILD / "busybox"
        entries.append(("bin/busybox", exe, busybox.read_bytes()))
        applets = subprocess.run([busybox, "--list"], check=True, capture_output=True,
                                 text=True).stdout.split()
        entries += [(f"bin/{a}", link, b"busybox") for a in applets if a != "busybox"]
        entries.append(("bin/guest", exe, (BUILD / "guest").read_bytes()))
        entries.append(("bin/nbdclient", exe, NBDCLIENT.read_bytes()))
        for module in ("drivers/block/nbd.ko", "lib/crc-ccitt.ko", "net/ipv6/ipv6.ko"):
            path = uml_modules() / "kernel" / module
            entries.append((path.name, 0o100644, path.read_bytes()))
        entries.append(("init", exe, GUEST_INIT.format(ip=GUEST_IP).encode()))
        return cpio_archive(entries)

    def _read(self):
        pending = b""
        with contextlib.suppress(OSError, ValueError):
            while chunk := self._from.read(65536):
                pending += chunk
                while b"\n" in pending and pending.startswith(b"@"):
                    head, rest = pending.split(b"\n", 1)
                    job, status, size = head[1:].decode().split()
                    if len(rest) < int(size):
                        break
                    with self._changed:
                        self._results[job] = (int(status), rest[:int(size)].decode("utf-8", "replace"))
                        self._changed.notify_all()
                    pending = rest[int(size):]

    def _wait(self, job, timeout):
        with self._changed:
            if not self._changed.wait_for(lambda: job in self._results, timeout):
                raise AssertionError(f"the guest did not finish job {job} in {timeout} s; its "
                                     f"console ends:\n{self.log()[-3000:]}")
            return self._results[job]

    def start(self, command):
        """Starts a command; returns its job, for finish()."""
        self._next += 1
        job = str(self._next)
        os.write(self._to, f"{job} {command}\n".encode())
        return job

    def finish(self, job, timeout=30):
        """Its exit status and output."""
        return self._wait(job, timeout)

    def is_running(self, job):
        return job not in self._results

    def run(self, command, timeout=30, check=True):
        """A command's output; with check, a status other than 0 is a failure of the test."""
        status, output = self.finish(self.start(command), timeout)
        if check and status != 0:
            raise AssertionError(f"guest: {command}: exit {status}: {output}")
        return output if check else (status, output)

    def log(self):
        """All that the guest's kernel and programs wrote to its console."""
        self.console.flush()
        return (self.folder / "console").read_text(errors="replace")

    def wait_log(self, text, timeout):
        wait_until(lambda: text in self.log(), timeout, f"the console to say {text!r}; it says:\n"
                   + self.log()[-3000:])

    def io_errors(self):
        """Lines of the kernel log that no test may see."""
        words = ("I/O error", "Buffer I/O", "aborted", "EXT4-fs error", "EXT4-fs warning",
                 "JBD2: Error", "Aborting journal", "Remounting filesystem read-only", "blk_update_request")
        return [line for line in self.log().splitlines() if any(w in line for w in words)]

    def status(self, device="/dev/nbd0"):
        return json.loads(self.run(f"nbdclient status --json {device}"))[0]

    def wait_state(self, state, timeout=15, device="/dev/nbd0"):
        return wait_until(lambda: (s := self.status(device))["state"] == state and s, timeout,
                          f"the device to be {state}")

    def close(self):
        if self.process.poll() is None:
            # nsenter has become linux.uml, whose threads are processes of its session
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=30)
        self._reader.join(timeout=5)
        os.close(self._to)
        self.console.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def make_image(path, size, *options):
    """An ext3 image, by the product's own tool."""
    subprocess.run([NBDROOT, "image", "create", path, "--size", size, *options], check=True,
                   capture_output=True)
    return path


def fsck_is_clean(path):
    """e2fsck -fn's verdict on an image that was unmounted, and what it said."""
    result = subprocess.run(["e2fsck", "-fn", path], check=False, capture_output=True, text=True)
    return result.returncode == 0, result.stdout + result.stderr
