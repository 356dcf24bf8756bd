# SPDX-License-Identifier: GPL-2.0-or-later
"""
The servers that are compared, each as its manual says to run it for one or several images, and a
server as a process: started on given CPUs, found ready when it greets, its CPU time with all
children's, and gone at the end whatever happens. No server gets a setting for the benchmark's
sake; where a default would make it promise less than the others (nbd-server's FLUSH), it is
switched on.
"""
import ctypes
import os
import pathlib
import shlex
import shutil
import signal
import socket
import subprocess
import time

TICK = os.sysconf("SC_CLK_TCK")
GREETING = b"NBDMAGICIHAVEOPT"
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
PID_FILE = "nbd-server.pid"
LIBC = ctypes.CDLL(None)


class Failed(Exception):
    """What a server did wrong, in words."""


class Place:
    """Where to listen: a unix socket's path, or a TCP port."""

    def __init__(self, transport, tmp):
        self.is_unix = transport == "unix"
        self.path = str(tmp / "socket")
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        if os.path.exists(self.path):
            os.unlink(self.path)

    @property
    def address(self):
        return self.path if self.is_unix else ("127.0.0.1", self.port)

    @property
    def target(self):
        return self.path if self.is_unix else f"127.0.0.1:{self.port}"


# Each takes its command, the images (export name -> path), whether to serve them read-only, the
# place, and a folder for files of its own; and returns the command line.

def nbd_server(command, images, read_only, place, tmp):
    config = tmp / "nbd-server.conf"
    lines = ["[generic]", "listenaddr = 127.0.0.1", f"port = {place.port}"]
    if place.is_unix:
        lines.append(f"unixsock = {place.path}")
    for name, path in images.items():
        lines += [f"[{name}]", f"exportname = {path}", "flush = true", "fua = true",
                  "trim = true", f"readonly = {'true' if read_only else 'false'}"]
    config.write_text("\n".join(lines) + "\n")
    # With -d it stays in the foreground, but takes a single connection.
    return [*command, "-C", str(config), "-p", str(tmp / PID_FILE)]


def nbdkit(command, images, read_only, place, tmp):
    paths = list(images.values())
    # dir= serves the files of one folder by name
    what = [f"file={paths[0]}"] if len(paths) == 1 else [f"dir={os.path.dirname(paths[0])}"]
    where = ["-U", place.path] if place.is_unix else ["-i", "127.0.0.1", "-p", str(place.port)]
    return [*command, "--foreground", "--no-fork", *where, *(["-r"] if read_only else []),
            "file", *what]


def qemu_nbd(aio):
    def build(command, images, read_only, place, tmp):
        (name, path), = images.items()
        where = ["-k", place.path] if place.is_unix else ["-b", "127.0.0.1", "-p", str(place.port)]
        return [*command, "-t", "-e", "1024", "-f", "raw", "-x", name, f"--aio={aio}",
                "--cache=writeback", *where, *(["-r"] if read_only else []), path]
    return build


def qemu_storage_daemon(aio):
    def build(command, images, read_only, place, tmp):
        where = (f"addr.type=unix,addr.path={place.path}" if place.is_unix else
                 f"addr.type=inet,addr.host=127.0.0.1,addr.port={place.port}")
        args = [*command, "--nbd-server", where + ",max-connections=0"]
        for i, (name, path) in enumerate(images.items()):
            mode = "on" if read_only else "off"
            args += ["--blockdev", f"driver=file,node-name=n{i},filename={path},aio={aio},"
                     f"read-only={mode}",
                     "--export", f"type=nbd,id=e{i},node-name=n{i},name={name},"
                     f"writable={'off' if read_only else 'on'}"]
        return args
    return build


def nbdserve(command, images, read_only, place, tmp):
    where = (["--unix", place.path] if place.is_unix else
             ["--listen", f"127.0.0.1:{place.port}"])
    # durability=flush is what the others promise: a write is safe after the next flush
    option = "ro" if read_only else "durability=flush"
    return [*command, "--foreground", *where,
            *(word for name, path in images.items()
              for word in ("--export", f"{name}={path},{option}"))]


OURS = "nbdserve"
# name -> (program, builder); qemu-nbd serves one image only: where there are more,
# qemu-storage-daemon, which is the same engine, stands in for both of its modes.
SERVERS = {
    "nbd-server": ("nbd-server", nbd_server),
    "nbdkit": ("nbdkit", nbdkit),
    "qemu-nbd/threads": ("qemu-nbd", qemu_nbd("threads")),
    "qemu-nbd/uring": ("qemu-nbd", qemu_nbd("io_uring")),
    "qsd/threads": ("qemu-storage-daemon", qemu_storage_daemon("threads")),
    "qsd/uring": ("qemu-storage-daemon", qemu_storage_daemon("io_uring")),
    OURS: (None, nbdserve),
}


def can_serve(name, is_multiple):
    if name.startswith("qemu-nbd/"):
        return not is_multiple
    return is_multiple if name == "qsd/threads" else True


def adopt_orphans():
    """Makes daemons and their left-over children this process's, to be waited for."""
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1)


class Commands:
    """Which program each server is; those that are not installed are missing."""

    def __init__(self, ours, ours_args):
        self.of = {}
        for name, (program, _) in SERVERS.items():
            if name == OURS:
                self.of[name] = [str(ours), *shlex.split(ours_args)]
            elif shutil.which(program):
                self.of[name] = [shutil.which(program)]

    def version(self, name):
        option = "-V" if name == "nbd-server" else "--version"
        done = subprocess.run([self.of[name][0], option], capture_output=True, text=True,
                              check=False)
        return (done.stdout + done.stderr).strip().split("\n")[0]


def prepare_child(cpus):
    def prepare():
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if cpus:
            os.sched_setaffinity(0, cpus)
    return prepare


def fields(pid):
    """The fields of /proc/PID/stat after the name; [0] is the state."""
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def tree(pid):
    """pid and all its descendants that are there."""
    found = [pid]
    for one in found:
        try:
            for task in pathlib.Path(f"/proc/{one}/task").glob("*/children"):
                found += map(int, task.read_text().split())
        except OSError:  # it ended just now
            pass
    return found


def cpu_s(pid):
    """
    A process's CPU time, of threads that have ended too as far as the clock tick shows it: a
    tick is too coarse for a hundred processes that have each worked for a few milliseconds.
    """
    try:
        ticks = sum(int(x) for x in fields(pid)[11:13])
        ns = sum(int(path.read_text().split()[0])
                 for path in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"))
    except (OSError, IndexError):  # a thread or all of it ended just now
        return 0
    return max(ticks / TICK, ns / 1e9)


class Server:
    """One server process (with its children) that serves images at a place."""

    def __init__(self, commands, name, images, read_only, transport, tmp, cpus=None, timeout=10):
        self.name = name
        self.place = Place(transport, tmp)
        self.log, self.pid_file = tmp / "server.log", tmp / PID_FILE
        self.pid_file.unlink(missing_ok=True)
        argv = SERVERS[name][1](commands.of[name], images, read_only, self.place, tmp)
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=prepare_child(cpus))
        self.pid = self.process.pid
        try:
            self.wait_for_greeting(time.monotonic() + timeout)
        except BaseException:
            self.stop()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def has_ended(self):
        """Looks for the daemon, where the command ended well because it became one."""
        if self.process.poll() == 0 and self.pid == self.process.pid:
            try:
                self.pid = int(self.pid_file.read_text())
            except (OSError, ValueError):
                return False  # not written yet
        return self.process.poll() not in (None, 0)

    def wait_for_greeting(self, deadline):
        while True:
            if self.has_ended():
                raise Failed(f"{self.name} ended at its start: {self.text()}")
            if self.greets() and not self.has_ended():
                return
            if time.monotonic() > deadline:
                raise Failed(f"{self.name} does not greet: {self.text()}")
            time.sleep(0.001)

    def greets(self):
        try:
            with socket.socket(socket.AF_UNIX if self.place.is_unix else socket.AF_INET) as s:
                s.settimeout(5)
                s.connect(self.place.address)
                return s.recv(16) == GREETING
        except OSError:
            return False

    def text(self):
        return self.log.read_text(errors="replace").strip()[-400:] or "(it said nothing)"

    def cpu_s(self):
        """CPU time of the process and its children."""
        return sum(map(cpu_s, tree(self.pid)))

    def memory(self):
        """(RSS in MiB, threads) of the process and its children."""
        rss = threads = 0
        for pid in tree(self.pid):
            try:
                status = pathlib.Path(f"/proc/{pid}/status").read_text()
            except OSError:  # it ended just now
                continue
            for line in status.splitlines():
                if line.startswith("VmRSS:"):
                    rss += int(line.split()[1])
                elif line.startswith("Threads:"):
                    threads += int(line.split()[1])
        return rss / 1024, threads

    def stop(self):
        victims = tree(self.pid)
        for pid in victims:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()
        for pid in victims:  # of a daemon and its children this process is the parent now
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                pass
