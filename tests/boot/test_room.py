# SPDX-License-Identifier: GPL-2.0-or-later
"""
Machines in a room boot by their own firmware from what `nbdroot netboot` wrote, and say in words
what they miss. The most telling cases; all of them are in long_matrix.py.
"""
import room as rooms
from room import are_clean, works


def test_bios_and_uefi_machine_boot_from_one_entry_before_their_server_is_up(
        room, roots, initramfs_for):
    room.offer("bios-pxe", "6.1", initramfs_for("6.1"), rooms.root_line("panic=30"))
    boxes = [room.switch_on("bios-pxe", "virtio"), room.switch_on("uefi-pxe", "e1000e")]
    numbers = [box.wait_for(rf"/dev/nbd0: waiting for the NBD server {rooms.ADDRESS}:10809, refused", 300)[0]
               for box in boxes]
    server = room.serve(roots)
    for box, number in zip(boxes, numbers):
        box.wait_for(rf"attached to nbd://{rooms.ADDRESS}/{rooms.export(box.mac)},", 30, number)
        assert "/dev/nbd0 / ext3 rw" in box.wait_root()
        _, cmdline = box.command("cat /proc/cmdline")
        assert f"BOOTIF=01-{box.mac.replace(':', '-')}" in cmdline
    for box in boxes:
        works(box)
    are_clean(server)


def test_machine_says_what_is_missing_and_goes_on_when_it_is_there(room, roots, initramfs_for):
    box = room.switch_on(card="usb", initramfs=initramfs_for("6.1"), append=rooms.root_line(),
                         is_late=True)
    number, _, _ = box.wait_for(r"network: waiting for a network card, none found, \d+ s", 120)
    box.plug_in()
    number, _, _ = box.wait_for(rf"network: waiting for a DHCP answer on \w+ \({box.mac}\), link up, \d+ s", 60, number)
    room.start_dhcp()
    number, _, _ = box.wait_for(rf"/dev/nbd0: waiting for the NBD server {rooms.ADDRESS}:10809, refused, \d+ s", 60,
                                number)
    server = room.serve({"another": roots[rooms.export(rooms.MACS[1])]})
    number, _, _ = box.wait_for(
        rf"nbd://{rooms.ADDRESS}/{rooms.export(box.mac)}: .*no such export.* \(trying again every 5 s\)", 60, number)
    server.kill()
    server.exports = roots
    server.start()
    box.wait_root(60)
    works(box)
    are_clean(server)


def test_card_that_bootif_does_not_name_is_not_used(room, initramfs_for):
    box = room.switch_on(initramfs=initramfs_for("6.1"),
                         append=rooms.root_line("BOOTIF=01-52-54-00-aa-bb-cc"))
    box.wait_for(r"network: waiting for the network card 52:54:00:aa:bb:cc \(BOOTIF=\), "
                 rf"there are eth0 \({box.mac}\), \d+ s", 120)


def test_dhcp_without_a_root_path_gets_last_words(room, initramfs_for):
    room.start_dhcp()
    box = room.switch_on(initramfs=initramfs_for("6.1"), append="root=dhcp")
    words = box.last_words(120)
    assert "root=dhcp" in words["why"] and "17" in words["why"] + words["try"], words


def test_machine_with_little_memory_boots(room, roots, initramfs_for):
    server = room.serve(roots)
    room.start_dhcp()
    box = room.switch_on(initramfs=initramfs_for("6.1"), append=rooms.root_line(), memory="128M")
    box.wait_root(120)
    works(box)
    are_clean(server)
