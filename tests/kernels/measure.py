# SPDX-License-Identifier: GPL-2.0-or-later
"""
make check-kernels: what the driver of each of Debian's kernels does with requests that are in
flight when their connection dies, and nbdclient with the driver. Prints tables for
docs/reconnect.md, and exits 1 when something may not be: an I/O error, a request that is sent twice
over one connection, a connection that is marked dead without a cause, a hang, a lost record.

    measure.py [--kernels 5.10,6.1,6.12] [--parts period,outage,many,noise,freeze,stall,rounds] [--quick]
"""
import argparse
import concurrent.futures
import pathlib
import random
import re
import shutil
import signal
import socket
import statistics
import sys
import tempfile
import time

import emulated
from emulated import lab

PERIODS_MS = (30000, 1000, 400, 100, 10)
OUTAGES_S = (0.2, 0.5, 1, 2, 5)
IO_TIMEOUT_MS = 100
WAYS = ("plain", "product")
DEVICES = 8
PROGRAMS = ("guest", "nbdclient", "driver")


def percentile(values, fraction):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * fraction))]


def summary(values):
    return (f"{statistics.median(values):.0f} / {percentile(values, 0.99):.0f} / "
            f"{max(values):.0f}")


class Bench:
    """One kernel's guest; facts that may not be are collected in .wrong."""

    def __init__(self, kernel, is_quick, has_own_time):
        self.kernel, self.is_quick = kernel, is_quick
        self.wrong = []
        self.guest = emulated.Guest(kernel, [lab.BUILD / p for p in PROGRAMS], loglevel=3,
                                    has_own_time=has_own_time)
        self.version = self.guest.run("uname -r").strip()

    def recover(self, way, io_timeout_ms, outage_ms, requests=1, devices=DEVICES, rounds=10):
        rounds = max(1, rounds // 5) if self.is_quick else rounds
        text = self.guest.run(f"driver recover {way} {io_timeout_ms} {outage_ms:.0f} {requests} "
                              f"{devices} {rounds}", 900)
        done = [float(n) for n in re.findall(r"^done (\S+)$", text, re.MULTILINE)]
        total = text.splitlines()[-1]
        expected = devices * rounds
        if total != f"total losses={expected} extra_dead=0 io_errors=0 sent_twice=0 hung=0":
            self.wrong.append(f"{self.kernel}: {way}, io_timeout {io_timeout_ms} ms, outage "
                              f"{outage_ms} ms: {total}")
        return done

    def noise(self, case, requests, seconds):
        text = self.guest.run(f"driver noise {case} {IO_TIMEOUT_MS} {requests} {seconds}", 900)
        facts = dict(re.findall(r"(\w+)=(\d+)", text))
        bad = {"dead": "0", "io_errors": "0", "done": "1", "sent": str(requests)}
        if any(facts[k] != v for k, v in bad.items()):
            self.wrong.append(f"{self.kernel}: noise {case}, {requests} requests: {text}")
        return (int(facts["stuck"]) + int(facts["timed_out"])) / seconds

    def look_at_log(self):
        words = ("Double reply|Unexpected reply|Suspicious reply|I/O error|blocked for more than|"
                 "WARNING:|BUG:")
        lines = self.guest.run(f"dmesg | grep -E '{words}' | head -5; true", 900)
        if lines:
            self.wrong.append(f"{self.kernel}: in the kernel log: {lines}")

    def close(self):
        self.guest.close()


def period(bench):
    rows = {}
    for ms in PERIODS_MS:
        rows[f"{ms}"] = summary(bench.recover("plain", ms, 500, rounds=1 if ms > 9999 else 10))
    return rows


def outage(bench):
    return {f"{way}, {seconds} s": summary(bench.recover(way, IO_TIMEOUT_MS, seconds * 1000,
                                                         rounds=15))
            for way in WAYS for seconds in OUTAGES_S}


def many(bench):
    return {f"{way}, 64 in flight, {seconds} s": summary(bench.recover(
        way, IO_TIMEOUT_MS, seconds * 1000, requests=64, devices=2, rounds=5))
            for way in WAYS for seconds in (0.5, 2)}


def noise(bench):
    seconds = 4 if bench.is_quick else 20
    return {f"{case}, {n} in flight": f"{bench.noise(case, n, seconds):.1f}"
            for case in ("plain", "product", "stall-plain", "stall-product") for n in (1, 64)}


def freeze(bench):
    return {"a write to queue/io_timeout during an outage, one request in flight":
            bench.guest.run("driver freeze", 120).strip()}


# ---- the product: nbdclient in the guest, nbdserve here ----------------------------------------

class Product:
    """An ext3 image mounted in the guest, and a writer that syncs each record."""

    def __init__(self, bench, folder):
        self.guest, self.folder = bench.guest, folder
        self.image = lab.make_image(folder / "root.img", "64M")
        self.server = lab.Server(None, {"root": self.image}, address="127.0.0.1",
                                 port=free_port())
        self.server.start()
        self.guest.run(f"nbdclient attach nbd://{emulated.HOST}:{self.server.port}/root "
                       "--device /dev/nbd0", 60)
        self.guest.run("rm -f /tmp/*; mount -t ext3 /dev/nbd0 /mnt")
        self.writer = self.guest.start("guest write /mnt/records /tmp/acked")
        self.wait_progress()

    def acked(self):
        return int(self.guest.run("cat /tmp/acked 2>/dev/null | wc -l"))

    def wait_progress(self):
        before = self.acked()
        lab.wait_until(lambda: self.acked() > before + 3, 60, "I/O to go on")

    def finish(self):
        guest = self.guest
        if not guest.is_running(self.writer):
            raise AssertionError(f"the writer died: {guest.finish(self.writer)}")
        guest.run("kill $(cat /tmp/guest-write.pid)")
        guest.finish(self.writer)
        guest.run("echo 3 >/proc/sys/vm/drop_caches")
        verdict = guest.run("guest verify /mnt/records /tmp/acked", 900)
        guest.run("umount /mnt; nbdclient detach /dev/nbd0", 60)
        self.server.close()
        clean, text = lab.fsck_is_clean(self.image)
        if not clean or not verdict.endswith(" 0 lost\n"):
            raise AssertionError(f"{verdict}{text}")
        return int(verdict.split()[0])


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def run_product(bench, what):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="nbdroot-kernels-"))
    product = Product(bench, folder)
    try:
        return what(bench, product)
    except AssertionError as error:
        bench.wrong.append(f"{bench.kernel}: {what.__name__}: {error}"[:2000])
        return {}
    finally:
        product.server.close()
        shutil.rmtree(folder, ignore_errors=True)


def kill_rounds(bench, product):
    rng = random.Random(1)
    offset = bench.guest.clock_offset()
    rounds = 10 if bench.is_quick else 100
    returns = []
    for _ in range(rounds):
        time.sleep(rng.uniform(0.05, 0.5))
        product.server.kill()
        killed_at = time.time()
        time.sleep(rng.uniform(0, 3))
        product.server.start()
        returns.append((killed_at, product.server.up_at))
        product.wait_progress()
    slow = [[float(n) + offset for n in line.split()]
            for line in bench.guest.run("cat /tmp/guest-write.slow").splitlines()]
    late = []
    for killed_at, up_at in returns:
        stalled = [end for start, end in slow if start <= killed_at + 0.05 and end >= up_at]
        if stalled:
            late.append((max(stalled) - up_at) * 1000)
    records = product.finish()
    return {"kills": str(rounds), "fsync under way at the kill, after the server's return, ms "
            "(median / p99 / worst)": f"{summary(late)} ({len(late)} of {rounds})",
            "records acknowledged, none lost": str(records)}


def stall(bench, product):
    """A stopped server is not a lost one, and goes on where it was."""
    seconds = 5 if bench.is_quick else 20
    before = bench.guest.status()["outages"]
    product.server.signal(signal.SIGSTOP)
    time.sleep(seconds)
    lines = bench.guest.run("dmesg | grep -c 'Possible stuck request'; true").strip()
    product.server.signal(signal.SIGCONT)
    product.wait_progress()
    after = bench.guest.status()["outages"]
    if after != before:
        bench.wrong.append(f"{bench.kernel}: a server that stalls was cut off")
    product.finish()
    return {f"connections lost in {seconds} s of SIGSTOP": str(after - before),
            "log lines by then": lines}


PARTS = {
    "period": ("Milliseconds from the new socket to the completion of a request in flight at the "
               "loss (median / p99 / max), by queue/io_timeout; no request timeout", period),
    "outage": (f"The same by way and outage (plain: queue/io_timeout {IO_TIMEOUT_MS} ms)", outage),
    "many": ("The same with 64 requests in flight on each of two devices", many),
    "noise": ("Lines in the kernel log per second, in an outage or a stall of 20 s", noise),
    "freeze": ("What a write to the queue's files does", freeze),
    "stall": ("nbdclient: nbdserve is stopped under an fsync loop",
              lambda bench: run_product(bench, stall)),
    "rounds": ("nbdclient: nbdserve is killed under an fsync loop, outages of 0 to 3 s",
               lambda bench: run_product(bench, kill_rounds)),
}


IN_OUR_TIME = ("stall", "rounds")


def measure(kernel, parts, is_quick):
    version, results, wrong = "?", {}, []
    # nbdserve is outside of the guest, so there the two must have the same time
    for has_own_time, group in ((True, [p for p in parts if p not in IN_OUR_TIME]),
                                (False, [p for p in parts if p in IN_OUR_TIME])):
        if not group:
            continue
        bench = Bench(kernel, is_quick, has_own_time)
        version = bench.version
        try:
            for part in group:
                results[part] = PARTS[part][1](bench)
                print(f"{kernel} ({version}): {part}: {results[part]}", file=sys.stderr, flush=True)
            bench.look_at_log()
        except AssertionError as error:
            wrong.append(f"{kernel}: {error}"[:3000])
        finally:
            bench.close()
            wrong += bench.wrong
    return version, results, wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kernels", default=",".join(emulated.KERNELS))
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="a fifth of the rounds")
    parser.add_argument("--jobs", type=int, default=1, help="kernels at a time")
    args = parser.parse_args()
    kernels, parts = args.kernels.split(","), args.parts.split(",")
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        done = dict(zip(kernels, pool.map(lambda k: measure(k, parts, args.quick), kernels)))
    for part in parts:
        columns = {k: d[1].get(part, {}) for k, d in done.items()}
        names = list(dict.fromkeys(n for c in columns.values() for n in c))
        print(f"\n{PARTS[part][0]}:\n\n| | " + " | ".join(done[k][0] for k in kernels) + " |")
        print("| --- |" + " --- |" * len(kernels))
        for name in names:
            print(f"| {name} | " + " | ".join(columns[k].get(name, "?") for k in kernels) + " |")
    wrong = [w for d in done.values() for w in d[2]]
    print("\n" + ("\n".join(["What may not be:", *wrong]) if wrong else "Nothing went wrong."))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
