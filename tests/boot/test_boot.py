# SPDX-License-Identifier: GPL-2.0-or-later
"""
The slow lane: QEMU without a disk boots Debian's unmodified kernel by PXE with our initramfs, to a
login of a Debian root, while things happen to its server.
"""
import time

import machine


def parameters(server, more=""):
    base = f"nbd://{machine.HOST}:{server.port}"
    return f"root={base}/root rw rpmdb={base}/clients/{{mac}}/rpm {more}"


def power_off(box, disks):
    box.type("systemctl poweroff\n")
    box.wait_off()
    assert "everything is written" in box.text()
    assert not box.io_errors()
    for name, (clean, text) in disks.check().items():
        assert clean, f"{name}: {text}"


def test_machine_boots_to_a_login_although_its_server_is_killed_on_the_way(
        switch_on, server, disks):
    box = switch_on(parameters(server))
    number, _, _ = box.wait_for(r"EXT4-fs \(nbd0\): mounted", 180)
    server.kill()
    time.sleep(3)
    server.start()
    box.wait_for(r"nbd0: server .* is back after", 60, number)
    box.wait_login()

    status, output = box.command("cat /proc/mounts")
    assert status == 0
    assert "/dev/nbd0 / ext4 rw" in output
    assert "/dev/nbd1 /var/lib/rpm ext3 rw" in output

    # rpm works on it: install, erase, and the recipe of docs/rpm.md for --rebuilddb
    commands = ("rpm --initdb",
                f"rpm -i --force-debian --nodeps /root/{machine.PACKAGE}",
                "rpm -V --nodeps nbdroot-hello",
                "rpmdb --verifydb",
                "mount /dev/nbd1 /mnt && mkdir /mnt/rebuild && cp -p /var/lib/rpm/rpmdb.sqlite* "
                "/mnt/rebuild/",
                "rpmdb --dbpath /mnt/rebuild --rebuilddb",
                "rm -f /var/lib/rpm/rpmdb.sqlite-*; mv /mnt/rebuild/rpmdb.sqlite* /var/lib/rpm/",
                "rm -rf /mnt/rebuild && umount /mnt",
                "rpmdb --verifydb",
                "rpm -q nbdroot-hello",
                "rpm -e --nodeps nbdroot-hello",
                "rpmdb --verifydb")
    for line in commands:
        status, output = box.command(line)
        assert status == 0, f"{line}: {output}"
    power_off(box, disks)


def test_other_card_and_a_server_that_comes_late(switch_on, server, disks):
    server.kill()
    box = switch_on(parameters(server), card="e1000")
    number, _, match = box.wait_for(r"cannot reach server (\S+): Connection refused", 180)
    assert match.group(1) == f"{machine.HOST}:{server.port}"
    time.sleep(5)
    server.start()
    box.wait_for(r"/dev/nbd0: attached to", 10, number)
    box.wait_login()
    power_off(box, disks)
