# SPDX-License-Identifier: GPL-2.0-or-later
"""
The campaign's server: nbdserve with a control socket, that can move to another address and be
replaced by a successor. And how its connections are reset from outside.
"""
import contextlib
import os
import pathlib
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))
import lab  # noqa: E402

START_S = 15 * 2  # an image's lock is waited for up to 10 s


class Server(lab.Server):
    """places: the addresses and ports, of which it has one at a time."""

    def __init__(self, network, exports, places, folder):
        super().__init__(network, exports)
        self.network = network
        self.places = places
        self.place = 0
        # a socket's path is short, and the results may lie anywhere
        self.private = tempfile.mkdtemp(prefix="nbdroot-server-")
        self.log = open(folder / "server.log", "w+b")

    def _spawn(self, *more):
        """A server, and the descriptor on which it says that it is ready."""
        ready_r, ready_w = os.pipe()
        address, port = self.places[self.place]
        argv = [lab.NBDSERVE, "--foreground", "--ready-fd", ready_w, "--control",
                f"{self.private}/control", "--listen", f"{address}:{port}", *more]
        for name, path in self.exports.items():
            argv += ["--export", f"{name}={path}"]
        process = subprocess.Popen(self.inside(*argv), pass_fds=[ready_w],
                                   stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        os.close(ready_w)
        return process, ready_r

    def start(self, *more):
        self.process, ready = self._spawn(*more)
        try:
            if not select.select([ready], [], [], START_S)[0] or os.read(ready, 1) != b"\n":
                raise AssertionError("nbdserve did not start: " + self.log_text()[-2000:])
        finally:
            os.close(ready)
        self.up_at = time.time()

    def terminate(self):
        """SIGTERM: it ends what it has begun and goes."""
        lab.end(self.process, signal.SIGTERM)

    def replace(self, freeze_after, freeze_for, pause):
        """
        Another one takes over; meanwhile the old one is frozen for a while. Which of them serves
        in the end is theirs to decide: a successor that gets no answer gives up.
        """
        old = self.process
        successor, ready = self._spawn("--take-over")
        try:
            time.sleep(freeze_after)
            with contextlib.suppress(ProcessLookupError):
                old.send_signal(signal.SIGSTOP)
            pause(freeze_for)
            with contextlib.suppress(ProcessLookupError):
                old.send_signal(signal.SIGCONT)
            is_ready = select.select([ready], [], [], START_S)[0] and os.read(ready, 1) == b"\n"
            self.up_at = time.time()
        finally:
            os.close(ready)
        if is_ready:
            self.process = successor
            old.wait(timeout=START_S)
            return True
        lab.end(successor)
        if old.poll() is not None:
            self.start()
        return False

    def reset_connections(self):
        """As a firewall or a failing router would: both ends are told that it is over."""
        port = self.places[self.place][1]
        self.run("ss", "-K", "-t", "state", "established", "sport", "=", f":{port}")

    def run(self, *argv):
        return subprocess.run(self.inside(*argv), check=True, capture_output=True)

    def close(self):
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)
        super().close()
        shutil.rmtree(self.private, ignore_errors=True)
