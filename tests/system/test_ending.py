# SPDX-License-Identifier: GPL-2.0-or-later
"""
A machine that is ended without its disk, or is not: the policy for long outages, requests to shut
down while the server is away, and the signals that are no such request. Real kernel, User-Mode
Linux; the machine's process 1 is the tests' agent. Whole systems are in test_way_down.py.
"""
import time

import lab
import roots

URI = f"nbd://{lab.SERVER_IP}/root"
PATIENCE = 30  # docs/nbdclient.8.scd


def attach(guest, options, mount=True):
    guest.run(f"nbdclient attach {URI} --device /dev/nbd0 {options}")
    if mount:
        guest.run("mount -t ext3 /dev/nbd0 /mnt")
    return guest.status()["pid"]


def signal_all(guest, name, but=""):
    """As killall5(8) does it: all but process 1, ourselves, and those who are named."""
    guest.run(f"""but=" 1 $$ {but} "; for p in /proc/[0-9]*; do p=${{p#/proc/}}; case "$but" in
        *" $p "*) ;; *) kill -{name} $p 2>/dev/null;; esac; done; true""".replace("\n", " "))


def lose(guest, server):
    """The server is gone, and the client knows."""
    before = guest.status()["outages"]
    server.kill()
    lab.wait_until(lambda: guest.status()["outages"] > before, 15, "the loss")


def test_outage_longer_than_allowed_restarts_the_machine_and_says_what_is_lost(guest, server):
    attach(guest, "--outage reboot:6")
    guest.run("dd if=/dev/zero of=/mnt/f bs=64k count=16 2>/dev/null")
    server.kill()
    how, after = roots.wait_end(guest, 60)
    assert how == "restart"
    assert after > 5.5
    assert "the outage is longer than --outage allows" in guest.log()
    assert "NOT WRITTEN: " in guest.log()
    assert not guest.io_errors()


def test_outages_that_are_short_enough_do_not_add_up(guest, server):
    pid = attach(guest, "--outage reboot:9")
    for _ in range(3):
        lose(guest, server)
        time.sleep(4)
        server.start()
        guest.wait_state("attached", 15)
    assert guest.status()["pid"] == pid
    guest.run("touch /mnt/f && sync")
    assert guest.log().count("Linux version") == 1


def test_sigterm_by_others_ends_nothing_before_and_in_an_outage(guest, server):
    """kill -1 by an admin, days before or in the middle of it."""
    pid = attach(guest, "--on-shutdown end")
    guest.run(f"kill -TERM {pid}; kill -INT {pid}")
    signal_all(guest, "TERM")
    lose(guest, server)
    guest.run(f"kill -TERM {pid}; kill -INT {pid}; kill -HUP {pid}")
    signal_all(guest, "TERM")
    time.sleep(PATIENCE + 5)
    server.start()
    guest.wait_state("attached", 20)
    assert guest.status()["pid"] == pid
    assert guest.log().count("Linux version") == 1
    guest.run("touch /mnt/f && sync")


def test_stop_term_and_kill_of_all_as_sysvinit_does_it_leave_the_resident_at_work(guest, server):
    """/etc/init.d/sendsigs: killall5, without those who are listed in /run/sendsigs.omit.d."""
    pid = attach(guest, "--on-shutdown end")
    spared = guest.run("cat /run/sendsigs.omit.d/*").split()
    assert str(pid) in spared
    signal_all(guest, "STOP")
    signal_all(guest, "CONT")
    for name in ("TERM", "CONT", "KILL"):
        signal_all(guest, name, " ".join(spared))
    lose(guest, server)
    server.start()
    guest.wait_state("attached", 20)
    assert guest.status()["pid"] == pid
    assert "somebody has ended its process for test reads" not in guest.log()
    guest.run("umount /mnt && nbdclient detach /dev/nbd0")


def test_ctrl_alt_del_in_an_outage_restarts_a_machine_whose_process_1_is_deaf(guest, server):
    pid = attach(guest, "--on-shutdown end")
    guest.run("echo 0 >/proc/sys/kernel/ctrl-alt-del")  # as every init does
    assert int(guest.run("cat /proc/sys/kernel/cad_pid")) == 1
    lose(guest, server)
    lab.wait_until(lambda: int(guest.run("cat /proc/sys/kernel/cad_pid")) == pid, 10, "the keys")
    roots.press_ctrl_alt_del(guest)
    guest.wait_log("the machine is to restart, but server", 5)
    how, after = roots.wait_end(guest, 60)
    assert how == "restart"
    assert PATIENCE - 1 < after < 55
    assert "a shutdown was asked for and server" in guest.log()


def test_ctrl_alt_del_reaches_process_1_when_the_server_is_back(guest, server):
    pid = attach(guest, "--on-shutdown end")
    guest.run("echo 0 >/proc/sys/kernel/ctrl-alt-del")
    lose(guest, server)
    lab.wait_until(lambda: int(guest.run("cat /proc/sys/kernel/cad_pid")) == pid, 10, "the keys")
    roots.press_ctrl_alt_del(guest)
    guest.wait_log("the machine is to restart, but server", 5)
    server.start()
    guest.wait_log("Ctrl-Alt-Del is passed on to process 1", 20)
    assert int(guest.run("cat /proc/sys/kernel/cad_pid")) == 1
    assert guest.log().count("Linux version") == 1


def test_sigint_of_the_kernel_is_not_the_keys_for_who_never_has_them(guest, server):
    """A terminal's Ctrl-C comes from the kernel, too; cad_pid serves to make such a one here."""
    pid = attach(guest, "--on-shutdown detach", mount=False)
    guest.run(f"echo 0 >/proc/sys/kernel/ctrl-alt-del; echo {pid} >/proc/sys/kernel/cad_pid")
    roots.press_ctrl_alt_del(guest)
    guest.wait_log("goes on in spite of signal 2", 5)
    assert "passed on to process 1" not in guest.log()


def test_keys_of_a_resident_that_was_killed_come_back_with_its_successor(guest, server):
    pid = attach(guest, "--on-shutdown end", mount=False)
    lose(guest, server)
    lab.wait_until(lambda: int(guest.run("cat /proc/sys/kernel/cad_pid")) == pid, 10, "the keys")
    guest.run(f"kill -9 {pid}")
    server.start()
    pid = attach(guest, "--on-shutdown end", mount=False)
    lab.wait_until(lambda: int(guest.run("cat /proc/sys/kernel/cad_pid")) == 1, 10, "the keys")


def test_device_that_is_not_the_root_lets_go_so_that_others_can_shut_down(guest, server):
    attach(guest, "--on-shutdown detach", mount=False)
    guest.run("touch /run/nbdclient/down/poweroff")
    server.kill()
    reader = guest.start("dd if=/dev/nbd0 of=/dev/null bs=4096 count=1 iflag=direct")
    time.sleep(2)
    guest.run("rm /run/nbdclient/down/poweroff")
    guest.wait_log("the machine is to power off, but server", 5)
    status, _ = guest.finish(reader, 60)
    assert status != 0
    assert "letting go of the device, its users get errors. NOT WRITTEN: " in guest.log()
    assert guest.run("nbdclient status") == "nothing is attached\n"
    assert guest.log().count("Linux version") == 1


def test_request_that_is_called_off_is_void(guest, server):
    attach(guest, "--on-shutdown detach", mount=False)
    guest.run("cd /run/nbdclient/down; touch reboot; rm reboot; touch reboot")
    server.kill()
    time.sleep(PATIENCE + 3)
    server.start()
    guest.wait_state("attached", 20)
    assert "the machine is to restart" not in guest.log()
