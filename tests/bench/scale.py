# SPDX-License-Identifier: GPL-2.0-or-later
"""
make bench-server-scale: what a fleet does to a server. Thousands of clients that do nothing,
thousands of strangers that say nothing, a whole room that connects at once, and a thousand images
at the start. Each figure has a limit for nbdserve; the others are measured for comparison where
they can do it, and nothing they do is a failure.
"""
import contextlib
import json
import os
import pathlib
import subprocess
import time

import nbd
from servers import OURS, Failed, Server, prepare_child

IDLE_CLIENTS, IDLE_LIMIT_MIB = 5000, 64
SILENT_PEERS, SILENT_LIMIT_MS, SILENT_TRIES = 5000, 100, 50
HANDSHAKES, HANDSHAKES_LIMIT = 2000, 1000
EXPORTS, START_LIMIT_MS, STARTS = 1000, 50, 5
# Some peers have a process or 17 threads for each client; this machine is not for them alone.
PEER_CLIENTS = 500


def load_command(server, *args):
    return [str(nbd.BUILD / "bench/nbdload"), "--target", server.place.target, "--name", "disk",
            *map(str, args)]


@contextlib.contextmanager
def held(server, *args):
    """nbdload holding connections; ready when entered."""
    with subprocess.Popen(load_command(server, *args), stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          preexec_fn=prepare_child(None)) as process:
        try:
            if process.stdout.readline() != "ready\n":
                raise Failed(f"{server.name}: {process.stderr.read().strip()}; "
                             f"the server: {server.text()}")
            yield process
        finally:
            process.kill()


class Report:
    def __init__(self):
        self.holds, self.n_limits, self.figures = True, 0, {}

    def say(self, name, what, value, unit, limit=None, is_most=True):
        line = f"  {name:18} {what}: {value:.4g} {unit}"
        passed = None
        if name == OURS and limit is not None:
            self.n_limits += 1
            passed = value <= limit if is_most else value >= limit
            line += f" (at {'most' if is_most else 'least'} {limit}: {'ok' if passed else 'NO'})"
            self.holds = self.holds and passed
        print(line, flush=True)
        self.figures.setdefault(name, {})[what] = {"value": value, "unit": unit, "limit": limit,
                                                   "passed": passed}

    def fail(self, name, error):
        print(f"  {name:18} {'FAILED' if name == OURS else 'could not'}: {error}", flush=True)
        self.figures.setdefault(name, {}).setdefault("failures", []).append(str(error))
        self.holds = self.holds and name != OURS


def idle(report, start, name):
    count = IDLE_CLIENTS if name == OURS else PEER_CLIENTS
    with start(name) as server:
        before, _ = server.memory()
        with held(server, "--idle", count, "--sources", count, "--timeout", 20):
            rss, threads = server.memory()
        report.say(name, "memory without clients", before, "MiB")
        report.say(name, f"memory with {count} idle clients", rss, "MiB", IDLE_LIMIT_MIB)
        report.say(name, f"threads with {count} idle clients", threads, "threads")


def slowest_ms(server, tries):
    """The longest that a good client waited for connect, GO and a first read."""
    worst = 0
    for _ in range(tries):
        begin = time.monotonic()
        try:
            # from an address of its own: the strangers are others
            source = None if server.place.is_unix else "127.2.0.1"
            with nbd.Client(server.place.address, source=source, timeout=20) as client:
                client.go("disk")
                client.read(0, 4096)
        except (OSError, EOFError, nbd.Refused) as e:
            raise Failed(f"a good client was not served: {e or type(e).__name__}") from e
        worst = max(worst, time.monotonic() - begin)
    return worst * 1000


def silent(report, start, name):
    for sources in (SILENT_PEERS, 1):
        with start(name) as server:
            without = slowest_ms(server, SILENT_TRIES)
            with held(server, "--silent", SILENT_PEERS, "--sources", sources):
                among = slowest_ms(server, SILENT_TRIES)
            where = "one address" if sources == 1 else f"{sources} addresses"
            report.say(name, f"slowest of {SILENT_TRIES} clients among {SILENT_PEERS} silent peers "
                       f"from {where}, {among:.1f} ms, against {without:.1f} ms without them",
                       among - without, "ms more", SILENT_LIMIT_MS)


def handshakes(report, start, name):
    cpu = {max(os.sched_getaffinity(0))}
    with start(name, cpu) as server:
        done = subprocess.run(load_command(server, "--timeout", 10, "--connect",
                                           HANDSHAKES if name == OURS else PEER_CLIENTS),
                              capture_output=True, text=True, preexec_fn=prepare_child(cpu),
                              check=False)
        if done.returncode != 0:
            raise Failed(f"{done.stderr.strip()}; the server: {server.text()}")
        figures = json.loads(done.stdout)
    serial, at_once = figures["serial"], figures["at_once"]
    report.say(name, "full handshakes on one core, one after another", serial["per_s"], "per s",
               HANDSHAKES_LIMIT, is_most=False)
    report.say(name, f"full handshakes on one core, {at_once['done']} of {at_once['wanted']} "
               "at once", at_once["per_s"], "per s", HANDSHAKES_LIMIT, is_most=False)


def many_exports(report, commands, folder, tmp):
    """From exec to the greeting, the slowest of a few starts."""
    images, socket_path = folder / "many", tmp / "many.sock"
    images.mkdir()
    lines = ["[server]", f"unix = {socket_path}"]
    for i in range(EXPORTS):
        path = images / f"disk{i}.img"
        with open(path, "wb") as f:
            f.truncate(1 << 30)
        lines += [f"[export disk{i}]", f"path = {path}"]
    config = tmp / "many.conf"
    config.write_text("\n".join(lines) + "\n")
    times = []
    for _ in range(STARTS):
        with open(tmp / "many.log", "w") as log:
            begin = time.monotonic()
            process = subprocess.Popen([*commands.of[OURS], "--foreground", "--config",
                                        str(config)], stdin=subprocess.DEVNULL, stderr=log,
                                       preexec_fn=prepare_child(None))
        try:
            while True:
                try:
                    with nbd.Client(socket_path) as client:
                        times.append((time.monotonic() - begin) * 1000)
                        client.go(f"disk{EXPORTS - 1}")
                        break
                except (OSError, EOFError):
                    if process.poll() is not None or time.monotonic() > begin + 10:
                        raise Failed("no start with many exports: " + pathlib.Path(
                            tmp / "many.log").read_text()[-300:]) from None
                    time.sleep(0.0005)
        finally:
            process.kill()
            process.wait()
    report.say(OURS, f"start with {EXPORTS} exports to the first greeting, slowest of {STARTS}",
               max(times), "ms", START_LIMIT_MS)


def run(commands, names, folder, tmp):
    image = folder / "disk.img"
    image.write_bytes(os.urandom(1 << 20) * 16)
    report = Report()

    def start(name, cpus=None):
        return Server(commands, name, {"disk": str(image)}, True, "tcp", tmp, cpus)

    for title, measure in (("idle clients", idle), ("silent peers", silent),
                           ("handshakes", handshakes)):
        # qsd/threads is qsd/uring here; 5,000 silent peers are not for servers with 17 threads each
        able = [n for n in names if n == OURS or (measure is not silent and n != "qsd/threads")]
        if able:
            print(title)
        for name in able:
            try:
                measure(report, start, name)
            except Failed as e:
                report.fail(name, e)
    if OURS in names:
        print("start")
        try:
            many_exports(report, commands, folder, tmp)
        except Failed as e:
            report.fail(OURS, e)
    print("A LIMIT DOES NOT HOLD" if not report.holds else
          f"all {report.n_limits} limits hold" if report.n_limits else "nothing here has a limit")
    return report.holds, report.figures
