# SPDX-License-Identifier: GPL-2.0-or-later
"""
init in the fast lane: User-Mode Linux boots the initramfs that `nbdroot initramfs` packs, from an
nbdserve, into a small root of its own. What a person at the console reads is tested here too.
"""
import time

import lab
import pytest
import roots

URI = f"nbd://{lab.SERVER_IP}/root"
IP = f"ip={lab.GUEST_IP}::{lab.SERVER_IP}:255.255.255.0:pc-17:vec0:none"
MAC = lab.GUEST_MAC


def test_root_and_rpm_database_are_mounted_and_the_real_init_runs(boot, images_server):
    guest = boot(f"root={URI} rw {IP} rpmdb=nbd://{lab.SERVER_IP}/rpm-{{mac}} single")
    guest.wait_ready()
    mounts = guest.run("cat /proc/mounts")
    assert "/dev/nbd0 / ext3 rw" in mounts or "/dev/nbd0 / ext4 rw" in mounts
    assert "/dev/nbd1 /var/lib/rpm ext3 rw" in mounts
    assert "real init: single" in guest.log()
    assert guest.run("hostname") == "pc-17\n"
    # what outlives switch_root is there and works
    assert guest.run("nbdclient status").count("attached") >= 2
    assert guest.run("head -c1 /proc/$(pidof nbdclient | cut -d' ' -f1)/cmdline") == "@"


def test_root_lives_through_a_kill_of_the_server(boot, images_server):
    guest = boot(f"root={URI} rw {IP}")
    guest.wait_ready()
    job = guest.start("guest write /records /run/acked")

    def acked():
        return int(guest.run("cat /run/acked 2>/dev/null | wc -l"))

    for _ in range(3):
        before = acked()
        lab.wait_until(lambda: acked() > before + 10, 10, "records")
        images_server.kill()
        time.sleep(0.5)
        images_server.start()
        before = acked()
        lab.wait_until(lambda: acked() > before + 10, 10, "I/O to go on")
    guest.run("kill $(cat /tmp/guest-write.pid)")
    guest.finish(job)
    guest.run("sync; echo 3 >/proc/sys/vm/drop_caches")
    assert guest.run("guest verify /records /run/acked").endswith(" 0 lost\n")
    guest.run("mount -o remount,ro / && nbdclient status")
    assert not guest.io_errors()
    images_server.kill()
    clean, text = lab.fsck_is_clean(images_server.exports["root"])
    assert clean, text


def test_what_is_held_in_memory_keeps_no_other_file_system_from_being_unmounted(
        boot, images_server):
    guest = boot(f"root={URI} {IP}")
    guest.wait_ready()
    guest.run("mount -t tmpfs tmpfs /var && mkdir /var/log && echo record >/var/log/wtmp")
    guest.wait_log("hold: ", 60)
    assert "not all" not in guest.log()
    assert "/bin/busybox" in guest.run("cat /proc/$(pidof nbdroot-hold)/maps")
    guest.run("umount /var")


def test_server_that_is_killed_before_the_root_is_attached_costs_only_time(
        boot, network, images_server):
    images_server.kill()
    guest = boot(f"root={URI} {IP}")
    guest.wait_log("cannot reach server", 20)
    time.sleep(2)
    images_server.start()
    guest.wait_ready()
    assert " / ext" in guest.run("cat /proc/mounts")


def test_way_out_finds_a_mount_point_with_blanks(boot, images_server, images):
    """To the kernel's list it is my\\040disk, which nobody can unmount."""
    guest = boot(f"root={URI} {IP} rpmdb=nbd://{lab.SERVER_IP}/rpm-{{mac}}")
    guest.wait_ready()
    guest.run("umount /var/lib/rpm; mount -t tmpfs tmpfs /tmp; mkdir '/tmp/my disk'; "
              "mount /dev/nbd1 '/tmp/my disk'; echo x >'/tmp/my disk/x'")
    guest.start("/run/initramfs/shutdown poweroff")
    assert roots.wait_end(guest, 70)[0] == "off"
    assert "everything is written" in guest.log()
    assert "my" not in guest.log().split("shutdown: ")[1]
    images_server.kill()
    clean, text = lab.fsck_is_clean(images["rpm-" + MAC.replace(":", "-")])
    assert clean, text


def test_root_that_does_not_answer_while_it_is_looked_at_is_waited_for_in_words(
        network, initrd, images, images_server, tmp_path):
    """Between the steps mount and switch, where a shell stands that leaves after some seconds."""
    roots.debugfs(images["root"], "mkdir /etc") # whose block nobody has read by then
    longer = lab.add_to_initrd(initrd, tmp_path / "initrd",
                               [("etc/profile", 0o100644, b"sleep 5; exit\n")])
    guest = lab.Guest(network, initrd=longer, append=f"root={URI} {IP} rd.break=switch")
    try:
        guest.wait_log('a shell before the step "switch"', 30)
        images_server.kill()
        guest.wait_log("root: waiting for the root's file system, /", 60)
        images_server.start()
        guest.wait_ready(60)
    finally:
        guest.close()


def test_root_is_read_only_unless_rw_says_otherwise(boot, images_server):
    guest = boot(f"root={URI} {IP}")
    guest.wait_ready()
    assert "/dev/nbd0 / ext" in guest.run("cat /proc/mounts")
    assert " ro," in guest.run("grep ' / ' /proc/mounts")


def test_dracut_form_names_port_file_system_and_options(boot, network, images):
    server = lab.Server(network, {"": images["root"]}, port=10999)
    server.start()
    try:
        guest = boot(f"root=nbd:{lab.SERVER_IP}:10999:ext3:noatime rw {IP}")
        guest.wait_ready()
        assert "noatime" in guest.run("grep ' / ' /proc/mounts")
    finally:
        server.close()


def test_missing_export_is_named_and_asked_for_again(boot, network, images):
    server = lab.Server(network, {"other": images["root"]})
    server.start()
    try:
        guest = boot(f"root={URI} {IP}")
        guest.wait_log("no such export", 20)
        server.kill()
        server.exports = {"root": images["root"]}
        server.start()
        guest.wait_ready()
    finally:
        server.close()


@pytest.mark.parametrize("append, words", [
    ("root=", "root="),
    ("root=/dev/sda1", "root="),
    ("root=nfs:10.0.0.1", "nfs"),
    (f"root=dhcp {IP}", "root=dhcp"),
    (f"root={URI} nbdroot.mount=nbd://h/x", "nbdroot.mount"),
    (f"root={URI} nbdroot.fallbck=h", "nbdroot.fallbck"),
    (f"root={URI} ip=10.0.0.300::::::none", "ip="),
    (f"root={URI} BOOTIF=01-02", "BOOTIF"),
])
def test_bad_parameter_gets_last_words_that_name_it(boot, network, append, words):
    guest = boot(append)
    guest.wait_log("this machine cannot boot", 20)
    lab.wait_until(lambda: "next:" in guest.log(), 5, "the last words' end")
    framed = [line for line in guest.log().splitlines() if "nbdroot: |" in line]
    assert any(words in line for line in framed), framed
    assert any("step:" in line for line in framed)
    assert any("try:" in line for line in framed)


@pytest.mark.parametrize("uri, words", [
    ("nbd://{server}/{{uuid}}", "this machine has no {uuid}"),
    ("nbd://{server}:99999/root", "the port is not a number"),
])
def test_what_waiting_cannot_heal_restarts_the_machine_when_panic_says_so(boot, network, uri, words):
    guest = boot(f"root={uri.format(server=lab.SERVER_IP)} {IP} panic=3")
    guest.wait_log(words, 30)
    guest.wait_log("next: restart in 3 s (panic=)", 5)
    assert "[attach]" in guest.log()
    assert roots.wait_end(guest, 30)[0] == "restart"


def test_mount_point_that_a_mounted_device_lacks_restarts_the_machine(boot, images_server):
    guest = boot(f"root={URI} {IP} rpmdb=nbd://{lab.SERVER_IP}/rpm-{{mac}},/nowhere panic=3")
    guest.wait_log("no mount point for", 30)
    guest.wait_log("next: restart in 3 s (panic=)", 5)
    assert roots.wait_end(guest, 30)[0] == "restart"


def test_shell_comes_after_a_minute_without_a_server_when_it_was_asked_for(boot, network):
    guest = boot(f"root={URI} {IP} rd.shell")
    guest.wait_log("this machine cannot boot", 90)
    guest.wait_log("Connection refused", 5)
    assert "[attach]" in guest.log()


def test_init_that_cannot_be_started_is_told_with_its_reason(boot, images_server, images):
    """And not asked whether it is the right export. The same folder leads to all the others, too."""
    for name in ("sbin", "bin"):
        roots.debugfs(images["root"], f"sif {name} block[0] 0xfffffff0")
    guest = boot(f"root={URI} {IP}")
    guest.wait_log("this machine cannot boot", 30)
    lab.wait_until(lambda: "next:" in guest.log(), 5, "the last words' end")
    assert "/sbin/init" in guest.log() and "right export" not in guest.log()
    assert "the file system is damaged" in " ".join(
        line.split("nbdroot: |", 1)[-1].strip() for line in guest.log().splitlines())


def test_image_without_an_init_gets_last_words(boot, network, tmp_path):
    image = lab.make_image(tmp_path / "empty.img", "16M")
    server = lab.Server(network, {"root": image})
    server.start()
    try:
        guest = boot(f"root={URI} {IP}")
        guest.wait_log("this machine cannot boot", 20)
        guest.wait_log("has none of /sbin/init", 5)
    finally:
        server.close()
