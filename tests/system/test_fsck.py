# SPDX-License-Identifier: GPL-2.0-or-later
"""
nbdroot.fsck=: file systems that have seen errors are checked before they are mounted, when there is an
e2fsck in the initramfs; what it cannot repair is not mounted, and said.
"""
import os
import pathlib
import shutil
import signal
import subprocess

import lab
import pytest
import roots

URI = f"nbd://{lab.SERVER_IP}/root"
E2FSCK = pathlib.Path("/sbin/e2fsck.static")


@pytest.fixture(scope="session")
def initrd_with_e2fsck(initrd, tmp_path_factory):
    if not E2FSCK.exists():
        pytest.skip("e2fsck-static is not installed (make deps)")
    return lab.add_to_initrd(initrd, tmp_path_factory.mktemp("fsck") / "initrd", [
        ("sbin", 0o040755), ("sbin/e2fsck", 0o100755, E2FSCK.read_bytes())])


@pytest.fixture
def boot_with_e2fsck(network, initrd_with_e2fsck):
    with lab.booting(network, initrd_with_e2fsck) as start:
        yield lambda append: start(f"{append} {roots.IP}")


def has_errors(image):
    text = subprocess.run(["dumpe2fs", "-h", image], check=True, capture_output=True, text=True).stdout
    return "Filesystem state:         clean with errors" in text or "not clean with errors" in text


@pytest.fixture
def flagged(images):
    """The root's image, in which the kernel once saw an error: the mark, and what it is about."""
    image = images["root"]
    roots.debugfs(image, "ssv state 3", "ssv free_blocks_count 1")
    assert has_errors(image)
    return image


@pytest.fixture
def broken(images):
    """An image that e2fsck -p gives up on: two files that claim the same blocks."""
    image = images["root"]
    blocks = subprocess.run(["debugfs", "-R", "bmap /bin/guest 0", image], check=True,
                            capture_output=True, text=True).stdout.split()
    roots.debugfs(image, f"sif /sbin/init block[0] {blocks[-1]}", "ssv state 3")
    assert subprocess.run(["e2fsck", "-p", shutil.copy(image, image.with_suffix(".copy"))],
                          check=False, capture_output=True).returncode & 4
    return image


def test_file_system_that_has_seen_errors_is_repaired(boot_with_e2fsck, images_server, flagged):
    guest = boot_with_e2fsck(f"root={URI} rw")
    guest.wait_ready()
    assert "/dev/nbd0: checking it: the file system has seen errors" in guest.log()
    assert "/dev/nbd0: e2fsck: " in guest.log()
    assert "/dev/nbd0: checked: repaired" in guest.log()
    guest.run("mount -o remount,ro /")
    images_server.kill()
    assert not has_errors(flagged)
    clean, text = lab.fsck_is_clean(flagged)
    assert clean, text


def test_clean_file_system_and_an_open_journal_are_not_checked(boot_with_e2fsck, images_server, images):
    for _ in range(2):
        guest = boot_with_e2fsck(f"root={URI} rw rpmdb=nbd://{lab.SERVER_IP}/rpm-{{mac}}")
        guest.wait_ready()
        assert "e2fsck" not in guest.log() and "checking it" not in guest.log()
        guest.run("echo x >/x; sync")
        os.killpg(guest.process.pid, signal.SIGKILL)  # as a machine whose plug is pulled
        guest.process.wait()
    text = subprocess.run(["dumpe2fs", "-h", images["root"]], check=True, capture_output=True,
                          text=True).stdout
    assert "needs_recovery" in text, "the second boot had no journal to replay"


def test_force_checks_what_is_clean_and_skip_nothing(boot_with_e2fsck, images_server, flagged):
    guest = boot_with_e2fsck(f"root={URI} rw nbdroot.fsck=skip")
    guest.wait_ready()
    assert "the file system has seen errors (nbdroot.fsck=skip" in guest.log()
    assert "e2fsck: " not in guest.log()
    guest.start("/run/initramfs/shutdown poweroff")
    roots.wait_end(guest, 70)
    guest = boot_with_e2fsck(f"root={URI} rw nbdroot.fsck=force rpmdb=nbd://{lab.SERVER_IP}/rpm-{{mac}}")
    guest.wait_ready()
    assert "/dev/nbd0: checking it: nbdroot.fsck=force" in guest.log()
    assert "/dev/nbd1: checking it: nbdroot.fsck=force" in guest.log()
    assert "/dev/nbd1: checked: no damage" in guest.log()


def test_without_e2fsck_it_is_mounted_as_the_kernel_does(boot, images_server, flagged):
    guest = boot(f"root={URI} rw {roots.IP}")
    guest.wait_ready()
    assert ("/dev/nbd0: not checked: the file system has seen errors, but there is no e2fsck in this "
            "initramfs") in guest.log()


def test_damage_that_needs_a_person_gets_last_words(boot_with_e2fsck, images_server, broken):
    guest = boot_with_e2fsck(f"root={URI} rw")
    guest.wait_log("this machine cannot boot", 40)
    guest.wait_log("next:", 5)
    assert "damage that e2fsck does not" in guest.log() and "rd.shell" in guest.log()
    assert "/dev/nbd0 (ext" not in guest.log(), "it was mounted"


def test_read_only_export_is_not_checked_but_said(boot_with_e2fsck, network, flagged):
    server = lab.Server(network, {"root": f"{flagged},ro"})
    server.start()
    try:
        guest = boot_with_e2fsck(f"root={URI}")
        guest.wait_ready()
        assert "but the export is read-only and cannot be repaired from here" in guest.log()
    finally:
        server.close()
