#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
make bench-rpm: the same rpm transactions with the database on NFS and on a network block device, on
the same diskless machine (User-Mode Linux, a Debian on an NFS root), one after the other; prints how
long they take and what breaks. docs/rpm.md has a result.
"""
import argparse
import contextlib
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "system"))
import lab  # noqa: E402
import nfs  # noqa: E402
import roots  # noqa: E402

SPEC_HEAD = """Name: bench
Version: 1
Release: 1
Summary: Many small packages
License: GPL-2.0-or-later
BuildArch: noarch
%description
Packages for bench-rpm.
%install
for p in $(seq -w 1 {count}); do
	mkdir -p %{{buildroot}}/usr/share/bench-$p
	for f in $(seq -w 1 {files}); do echo "$p $f" >%{{buildroot}}/usr/share/bench-$p/$f; done
done
"""
SPEC_PACKAGE = """
%package -n bench-{name}
Summary: Package {name}
%description -n bench-{name}
Package {name}.
%files -n bench-{name}
/usr/share/bench-{name}
"""
RECIPE = ("mount /dev/nbd0 /mnt && mkdir /mnt/rebuild && cp -p /var/lib/rpm/rpmdb.sqlite* /mnt/rebuild/ && "
          "rpmdb --dbpath /mnt/rebuild --rebuilddb && rm -f /var/lib/rpm/rpmdb.sqlite-* && "
          "mv /mnt/rebuild/rpmdb.sqlite* /var/lib/rpm/ && rm -rf /mnt/rebuild && umount /mnt")


class Place:
    """Where the database is."""

    def __init__(self, name, version, is_ours, database):
        self.name, self.version, self.is_ours, self.database = name, version, is_ours, database


PLACES = [
    Place("NFS version 3, nolock", "3", False, "/var/lib/rpm"),
    Place("NFS version 4.2", "4.2", False, "/var/lib/rpm"),
    Place("ours, at /var/lib/rpm", "4.2", True, "/var/lib/rpm"),
    Place("ours, at /usr/lib/sysimage", "4.2", True, "/usr/lib/sysimage/rpm"),
]


def build_packages(folder, count, files):
    names = [f"{i:0{len(str(count))}d}" for i in range(1, count + 1)]
    spec = folder / "bench.spec"
    spec.write_text(SPEC_HEAD.format(count=count, files=files)
                    + "".join(SPEC_PACKAGE.format(name=n) for n in names))
    subprocess.run(["rpmbuild", "-bb", "--define", f"_topdir {folder}/top", "--define",
                    f"_dbpath {folder}/db", "--define", f"_rpmdir {folder}/out", "--define",
                    "_rpmfilename %%{NAME}.rpm", "--define", "_binary_payload w1.gzdio", spec],
                   check=True, capture_output=True)
    return [folder / "out" / f"bench-{n}.rpm" for n in names]


class Run:
    """One machine with its database in one place."""

    def __init__(self, place, packages, stack, initrd):
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-rpm-")))
        network = stack.enter_context(contextlib.closing(lab.Network()))
        self.place, self.count = place, len(packages)
        self.tree = roots.make_tree(folder)
        (self.tree / "packages").mkdir()
        for package in packages:
            (self.tree / "packages" / package.name).write_bytes(package.read_bytes())
        (self.tree / place.database.lstrip("/")).mkdir(parents=True, exist_ok=True)
        (self.tree / "etc/rpm").mkdir(exist_ok=True)
        (self.tree / "etc/rpm/macros").write_text(f"%_dbpath {place.database}\n")
        files = stack.enter_context(contextlib.closing(
            nfs.Server(network, [nfs.Export(self.tree)], grace=True)))
        files.start()
        self.server = files
        append = f"root=nfs:{lab.SERVER_IP}:{self.tree}:vers={place.version} rw {roots.IP}"
        if place.is_ours:
            image = lab.make_image(folder / "rpm.img", "256M")
            self.server = stack.enter_context(contextlib.closing(lab.Server(network, {"rpm": image})))
            self.server.start()
            append += f" rpmdb=nbd://{lab.SERVER_IP}/rpm"
        self.guest = stack.enter_context(contextlib.closing(
            lab.Guest(network, memory="512M", initrd=initrd, append=append)))
        self.guest.wait_ready(300)
        # the clients of a restarted server wait for its grace period: not within what is measured
        self.guest.run(f"mkdir -p {place.database}; rpm --initdb; rm -f /stop", timeout=120)

    def timed(self, command, timeout=600):
        began = time.monotonic()
        status, output = self.guest.run(command, timeout=timeout, check=False)
        return time.monotonic() - began, status, output

    def each(self, action):
        """A transaction for each package; how many failed is in /failed."""
        return (f"n=0; for p in /packages/*.rpm; do {action} >>/run/out 2>&1 || n=$((n+1)); done; "
                "echo $n >/run/failed")

    def failed(self):
        return int(self.guest.run("cat /run/failed"))

    def verdict(self, command, timeout=120):
        _, status, output = self.timed(command, timeout)
        return "ok" if status == 0 else f"exit {status}: {output.strip().splitlines()[-1][:90]}"

    def measure(self):
        install = "rpm -i --force-debian --nodeps --justdb $p"
        erase = "rpm -e --nodeps --justdb $(basename $p .rpm)"
        out = {}
        reader = self.guest.start("n=0; bad=0; until [ -e /run/stop ]; do rpm -qa >/dev/null 2>&1 || "
                                  "bad=$((bad+1)); n=$((n+1)); sleep 0.2; done; echo $bad of $n")
        seconds, _, _ = self.timed(self.each(install))
        failed = self.failed()
        self.guest.run("touch /run/stop")
        _, readers = self.guest.finish(reader, 60)
        out["installs"] = f"{seconds:.1f} s, {failed} failed"
        out["readers failed"] = readers.strip()
        seconds, _, _ = self.timed(self.each(erase))
        out["erasures"] = f"{seconds:.1f} s, {self.failed()} failed"

        job = self.guest.start(self.each(install))
        time.sleep(2)
        self.guest.run("kill -9 $(pidof rpm); :")
        self.guest.finish(job, 600)
        out["kill -9, verifydb"] = self.verdict("rpmdb --verifydb")
        self.timed(self.each("rpm -i --force-debian --nodeps --justdb --replacepkgs $p"))

        job = self.guest.start(self.each("rpm -i --force-debian --nodeps --justdb --replacepkgs $p"))
        time.sleep(2)
        self.server.kill()
        time.sleep(5)
        self.server.start()
        self.guest.finish(job, 900)
        out["server killed for 5 s"] = f"{self.failed()} failed, verifydb {self.verdict('rpmdb --verifydb')}"

        out["rebuilddb"] = self.verdict("rpmdb --rebuilddb")
        if out["rebuilddb"] != "ok" and self.place.is_ours:
            out["rebuilddb"] = "refused; the recipe: " + self.verdict(RECIPE)
        folder = self.tree / self.place.database.lstrip("/")
        stray = [p for p in folder.parent.rglob(".nfs*")]
        stray += [p for p in folder.parent.glob("rpmold*")] + [p for p in folder.parent.glob("rpmrebuild*")]
        if not self.place.is_ours and stray:
            out["rebuilddb"] += f", {len(stray)} stray files left"
        out["packages then"] = self.guest.run("rpm -qa | wc -l", timeout=120).strip()
        return out


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=25, help="packages (25)")
    parser.add_argument("--files", type=int, default=200, help="files in each (200)")
    args = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory(prefix="bench-rpm-") as name:
        folder = pathlib.Path(name)
        packages = build_packages(folder, args.count, args.files)
        initrd = nfs.make_initrd(folder)
        for place in PLACES:
            with contextlib.ExitStack() as stack:
                results[place.name] = Run(place, packages, stack, initrd).measure()
            print(f"{place.name}: {results[place.name]}", flush=True)
    keys = list(next(iter(results.values())))
    print(f"\n{args.count} packages of {args.files} files, rpm --justdb: the database alone\n")
    print("| database on | " + " | ".join(keys) + " |")
    print("| --- |" + " --- |" * len(keys))
    for place, result in results.items():
        print(f"| {place} | " + " | ".join(result[k] for k in keys) + " |")


if __name__ == "__main__":
    main()
