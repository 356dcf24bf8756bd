# SPDX-License-Identifier: GPL-2.0-or-later
"""
The demo: a machine without a disk boots by PXE with Debian's own kernel, its root and its rpm
database live on an nbdserve, and that server is killed three times. Prints a timeline and, at the
end, what was lost (nothing) and how long everything took. Exits 1 if anything was.
"""
import pathlib
import shutil
import sys
import tempfile
import time

import machine
from machine import lab

AWAY = 4  # seconds without a server, each time


class Timeline:
    def __init__(self):
        self.began = time.monotonic()
        self.marks = []

    def say(self, text):
        print(f"  {time.monotonic() - self.began:6.1f} s  {text}", flush=True)

    def mark(self, name):
        self.marks.append((name, time.monotonic() - self.began))


def outage(story, server, when, check=lambda: None):
    """Kills the server, waits, starts it again; check() is called before it is back."""
    server.kill()
    story.say(f"KILLED the server (SIGKILL): {when}")
    time.sleep(AWAY)
    check()
    server.start()
    story.say("started the server again")


def wait_back(story, box, start):
    number, _, match = box.wait_for(r"(nbd\d: server .* is back after [\d.]+ s)", 60, start)
    story.say(f"I/O resumed: {match.group(1)}")
    return number


def play(folder, story):
    disks = machine.Disks(folder)
    initramfs = folder / "initrd"
    print("initramfs:", machine.make_initramfs(initramfs).strip())
    port = machine.free_port()
    server = lab.Server(None, disks.exports(), port=port, address="127.0.0.1")
    server.start()
    base = f"nbd://{machine.HOST}:{port}"
    story.mark("make images and initramfs")

    box = machine.Machine(
        folder, initramfs,
        f"root={base}/root rw rpmdb={base}/clients/{{mac}}/rpm")
    try:
        story.say("switched on a machine that has no disk")
        box.wait_for(r"Linux version", 120)
        story.say("PXE has loaded Debian's kernel and our initramfs; the kernel starts")
        story.mark("PXE to kernel")
        box.wait_for(r"Run /init", 120)
        def misses_it():
            box.wait_for(r"cannot reach server", 60)
            story.say("the machine says that it cannot reach its server, and waits")

        outage(story, server, "the kernel runs, the root is not attached yet", misses_it)
        number, _, match = box.wait_for(r"nbdroot: (/dev/nbd0: attached to .*)$", 60)
        story.say(match.group(1).strip())
        box.wait_for(r"EXT4-fs \(nbd0\): mounted", 60)
        story.mark("kernel to root mounted")

        box.wait_for(r"systemd\[1\]: |Welcome to Debian", 120)
        outage(story, server, "the root is mounted, nobody has logged in yet")
        wait_back(story, box, number)
        box.wait_login()
        story.say("logged in on the serial console")
        story.mark("root mounted to login")

        for line in ("nbdclient status", "grep ^/dev/nbd /proc/mounts",
                     "rpm --initdb"):
            program = line.replace("nbdclient", "/run/initramfs/bin/nbdclient", 1)
            status, output = box.command(program)
            if status != 0:
                raise AssertionError(f"{line}: exit {status}: {output}")
            for text in output.splitlines():
                story.say(f"    {text}")
        install = box.start_command(
            f"rpm -ivh --force-debian --nodeps /root/{machine.PACKAGE}")
        number, _, _ = box.wait_for(r"Updating / installing|nbdroot-hello-1.0-1 +#", 60,
                                    install[0] + 1)

        def still_installing():
            if box.is_finished(install):
                raise AssertionError("rpm was done before the server was killed")

        outage(story, server, "rpm is in the middle of a transaction", still_installing)
        wait_back(story, box, number)
        status, output = box.finish_command(install)
        story.say(f"rpm -i has ended with status {status}")
        story.mark("rpm transaction with a kill in it")
        if status != 0:
            raise AssertionError(output)

        _, listed = box.command("rpm -qa")
        verified, verify_text = box.command("rpmdb --verifydb")
        _, hello = box.command("nbdroot-hello")
        files, file_text = box.command("rpm -V --nodeps nbdroot-hello")
        box.type("systemctl poweroff\n")
        box.wait_off()
        story.say("powered off")
        story.mark("rpm's answers to power off")
        errors = box.io_errors()
    except Exception:
        print(box.tail(60), file=sys.stderr)
        raise
    finally:
        box.close()
        server.close()

    checks = disks.check()
    print("\nSummary")
    print(f"  rpm -qa                   {listed.strip()}")
    print(f"  rpmdb --verifydb          {'clean' if verified == 0 else verify_text}")
    print(f"  rpm -V nbdroot-hello      {'clean' if files == 0 else file_text}")
    print(f"  nbdroot-hello             {hello.strip()}")
    for name, (clean, text) in checks.items():
        print(f"  e2fsck -fn {name:<14} {'clean' if clean else text}")
    print(f"  I/O errors on the console {len(errors)}")
    for line in errors:
        print(f"    {line}")
    before = 0.0
    print("How long it took")
    for name, at in story.marks:
        print(f"  {at - before:6.1f} s  {name}")
        before = at
    return (verified == 0 and files == 0 and not errors and "nbdroot-hello-1.0-1" in listed
            and all(clean for clean, _ in checks.values()))


def main():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="nbdroot-demo-"))
    print("A diskless machine, its server killed three times. Some minutes without KVM.")
    try:
        good = play(folder, Timeline())
    except AssertionError as e:
        print(f"demo: failed: {e}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("Nothing was lost." if good else "demo: FAILED: something was lost, see above")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
