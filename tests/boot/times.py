# SPDX-License-Identifier: GPL-2.0-or-later
"""
What long_matrix.py has left in FOLDER as a table for docs/boot.md: how long each boot took, by our
clock until /init, and after that by the guest's.
"""
import json
import pathlib
import sys


def seconds(value):
    return "-" if value is None else f"{value:.1f}"


def main():
    if len(sys.argv) != 2:
        print("usage: times.py FOLDER", file=sys.stderr)
        return 2
    files = sorted(pathlib.Path(sys.argv[1]).glob("*.json"))
    if not files:
        print(f"times.py: {sys.argv[1]}: no boot has left its times there (long_matrix.py does)", file=sys.stderr)
        return 1
    print("| firmware, kernel, card or root | kernel starts | /init starts | /init to card | card to address "
          "| address to device | /init to device | /init to real init |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for path in files:
        told = json.loads(path.read_text())
        guest = told["guest"]

        def between(first, last, guest=guest):
            if guest[first] is None or guest[last] is None:
                return None
            return guest[last] - guest[first]

        cells = [told["kernel_starts"], told["init_starts"], between("init", "link"), between("link", "address"),
                 between("address", "attached"), between("init", "attached"), between("init", "root")]
        print(f"| {path.stem} | {' | '.join(map(seconds, cells))} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
