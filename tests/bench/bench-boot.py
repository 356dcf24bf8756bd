# SPDX-License-Identifier: GPL-2.0-or-later
"""
Boots the same Debian root with the same kernel from the same NBD server with our initramfs and
with those of Debian's own tools, and puts each through the same faults: docs/bench-boot.md.

	bench-boot.py [boot] [faults] [--systems REGEX] [--faults REGEX] [--repeat N]

Prints one table and keeps everything in BUILD/bench-boot/result.json; what is not run now is taken
from there. Exits 1 when one of our claims does not hold: /init to the device connected in at most a
second, to the real init at least five times faster than any peer, every fault passed.
"""
import argparse
import datetime
import json
import os
import re
import signal
import statistics
import sys
import time

import boot_columns
import boot_systems
from boot_systems import FOLDER

CONNECTED_S, FASTER = 1.0, 5
RESULT = FOLDER / "result.json"
FIGURES = ("connected", "mounted", "real_init")


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def play(system, column):
    began = time.monotonic()
    result = boot_columns.play(system, column)
    result["date"], result["load"] = now(), os.getloadavg()[0]
    print(f"  {system.name:<22} {column:<22} {'pass' if result['passed'] else 'FAIL'}: "
          f"{result['text']} [{time.monotonic() - began:.0f} s]", flush=True)
    return result


def run_boots(chosen, repeat, kept):
    """Interleaved, each round beginning with another system."""
    runs = {system.name: [] for system in chosen}
    for number in range(repeat):
        for i in range(len(chosen)):
            system = chosen[(i + number) % len(chosen)]
            runs[system.name].append(play(system, "boot"))
    kept.setdefault("boot", {}).update(runs)


def run_faults(chosen, names, kept, save):
    for name in names:
        for system in chosen:
            kept.setdefault("faults", {}).setdefault(system.name, {})[name] = play(system, name)
            save()


# ---- the table -------------------------------------------------------------------------------


def series(kept, system, name, unit):
    return [run["figures"][name][unit] for run in kept.get("boot", {}).get(system, [])
            if name in run["figures"]]


def cell(kept, system, name, unit="guest_s"):
    values = series(kept, system, name, unit)
    if not values:
        return "-"
    return f"{statistics.median(values):.2f} ({min(values):.2f})"


def print_columns(head, rows):
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, ["-" * width for width in widths], *rows]:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip())


def table(kept, systems):
    repeat = max((len(runs) for runs in kept.get("boot", {}).values()), default=0)
    print("\nInitramfs, and the boot without a fault. Seconds from \"Run /init\": the guest's by "
          "its kernel's clock;\nCPU: the emulator's processor time; median (best) of up to "
          f"{repeat}.\n")
    rows = []
    for s in systems:
        sizes = kept["sizes"].get(s.name)
        if not sizes:
            continue
        boots = kept.get("boot", {}).get(s.name, [])
        rows.append([s.name, f"{sizes['compressed']:,}", f"{sizes['unpacked']:,}",
                     cell(kept, s.name, "kernel"), *(cell(kept, s.name, n) for n in FIGURES),
                     cell(kept, s.name, "connected", "cpu_s"),
                     cell(kept, s.name, "real_init", "cpu_s"),
                     cell(kept, s.name, "login", "clock_s"),
                     f"{sum(run['passed'] for run in boots)}/{len(boots)}"])
    print_columns(["", "bytes", "unpacked", "power to /init", "connected", "mounted", "real init",
                   "connected, CPU", "real init, CPU", "login", "clean off"], rows)
    if not kept.get("faults"):
        return
    print("\nFaults: passed, and a figure; or what came instead.\n")
    for name in boot_columns.FAULTS:
        doc = boot_columns.FAULTS[name][0].__doc__.strip()
        print(f"{name}: {doc}")
        for s in systems:
            if run := kept["faults"].get(s.name, {}).get(name):
                print(f"    {s.name:<22} {'pass' if run['passed'] else 'FAIL'}  {run['text']}")


def verdict(kept, systems):
    """Our claims that do not hold, as far as they were measured."""
    bad = []
    peers = [s for s in systems if not s.is_ours]
    for s in systems:
        if not s.is_ours:
            continue
        if values := series(kept, s.name, "connected", "guest_s"):
            took = statistics.median(values)
            if took > CONNECTED_S:
                bad.append(f"{s.name}: connected {took:.2f} s after /init")
        mine = series(kept, s.name, "real_init", "guest_s")
        for peer in peers:
            theirs = series(kept, peer.name, "real_init", "guest_s")
            if not mine or not theirs:
                continue
            times = statistics.median(theirs) / statistics.median(mine)
            print(f"{s.name}: to the real init {times:.1f} times faster than {peer.name}")
            if times < FASTER:
                bad.append(f"{s.name}: not {FASTER} times faster than {peer.name}")
        bad += [f"{s.name}: boot: {run['text']}" for run in kept.get("boot", {}).get(s.name, [])
                if not run["passed"]]
        bad += [f"{s.name}: {name}: {run['text']}"
                for name, run in kept.get("faults", {}).get(s.name, {}).items()
                if not run["passed"]]
    return bad


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("what", nargs="*", help="boot, faults (default: both)")
    parser.add_argument("--systems", default="", metavar="REGEX")
    parser.add_argument("--faults", default="", metavar="REGEX")
    parser.add_argument("--repeat", type=int, default=3, help="boots of each (default: 3)")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is ended
    what = args.what or ["boot", "faults"]
    if set(what) - {"boot", "faults", "table"}:
        parser.error(f"there is no {' '.join(what)}: boot, faults or table")

    boot_systems.make_initramfs()
    boot_systems.make_root()
    systems = boot_systems.systems()
    chosen = [s for s in systems if re.search(args.systems, s.name)]
    kept = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    kept["versions"] = boot_systems.versions()
    kept["sizes"] = {s.name: s.sizes() for s in systems}

    def save():
        kept["date"] = now()
        RESULT.write_text(json.dumps(kept, indent=1) + "\n")

    if "boot" in what:
        run_boots(chosen, args.repeat, kept)
        save()
    if "faults" in what:
        names = [name for name in boot_columns.FAULTS if re.search(args.faults, name)]
        # once for each peer and each of ours; what differs between their sets is no part of it
        run_faults([s for s in chosen if "list" not in s.name], names, kept, save)
    table(kept, systems)
    print()
    bad = verdict(kept, systems)
    for line in bad:
        print(f"bench-boot: does not hold: {line}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
