# SPDX-License-Identifier: GPL-2.0-or-later
"""
What a client has to endure while its server is away: no memory, its own death, long outages; and
the stale write, through the real driver. User-Mode Linux guests, faults from outside.

NBDROOT_OUTAGE=3600: the length of the long outage, in seconds (make check-long).
"""
import os
import random
import time

import lab
from faultfs import FaultFS

URI = f"nbd://{lab.SERVER_IP}/root"
SLACK = 1 if os.environ.get("NBDROOT_STRICT") else 2
OUTAGE = int(os.environ.get("NBDROOT_OUTAGE", "20"))
SEED = int(os.environ.get("NBDROOT_SEED", "1"))
MIB = 1 << 20


def attach_and_mount(guest):
    guest.run(f"nbdclient attach {URI} --device /dev/nbd0")
    guest.run("mount -t ext3 /dev/nbd0 /mnt")


def acked(guest):
    return int(guest.run("cat /tmp/acked 2>/dev/null | wc -l"))


def start_writing(guest):
    job = guest.start("guest write /mnt/records /tmp/acked")
    lab.wait_until(lambda: acked(guest) > 20, 10 * SLACK, "the first records")
    return job


def wait_progress(guest, timeout=15):
    before = acked(guest)
    lab.wait_until(lambda: acked(guest) > before + 5, timeout * SLACK, "I/O to go on")


def finish(guest, server, image, writer):
    """Stops the writer and looks for everything that may not be."""
    assert guest.is_running(writer), "the writer died: " + str(guest.finish(writer))
    guest.run("kill $(cat /tmp/guest-write.pid)")
    guest.finish(writer)
    guest.run("echo 3 >/proc/sys/vm/drop_caches")
    verdict = guest.run("guest verify /mnt/records /tmp/acked", 60)
    assert verdict.endswith(" 0 lost\n"), verdict
    guest.run("umount /mnt", 60)
    guest.run("nbdclient detach /dev/nbd0")
    assert not guest.io_errors()
    server.kill()
    clean, text = lab.fsck_is_clean(image)
    assert clean, text


def test_stale_write_of_the_old_connection_never_lands_on_newer_data(guest, network, tmp_path):
    """
    A write hangs in the server's disk while its connection is reset: the driver sends it again on
    the next connection, and what is written after that must stay.
    """
    at = 5 * MIB
    with FaultFS(tmp_path) as disk:
        disk.image("a", 64 * MIB)
        server = lab.Server(network, {"root": disk.mount / "a"})
        server.start()
        try:
            guest.run(f"nbdclient attach {URI} --device /dev/nbd0")
            for letter in "old", "new":
                guest.run(f"yes {letter} | head -c 4096 >/tmp/{letter}")
            frozen = disk.freeze("write", file="a", offset=at, length=4096)
            writer = guest.start(f"dd if=/tmp/old of=/dev/nbd0 bs=4096 seek={at // 4096} "
                                 "oflag=direct conv=fsync 2>/dev/null")
            disk.wait_for_hits(frozen, 1)
            network.run("ss", "-K", "dst", lab.GUEST_IP)
            lab.wait_until(lambda: guest.status()["outages"] == 1, 15 * SLACK, "the loss")
            time.sleep(1)
            assert guest.status()["state"] != "attached", "let in while the old write was running"
            disk.clear(frozen)
            status, output = guest.finish(writer, 15 * SLACK)
            assert status == 0, output
            guest.run(f"dd if=/tmp/new of=/dev/nbd0 bs=4096 seek={at // 4096} oflag=direct "
                      "conv=fsync 2>/dev/null")
            time.sleep(2)
            with open(disk.folder / "a", "rb") as image:
                image.seek(at)
                assert image.read(4096) == b"new\n" * 1024
            assert not guest.io_errors()
        finally:
            disk.clear()
            server.close()


def ends_within(guest, job, seconds):
    deadline = time.monotonic() + seconds
    while guest.is_running(job) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not guest.is_running(job)


def test_no_memory_and_only_dirty_pages_while_the_server_is_away_and_root_is_on_the_device(
        guest, server, image):
    attach_and_mount(guest)
    pid = guest.status()["pid"]
    guest.run("mkdir -p /mnt/bin /mnt/tmp && cp /bin/busybox /mnt/bin/busybox && sync")
    writer = start_writing(guest)
    server.kill()
    # the root's own programs dirty all that may be dirty, and somebody takes the rest
    dirty = guest.start("chroot /mnt /bin/busybox dd of=/tmp/big bs=1M count=24 </dev/zero 2>&1")
    hog = guest.start("/bin/busybox tail /dev/zero")  # keeps a line that never ends in memory
    # It is killed, or the kernel lets it wait for dirty pages that cannot be written: either way
    # no memory is left, and whoever needs some now waits until the server is there.
    if ends_within(guest, hog, 40):
        assert guest.status()["pid"] == pid, "nbdclient was chosen to die"
        hog = guest.start("/bin/busybox tail /dev/zero")  # and while it reconnects
    server.start()
    status, _ = guest.finish(hog, 90)
    assert status != 0, "memory was never short"
    assert "Out of memory" in guest.log()
    lab.wait_until(lambda: guest.status()["state"] == "attached", 15 * SLACK, "the reconnection")
    assert guest.status()["pid"] == pid, "nbdclient was chosen to die"
    status, output = guest.finish(dirty, 60)
    assert status == 0, output
    wait_progress(guest)
    finish(guest, server, image, writer)


def test_nbdclient_killed_at_any_instant_of_an_outage_has_a_successor_that_goes_on(
        guest, server, image):
    rng = random.Random(SEED)
    attach_and_mount(guest)
    writer = start_writing(guest)
    for _ in range(6):
        pid = guest.status()["pid"]
        server.kill()
        time.sleep(rng.uniform(0, 0.4))
        server.start()
        time.sleep(rng.uniform(0, 0.3))  # in the midst of the reconnection
        guest.run(f"kill -9 {pid}")
        lab.wait_until(lambda: not guest.status()["attended"], 5 * SLACK, "its death")
        guest.run(f"nbdclient attach {URI} --device /dev/nbd0", 30 * SLACK)
        wait_progress(guest)
    finish(guest, server, image, writer)


def test_long_outage_ends_as_a_short_one_does(guest, server, image):
    attach_and_mount(guest)
    writer = start_writing(guest)
    server.kill()
    time.sleep(OUTAGE)
    lines = guest.log().count("\n")
    server.start()
    wait_progress(guest)
    status = guest.status()
    assert status["outages"] == 1 and status["longest_outage_ms"] >= OUTAGE * 1000
    # a line a minute from nbdclient; the kernel's hung task warnings are its own
    ours = [line for line in guest.log().splitlines() if "nbdclient" in line]
    assert len(ours) < 6 + OUTAGE / 30, "\n".join(ours)
    print(f"{OUTAGE} s of outage: {lines} lines on the console, {len(ours)} of them ours")
    finish(guest, server, image, writer)
