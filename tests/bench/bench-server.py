#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
make bench-server: nbdserve beside the other NBD servers of this machine, over the same files, with
the same generator, in turns; prints how much faster or slower it is than the best of them. It
exits with 1 unless nbdserve leads in every cell and by 1.3 in the median cell. docs/bench.md says
how to read it. It measures nothing that it could not check first: each server must give back what
is in the file.
"""
import argparse
import contextlib
import json
import os
import pathlib
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "system")]
import nbd  # noqa: E402  (tests/system/nbd.py)
import scale  # noqa: E402
from servers import (OURS, SERVERS, Commands, Failed, Server, adopt_orphans,  # noqa: E402
                     can_serve, fields, prepare_child)

MIB = 1 << 20
IMAGE_SIZE = 1024 * MIB
# Where 8 or 64 connections write, each has an image of its own: a writable export of nbdserve
# belongs to one client, and so does the root disk of each machine of a fleet.
SMALL_SIZE, SMALL_COUNT = 16 * MIB, 64
# As much as is written to at most: the disk has to take it after each sample.
WRITE_SPAN = 256 * MIB
PATTERNS = ("sr256k", "sw256k", "rr4k_q1", "rr4k_q32", "rw4k_q1", "rw4k_q32", "wf4k_q1")
NOISE_LIMIT = 0.15
TRIES = 4
MEDIAN_WANTED = 1.3
WARMUP_MS = 100
MEDIANS = ("ops_s", "mib_s", "p50_us", "p99_us", "server_cpu_us", "both_cpu_us")


class Cell:
    """One thing that is compared."""

    def __init__(self, placement, transport, connections, pattern):
        self.placement, self.transport = placement, transport
        self.connections, self.pattern = connections, pattern
        self.id = f"{placement}/{transport}/x{connections}/{pattern}"
        self.reads = pattern.startswith(("sr", "rr"))
        self.is_multiple = not self.reads and connections > 1
        self.unit = "mib_s" if pattern.startswith("s") else "ops_s"


CELLS = [Cell(*key) for key in
         ((p, t, c, n) for p in ("one", "two") for t in ("unix", "tcp") for n in PATTERNS
          for c in (1, 8, 64))]


class Files:
    """The images, with data in every block, in the page cache and on the disk."""

    def __init__(self, folder, with_small):
        self.image = {"disk": str(folder / "disk.img")}
        small = folder / "small"
        small.mkdir()
        self.small = {f"disk{i}": str(small / f"disk{i}")
                      for i in range(SMALL_COUNT if with_small else 0)}
        self.fill(self.image["disk"], IMAGE_SIZE)
        for path in self.small.values():
            self.fill(path, SMALL_SIZE)
        self.sync()

    @staticmethod
    def fill(path, size):
        """
        In pieces of 4 KiB, so that the page cache has pages of that size: in one of the large
        folios that larger pieces leave behind, ext4 spends 30 us on each write of 4 KiB, which
        is no server's doing and would hide what is.
        """
        with open(path, "wb", 0) as f:
            for _ in range(size // (16 * MIB)):
                data = memoryview(os.urandom(16 * MIB))
                for at in range(0, len(data), 4096):
                    f.write(data[at:at + 4096])

    def all(self):
        return [*self.image.values(), *self.small.values()]

    def images(self, cell):
        if cell.is_multiple:
            return dict(list(self.small.items())[:cell.connections])
        return self.image

    def sync(self, paths=None):
        """No write of one sample is left for the disk to do in the next one's time."""
        for path in paths or self.all():
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)


# ---- noise -----------------------------------------------------------------------------------

def busy_s(cpus):
    """Seconds that these CPUs were not idle, stolen time included."""
    total = 0
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        words = line.split()
        if words[0][:3] == "cpu" and words[0][3:].isdigit() and int(words[0][3:]) in cpus:
            ticks = [int(x) for x in words[1:9]]
            total += sum(ticks) - ticks[3] - ticks[4]  # idle, iowait
    return total / os.sysconf("SC_CLK_TCK")


def kernel_threads_s(cpus):
    """The kernel's own threads there: they write what the servers wrote."""
    total = 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                f = fields(entry.name)
            except OSError:
                continue
            if f[1] == "2" and int(f[36]) in cpus:
                total += int(f[11]) + int(f[12])
    return total / os.sysconf("SC_CLK_TCK")


# ---- one sample ------------------------------------------------------------------------------

class Bench:
    def __init__(self, args, commands, files, tmp):
        self.args, self.commands, self.files, self.tmp = args, commands, files, tmp
        self.all_cpus = os.sched_getaffinity(0)
        self.one_cpu = {max(self.all_cpus) if args.cpu is None else args.cpu}

    def sample(self, cell, name, seed):
        """A fresh server, one run of the generator; a dict of figures."""
        cpus = self.one_cpu if cell.placement == "one" else self.all_cpus
        images = self.files.images(cell)
        span = SMALL_SIZE if cell.is_multiple else IMAGE_SIZE if cell.reads else WRITE_SPAN
        with Server(self.commands, name, images, cell.reads, cell.transport, self.tmp,
                    cpus) as server:
            command = [str(nbd.BUILD / "bench/nbdload"), "--target", server.place.target,
                       "--name", "disk", "--pattern", cell.pattern,
                       "--connections", str(cell.connections), "--span", str(span),
                       "--duration", str(round(self.args.seconds * 1000)),
                       "--warmup", str(WARMUP_MS), "--seed", str(seed)]
            if cell.is_multiple:
                command.append("--numbered")
            before = (time.monotonic(), busy_s(cpus), kernel_threads_s(cpus), server.cpu_s())
            out, own, after = self.generate(command, cpus, lambda: (
                time.monotonic(), busy_s(cpus), kernel_threads_s(cpus), server.cpu_s()), server)
        if not cell.reads:
            self.files.sync(images.values())
        figures = json.loads(out)
        wall, busy, kernel, server_s = (b - a for a, b in zip(before, after))
        figures["server_cpu_us"] = round(server_s * 1e6 / max(1, figures["ops_all"]), 2)
        figures["both_cpu_us"] = round((server_s + own) * 1e6 / max(1, figures["ops_all"]), 2)
        figures["noise"] = round(max(0, busy - kernel - server_s - own) / (wall * len(cpus)), 3)
        return figures

    @staticmethod
    def generate(command, cpus, look, server):
        """
        Runs the generator: its output, its CPU time, and what look() says while its connections
        still stand (the CPU time of a process that has ended may be nobody's any more).
        """
        run = subprocess.Popen([*command, "--hold"], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               preexec_fn=prepare_child(cpus))
        with run.stdin, run.stdout, run.stderr:
            try:
                out = run.stdout.readline()
                after = look()
                run.stdin.close()
                err = run.stderr.read()
            except BaseException:
                run.kill()
                run.wait()
                raise
        _, status, usage = os.wait4(run.pid, 0)
        run.returncode = os.waitstatus_to_exitcode(status)
        if status != 0 or not out:
            raise Failed(f"{server.name}: {err.strip()}; the server: {server.text()}")
        return out, usage.ru_utime + usage.ru_stime, after

    def quiet_sample(self, cell, name, seed):
        """The quietest of a few tries; the first that is quiet enough."""
        best = None
        for _ in range(TRIES):
            figures = self.sample(cell, name, seed)
            if best is None or figures["noise"] < best["noise"]:
                best = figures
            if best["noise"] <= NOISE_LIMIT or not self.args.retry_budget:
                break
            self.args.retry_budget -= 1
        return best

    # ---- does it serve the file? ----

    def verify(self, name, transport, is_multiple):
        """All that is measured later must be right: both modes, several requests in flight."""
        cell = Cell("two", transport, 8 if is_multiple else 1, "rw4k_q1")
        images = self.files.images(cell)
        for read_only in (True, False):
            with Server(self.commands, name, images, read_only, transport, self.tmp) as server:
                for export, path in images.items():
                    try:
                        with nbd.Client(server.place.address) as c, open(path, "r+b", 0) as f:
                            self.compare(c.go(export), f.fileno(), read_only)
                    except (Failed, AssertionError, EOFError, KeyError, OSError,
                            nbd.Refused) as e:
                        raise Failed(f"{name} does not serve {path}: {e or type(e).__name__}; "
                                     f"it says: {server.text()}") from e

    @staticmethod
    def compare(client, fd, read_only):
        """Reads what is in the file, and finds in the file what it writes."""
        size = os.fstat(fd).st_size
        if client.size != size:
            raise Failed(f"the file has {size} bytes, the export {client.size}")

        def answers(requests, read_length):
            """All requests are sent before the first answer is read."""
            at = {client.request(*request): request[1] for request in requests}
            for _ in requests:
                error, cookie, data = client.reply(read_length)
                if error:
                    raise Failed(f"error {error} at {at[cookie]}")
                yield at.pop(cookie), data  # a KeyError would be a cookie of nobody

        for length, depth in ((4096, 32), (256 * 1024, 8)):
            for _ in range(4):
                places = [length * i for i in random.sample(range(size // length), depth)]
                for offset, data in answers([(nbd.READ, o, length) for o in places], length):
                    if data != os.pread(fd, length, offset):
                        raise Failed(f"wrong data at {offset}")
                if read_only:
                    continue
                written = {o: os.urandom(length) for o in places}
                for _ in answers([(nbd.WRITE, o, length, written[o]) for o in places], 0):
                    pass
                client.flush()
                for offset, data in written.items():
                    if data != os.pread(fd, length, offset):
                        raise Failed(f"a write to {offset} is not in the file")


# ---- tables ----------------------------------------------------------------------------------

def median(samples, key):
    return statistics.median(s[key] for s in samples)


def is_noisy(samples):
    return max(s["noise"] for s in samples) > NOISE_LIMIT


def short(value):
    if value >= 100000:
        return f"{value / 1000:.0f}K"
    return f"{value / 1000:.1f}K" if value >= 10000 else f"{value:.0f}"


class Results:
    def __init__(self, names):
        self.names = names
        self.samples = {}  # cell id -> server -> list of figures
        self.failures = {}  # cell id -> server -> words

    def add(self, cell, name, figures):
        self.samples.setdefault(cell.id, {}).setdefault(name, []).append(figures)

    def fail(self, cell, name, text):
        self.failures.setdefault(cell.id, {})[name] = text
        print(f"{cell.id}: FAILED: {text}", file=sys.stderr, flush=True)

    def ratio(self, cell):
        """nbdserve against the best peer; 0 when it failed, None when it or they did not run."""
        got = self.samples.get(cell.id, {})
        peers = [median(s, "ops_s") for name, s in got.items() if name != OURS]
        if not peers or OURS not in self.names:
            return None
        if OURS in self.failures.get(cell.id, {}) or OURS not in got:
            return 0.0
        return median(got[OURS], "ops_s") / max(peers)

    def cpu_ratio(self, cell):
        """
        How many times as much CPU the thriftiest peer (with its client) uses for an operation.
        Other processes of a busy machine hardly touch it, unlike the ratio of speeds.
        """
        got = self.samples.get(cell.id, {})
        peers = [median(s, "both_cpu_us") for name, s in got.items() if name != OURS]
        if not peers or OURS not in got:
            return None
        return min(peers) / max(0.01, median(got[OURS], "both_cpu_us"))

    def print_tables(self, cells):
        width = max(16, *map(len, self.names)) + 1
        for placement, transport in dict.fromkeys((c.placement, c.transport) for c in cells):
            where = "one core for server and client" if placement == "one" else "two cores"
            print(f"\n{where}, {transport}; sr, sw in MiB/s, others per second; in brackets the "
                  "server's CPU microseconds per operation")
            print(f"{'':14}" + "".join(f"{n:>{width}}" for n in self.names) + "   ratio  by CPU")
            for cell in cells:
                if (cell.placement, cell.transport) == (placement, transport):
                    self.print_row(cell, width)

    def print_row(self, cell, width):
        row, noisy = f"{cell.pattern + ' x' + str(cell.connections):14}", []
        for name in self.names:
            samples = self.samples.get(cell.id, {}).get(name)
            text = "-"
            if name in self.failures.get(cell.id, {}):
                text = "failed"
            elif samples:
                text = (f"{short(median(samples, cell.unit))} "
                        f"[{median(samples, 'server_cpu_us'):.0f}]")
                if is_noisy(samples):
                    noisy.append(name)
            row += f"{text:>{width}}"
        ratio = self.ratio(cell)
        row += "       - " if ratio is None else f"  {ratio:6.2f}{' ' if ratio > 1 else '!'}"
        cpu = self.cpu_ratio(cell)
        row += "       -" if cpu is None else f"  {cpu:6.2f}"
        print(row + (f" noisy: {', '.join(noisy)}" if noisy else ""))

    def print_summary(self, cells):
        """Whether the claim holds."""
        ratios = [r for r in map(self.ratio, cells) if r is not None]
        if not ratios:
            print("\nnothing to compare: nbdserve or all others did not run")
            return True
        leads, middle = sum(r > 1 for r in ratios), statistics.median(ratios)
        holds = leads == len(ratios) and middle >= MEDIAN_WANTED
        print(f"\n{len(ratios)} cells; nbdserve leads in {leads}; ratio to the best peer: lowest "
              f"{min(ratios):.2f}, median {middle:.2f} (wanted: all cells, {MEDIAN_WANTED})")
        cpu = [r for r in map(self.cpu_ratio, cells) if r is not None]
        if cpu:
            print(f"by CPU time of server and client: lowest {min(cpu):.2f}, median "
                  f"{statistics.median(cpu):.2f}")
        print("the claim holds" if holds else "THE CLAIM DOES NOT HOLD")
        return holds

    def as_json(self, cells, head):
        return {**head, "cells": {
            c.id: {"ratio": self.ratio(c), "cpu_ratio": self.cpu_ratio(c),
                   "failures": self.failures.get(c.id, {}),
                   "servers": {name: {**{key: median(s, key) for key in MEDIANS},
                                      "is_noisy": is_noisy(s), "samples": s}
                               for name, s in self.samples.get(c.id, {}).items()}}
            for c in cells}}


# ---- the run ---------------------------------------------------------------------------------

def parse_args():
    p = argparse.ArgumentParser(description=__doc__.strip().split("\n\n")[0])
    p.add_argument("--repeat", type=int, default=3, help="samples of each cell and server")
    p.add_argument("--seconds", type=float, default=0.5, help="measured time of a sample")
    p.add_argument("--cells", default="", metavar="REGEX",
                   help="only cells whose name, as in one/tcp/x8/rr4k_q32, matches")
    p.add_argument("--servers", default=",".join(SERVERS), help="only these")
    p.add_argument("--seed", type=int, default=None, help="of orders and offsets")
    p.add_argument("--cpu", type=int, help="the core to share (default: the last)")
    p.add_argument("--dir", default="/var/tmp", help="where the images are made: a local disk")
    p.add_argument("--json", metavar="FILE", help="write all figures there")
    p.add_argument("--nbdserve", default=str(nbd.BUILD / "nbdserve"), help="the program")
    p.add_argument("--nbdserve-args", default="", help="more arguments for it")
    p.add_argument("--scale", action="store_true", help="many clients and many exports instead")
    args = p.parse_args()
    if args.seed is None:
        args.seed = random.randrange(1 << 31)
    names = args.servers.split(",")
    if unknown := [n for n in names if n not in SERVERS]:
        p.error(f"unknown server {unknown[0]}; known: {', '.join(SERVERS)}")
    args.names = [n for n in SERVERS if n in names]
    args.chosen = [c for c in CELLS if re.search(args.cells, c.id)]
    if not args.chosen:
        p.error("no cell matches; a cell's name is placement/transport/xN/pattern, one or two, "
                f"unix or tcp, 1, 8 or 64, {', '.join(PATTERNS)}")
    return args


def run_cells(args, commands, folder, tmp):
    cells, names = args.chosen, args.names
    plan = [(c, [n for n in names if can_serve(n, c.is_multiple)]) for c in cells]
    n_samples = args.repeat * sum(len(n) for _, n in plan)
    args.retry_budget = n_samples // 4
    print(f"{len(cells)} cells, {n_samples} samples, seed {args.seed}: about "
          f"{n_samples * (args.seconds + 0.3) / 60:.0f} minutes, a quarter more on a busy machine",
          flush=True)
    files = Files(folder, any(c.is_multiple for c in cells))
    bench, results = Bench(args, commands, files, tmp), Results(names)
    for name in names:
        for transport in ("unix", "tcp"):
            for is_multiple in (False, True):
                if can_serve(name, is_multiple) and (files.small or not is_multiple):
                    bench.verify(name, transport, is_multiple)
    files.sync()
    print("every server gives back what is in the file", flush=True)
    shuffle = random.Random(args.seed).shuffle
    begin = time.monotonic()
    for repetition in range(args.repeat):
        for i, (cell, able) in enumerate(plan):
            shuffle(able)
            seed = args.seed + repetition * len(plan) + i  # the same offsets for all servers
            for name in able:
                try:
                    results.add(cell, name, bench.quiet_sample(cell, name, seed))
                except Failed as e:
                    results.fail(cell, name, str(e))
        print(f"repetition {repetition + 1} of {args.repeat} done after "
              f"{time.monotonic() - begin:.0f} s", flush=True)
    results.print_tables(cells)
    holds = results.print_summary(cells)
    head = {"seed": args.seed, "repeat": args.repeat, "seconds": args.seconds,
            "kernel": os.uname().release, "cpus": os.cpu_count(),
            "versions": {n: commands.version(n) for n in names}}
    return holds, results.as_json(cells, head)


def main():
    args = parse_args()
    commands = Commands(args.nbdserve, args.nbdserve_args)
    for name in args.names:
        if name not in commands.of:
            print(f"{name}: not installed, goes without", file=sys.stderr)
    args.names = [n for n in args.names if n in commands.of]
    kind = subprocess.run(["stat", "-f", "-c", "%T", args.dir], capture_output=True, text=True,
                          check=False).stdout.strip()
    if kind in ("tmpfs", "ramfs"):
        raise Failed(f"{args.dir} is in memory, where a flush costs nothing: give --dir on a disk")
    adopt_orphans()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and clean up
    with contextlib.ExitStack() as stack:
        def folder(prefix, where):
            return pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(
                prefix=prefix, dir=where)))
        images, tmp = folder("nbdroot-bench-", args.dir), folder("nbdroot-bench-", None)
        images.chmod(0o755)
        if args.scale:
            holds, figures = scale.run(commands, args.names, images, tmp)
        else:
            holds, figures = run_cells(args, commands, images, tmp)
        if args.json:
            pathlib.Path(args.json).write_text(json.dumps(figures, indent=1) + "\n")
        return 0 if holds else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as e:
        sys.exit(f"bench-server: {e}")
    except KeyboardInterrupt:
        sys.exit("bench-server: interrupted")
