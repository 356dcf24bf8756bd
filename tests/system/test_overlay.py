# SPDX-License-Identifier: GPL-2.0-or-later
"""
Roots that are read-only, and writable all the same: an overlay in memory or on the machine's own
device. What is below is never written to; what is on the device is there after the next boot, on a
file system that was unmounted. Real kernel, User-Mode Linux. NBDROOT_LONG: sysvinit too.
"""
import hashlib
import os
import shutil
import subprocess

import lab
import nfs
import pytest
import roots

LONG = bool(os.environ.get("NBDROOT_LONG"))
IP = roots.IP
URI = f"nbd://{lab.SERVER_IP}/root"
UPPER = f"nbd://{lab.SERVER_IP}/upper-" + lab.GUEST_MAC.replace(":", "-")
DEVICE = f"nbdroot.overlay=nbd://{lab.SERVER_IP}/upper-{{mac}}"


@pytest.fixture(scope="session")
def initrd(tmp_path_factory):
    return nfs.make_initrd(tmp_path_factory.mktemp("init"))


@pytest.fixture
def upper(tmp_path):
    return lab.make_image(tmp_path / "upper.img", "32M", "--label", "upper")


@pytest.fixture
def server(network, images, upper):
    """The root for everybody, read-only, and one machine's own upper half."""
    srv = lab.Server(network, {"root": f"{images['root']},ro",
                               "upper-" + lab.GUEST_MAC.replace(":", "-"): upper})
    srv.start()
    yield srv
    srv.close()


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def mounts(guest):
    return [line.split() for line in guest.run("cat /proc/mounts").splitlines()]


def mounted(guest, where):
    return next(m for m in mounts(guest) if m[1] == where)


def features(image):
    return subprocess.run(["dumpe2fs", "-h", image], check=True, capture_output=True, text=True).stdout


def power_off(guest):
    guest.start("/run/initramfs/shutdown poweroff")
    how, _ = roots.wait_end(guest, 70)
    assert how == "off"


def test_writes_go_to_memory_and_the_image_stays_as_it_is(boot, server, images):
    before = digest(images["root"])
    guest = boot(f"root={URI} {IP} nbdroot.overlay=tmpfs,size=20m")
    guest.wait_ready()
    assert mounted(guest, "/")[2] == "overlay" and mounted(guest, "/")[3].startswith("rw")
    # both halves stay where an administrator can look at them
    assert mounted(guest, "/run/initramfs/lower")[0] == "/dev/nbd0"
    assert "size=20480k" in mounted(guest, "/run/initramfs/upper")[3]
    guest.run("echo new >/new; echo changed >>/sbin/init; rm /bin/guest; mkdir -p /etc/x")
    assert guest.run("ls /run/initramfs/upper/upper").split() == ["bin", "etc", "new", "sbin"]
    assert guest.run("stat -c '%a %u' /") == "755 0\n"
    # others have the image meanwhile: it is the same for all of them
    subprocess.run(server.inside(lab.NBDCLIENT, "info", URI), check=True, capture_output=True)
    power_off(guest)
    assert "everything is written" in guest.log()
    assert not guest.io_errors()
    server.kill()
    assert digest(images["root"]) == before


def test_image_that_could_be_written_is_not_even_for_its_journal(boot, network, images):
    subprocess.run(["debugfs", "-w", "-R", "feature needs_recovery", images["root"]], check=True,
                   capture_output=True)
    assert "needs_recovery" in features(images["root"])
    before = digest(images["root"])
    server = lab.Server(network, {"root": images["root"]})
    server.start()
    try:
        guest = boot(f"root={URI} {IP} nbdroot.overlay=tmpfs nbdroot.fsck=force")
        guest.wait_ready()
        assert "journal cannot be replayed" in guest.log()
        guest.run("echo new >/new; sync")
        power_off(guest)
    finally:
        server.close()
    assert digest(images["root"]) == before


def test_directory_of_the_lower_half_can_be_renamed_as_package_managers_do(boot, server):
    guest = boot(f"root={URI} {IP} nbdroot.overlay=tmpfs")
    guest.wait_ready()
    before = guest.run("stat -c %i /sbin/init")
    guest.run("mv /var/lib/rpm /var/lib/rpm.old && mv /var/lib /var/lib2 && touch /var/lib2/x")
    guest.run("echo '#' >>/sbin/init")
    assert guest.run("stat -c %i /sbin/init") == before, "a written file got another number"


def test_what_is_on_the_device_is_there_after_a_reboot(boot, server, images, upper):
    before = digest(images["root"])
    guest = boot(f"root={URI} {IP} {DEVICE}")
    guest.wait_ready()
    assert mounted(guest, "/run/initramfs/upper")[0] == "/dev/nbd1"
    assert f"root: read-only; what is written goes to {UPPER}" in guest.log()
    guest.run("echo first >/kept; rm /bin/vi; chmod 750 /; sync")
    power_off(guest)
    guest = boot(f"root={URI} {IP} {DEVICE}")
    guest.wait_ready()
    assert guest.run("cat /kept") == "first\n"
    assert guest.run("test -e /bin/vi || echo gone") == "gone\n"
    assert guest.run("stat -c %a /") == "750\n"
    power_off(guest)
    server.kill()
    clean, text = lab.fsck_is_clean(upper)
    assert clean, text
    assert digest(images["root"]) == before


def test_upper_half_lives_through_a_kill_of_the_server(boot, server, upper):
    guest = boot(f"root={URI} {IP} {DEVICE}")
    guest.wait_ready()
    job = guest.start("guest write /records /run/acked")

    def acked():
        return int(guest.run("cat /run/acked 2>/dev/null | wc -l"))

    lab.wait_until(lambda: acked() > 10, 10, "records")
    server.kill()
    guest.wait_log("lost server", 15)
    server.start()
    before = acked()
    lab.wait_until(lambda: acked() > before + 10, 20, "I/O to go on")
    guest.run("kill $(cat /tmp/guest-write.pid)")
    guest.finish(job)
    assert guest.run("guest verify /records /run/acked").endswith(" 0 lost\n")
    assert not guest.io_errors()


def test_nfs_root_that_is_read_only_takes_an_overlay(boot, network, root_tree, tmp_path):
    tree = tmp_path / "root"
    shutil.copytree(root_tree, tree, symlinks=True)
    server = nfs.Server(network, [nfs.Export(tree, access="RO")])
    server.start()
    try:
        for version in ("4.2", "3"):
            guest = boot(f"root=nfs:{lab.SERVER_IP}:{tree}:vers={version} {IP} nbdroot.overlay=tmpfs")
            guest.wait_ready()
            assert mounted(guest, "/")[2] == "overlay"
            lower = mounted(guest, "/run/initramfs/lower")
            assert lower[3].startswith("ro") and f"vers={version}" in lower[3]
            guest.run("echo changed >>/sbin/init; mv /var/lib/rpm /var/lib/rpm2; chmod 700 /bin/guest")
            assert guest.run("tail -n 1 /sbin/init") == "changed\n"
            power_off(guest)
            assert "everything is written" in guest.log()
        assert (tree / "sbin/init").read_text() == (root_tree / "sbin/init").read_text()
    finally:
        server.close()


def test_upper_device_that_is_read_only_is_refused_in_words(boot, network, images, upper):
    server = lab.Server(network, {"root": f"{images['root']},ro", "upper": f"{upper},ro"})
    server.start()
    try:
        guest = boot(f"root={URI} {IP} nbdroot.overlay=nbd://{lab.SERVER_IP}/upper")
        guest.wait_log("this machine cannot boot", 30)
        guest.wait_log("An overlay", 5)
        assert "why:  the overlay's device" in guest.log()
    finally:
        server.close()


def goes_down_cleanly(initrd, network, tmp_path, name, is_clean, before="true"):
    """A whole system on an overlay: what init and systemd, or sysvinit, make of it."""
    root = roots.make_root(tmp_path, name)
    upper = lab.make_image(tmp_path / "upper.img", "128M")
    server = lab.Server(network, {"root": f"{root},ro", "upper": upper})
    server.start()
    try:
        guest = lab.Guest(network, memory="384M", initrd=initrd,
                          append=f"root={URI} {IP} nbdroot.overlay=nbd://{lab.SERVER_IP}/upper")
        try:
            guest.wait_ready(240)
            guest.run("dd if=/dev/zero of=/root/f bs=64k count=64 2>/dev/null; echo kept >/root/g")
            guest.run(before)
            guest.start("poweroff")
            how, after = roots.wait_end(guest, 60)
            print(f"{name}: {how} after {after:.1f} s")
            assert how == "off"
            assert not guest.io_errors()
        finally:
            log = guest.log()
            guest.close()
        server.kill()
        assert ("needs_recovery" not in features(upper)) == is_clean, log[-3000:]
        clean, text = lab.fsck_is_clean(upper)
        if not is_clean: # all is in the journal: its replay, which the next boot does, makes it so
            subprocess.run(["e2fsck", "-p", upper], check=False, capture_output=True)
            clean, text = lab.fsck_is_clean(upper)
        assert clean, text
        kept = subprocess.run(["debugfs", "-R", "cat /upper/root/g", upper], check=True,
                              capture_output=True, text=True).stdout
        assert kept == "kept\n"
        return log
    finally:
        server.close()


def test_upper_half_is_clean_after_a_poweroff_of_systemd(initrd, network, tmp_path):
    log = goes_down_cleanly(initrd, network, tmp_path, roots.SYSTEMD, True)
    assert "shutdown: poweroff, everything is written" in log
    assert "still in use" not in log


def test_upper_half_is_clean_although_somebody_stays_in_the_root(initrd, network, tmp_path):
    """A process that systemd spares: the overlay cannot be unmounted, but its halves made read-only."""
    log = goes_down_cleanly(initrd, network, tmp_path, roots.SYSTEMD, True,
                            "bash -c 'cd /root; exec -a @stays sleep 1000' >/dev/null 2>&1 &")
    assert "/oldroot (overlay) is still in use (made read-only instead" in log
    assert "shutdown: poweroff, everything is written" in log


if LONG:
    def test_upper_half_is_written_after_a_poweroff_of_sysvinit(initrd, network, tmp_path):
        """No program of ours runs at its end: it makes / read-only, which writes the upper half."""
        goes_down_cleanly(initrd, network, tmp_path, roots.SYSVINIT, False)
