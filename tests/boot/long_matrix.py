# SPDX-License-Identifier: GPL-2.0-or-later
"""
For `make check-long`: machines of all firmwares, kernels and cards boot to a root that works, with
the initramfs that `nbdroot initramfs` makes by default. The ids name the cell: -k uefi-http-6.12,
-k i386, -k usb. Each pair of a firmware, a card and a kernel is there at least once.

How long each took is left in boot-times/ of the build folder; times.py makes a table of it.
"""
import json
import shutil

import nfs
import pytest
import room as rooms
from machine import lab
from room import are_clean, works

AMD64 = ("5.10", "6.1", "6.12")
CARDS = ("virtio", "e1000", "e1000e", "rtl8139")
BY_FIRMWARE = [firmware for firmware in rooms.FIRMWARES if firmware != "kernel"]
CELLS = [(firmware, AMD64[(f + c) % len(AMD64)], card)
         for f, firmware in enumerate(BY_FIRMWARE) for c, card in enumerate(CARDS)]
CELLS += [("bios-pxe", "6.1-i386", card) for card in CARDS]
# no firmware boots from a card on USB
CELLS += [("kernel", kernel, "usb") for kernel in rooms.KERNELS]
LATE = [("kernel", kernel, "usb") for kernel in ("6.12", "6.1-i386")]


def name_of(cell):
    return "-".join(cell)


def note(name, box):
    folder = lab.BUILD / "boot-times"
    folder.mkdir(exist_ok=True)
    first = box.wait_for(r"\] Linux version", 0)[1]
    init = box.wait_for(r"Run /init as init", 0)[1]
    (folder / f"{name}.json").write_text(json.dumps(
        {"kernel_starts": first, "init_starts": init, "guest": box.guest_times()}) + "\n")


@pytest.mark.parametrize("cell", CELLS, ids=name_of)
def test_machine_boots(cell, room, roots, initramfs_for):
    firmware, kernel, card = cell
    initramfs = initramfs_for(kernel, drivers="all")
    server = room.serve(roots)
    append = rooms.root_line()
    if firmware == "kernel":
        room.start_dhcp()
    else:
        room.offer(firmware, kernel, initramfs, append)
    box = room.switch_on(firmware, card, kernel, initramfs, append)
    root = box.wait_root(400)
    assert root.startswith(kernel.split("-")[0] + ".") and "/dev/nbd0 / ext3 rw" in root
    if firmware != "kernel":
        assert f"BOOTIF=01-{box.mac.replace(':', '-')}" in box.command("cat /proc/cmdline")[1]
    works(box)
    are_clean(server)
    note(name_of(cell), box)


@pytest.mark.parametrize("cell", LATE, ids=name_of)
def test_machine_boots_by_a_card_that_is_plugged_in_late(cell, room, roots, initramfs_for):
    _, kernel, card = cell
    server = room.serve(roots)
    room.start_dhcp()
    box = room.switch_on("kernel", card, kernel, initramfs_for(kernel, drivers="all"), rooms.root_line(),
                         is_late=True)
    box.wait_for(r"waiting for a network card, none found", 300)
    box.plug_in()
    box.wait_root(60)
    works(box)
    are_clean(server)
    note(name_of(cell) + "-late", box)


@pytest.mark.parametrize("kernel,root", [("5.10", "nfs3"), ("6.12", "nfs4"), ("6.1-i386", "nfs4"),
                                         ("6.1", "dhcp")])
def test_machine_boots_from_nfs_with_its_rpm_database_on_a_device(
        kernel, root, room, tmp_path, small_tree, initramfs_for):
    tree = tmp_path / "nfs-root"
    shutil.copytree(small_tree, tree, symlinks=True)
    storage = nfs.Server(room, [nfs.Export(tree)])
    storage.start()
    try:
        mac = rooms.MACS[0]
        server = room.serve({rooms.export(mac, "rpm"): lab.make_image(tmp_path / "rpm.img", "16M")})
        where = f"{rooms.ADDRESS}:{tree}"
        room.start_dhcp(*([f"--dhcp-option=option:root-path,{where}"] if root == "dhcp" else []))
        # not 4.2: READ_PLUS of 6.12 and nfs-ganesha 4.3 do not agree on what stands in a file
        roots = {"dhcp": "dhcp", "nfs3": f"nfs:{where}:vers=3", "nfs4": f"nfs:{where}:vers=4.1"}
        box = room.switch_on(kernel=kernel, initramfs=initramfs_for(kernel, drivers="all"),
                             append=f"root={roots[root]} rw rpmdb=nbd://{rooms.ADDRESS}/rpm-{{mac}}")
        line = box.wait_root(400)
        assert " / nfs" in line and ("vers=3" in line) == (root == "nfs3"), line
        assert "/dev/nbd0 /var/lib/rpm ext3 rw" in box.command("cat /proc/mounts")[1]

        token = box.start_command("for n in $(seq 300); do echo $n >>/var/lib/rpm/f; fsync /var/lib/rpm/f; done")
        server.kill()
        number, _, _ = box.wait_for("lost server", 30, token[0])
        assert not box.is_finished(token)
        server.start()
        box.wait_for("is back after", 60, number)
        assert box.finish_command(token)[0] == 0
        assert box.command("wc -l </var/lib/rpm/f")[1] == "300"
        works(box)
        assert (tree / "srv/f").stat().st_size == 1 << 20
        are_clean(server)
        note(f"kernel-{kernel}-{root}", box)
    finally:
        storage.close()
