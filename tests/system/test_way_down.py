# SPDX-License-Identifier: GPL-2.0-or-later
"""
The way down of whole systems, systemd's and sysvinit's: with the server there nothing is lost, and
with the server dead the machine ends within a minute all the same, and says what it lost. Real
kernel, User-Mode Linux. NBDROOT_LONG: every way of asking, NBDROOT_RUNS times (3); else one, of systemd.
"""
import json
import os
import time

import lab
import pytest
import roots

LONG = bool(os.environ.get("NBDROOT_LONG"))
LIMIT = 60  # seconds from the request: the promise
RUNS = range(int(os.environ.get("NBDROOT_RUNS", "3")) if LONG else 1)
KEYS = "ctrl-alt-del"

SYSTEMD = [("systemctl poweroff", "off")]
if LONG:
    SYSTEMD += [("systemctl reboot", "restart"), ("reboot", "restart"), ("poweroff", "off"),
                ("kill -s RTMIN+5 1", "restart"), (KEYS, "restart")]
SYSVINIT = [("reboot", "restart"), ("poweroff", "off"), ("shutdown -h now", "off"),
            ("init 6", "restart"), (KEYS, "restart")]


@pytest.fixture
def switch_on(tmp_path, initrd):
    boxes = []

    def start(name, append=""):
        boxes.append(roots.Box(tmp_path, initrd, name, append))
        return boxes[-1]

    yield start
    for box in boxes:
        box.close()


def ask(guest, request):
    """Nobody waits for an answer: the shell may never get as far as the command's first page."""
    if request == KEYS:
        roots.press_ctrl_alt_del(guest)
    else:
        guest.start(request)


def dies_with_its_server_dead(box, request, expected):
    guest = box.guest
    guest.run("dd if=/dev/zero of=/root/f bs=64k count=16 2>/dev/null")
    box.server.kill()
    guest.wait_log("lost server", 15)
    time.sleep(2)
    ask(guest, request)
    how, after = roots.wait_end(guest, LIMIT)
    print(f"{request}: {how} after {after:.1f} s")
    assert how == expected
    assert "the machine is to" in guest.log()
    assert "a shutdown was asked for and server" in guest.log()
    assert "NOT WRITTEN: " in guest.log()
    assert not guest.io_errors()


def goes_down_cleanly(box, request, expected):
    guest = box.guest
    guest.run("dd if=/dev/zero of=/root/f bs=64k count=16 2>/dev/null")
    ask(guest, request)
    how, after = roots.wait_end(guest, LIMIT)
    print(f"{request}, server alive: {how} after {after:.1f} s")
    assert how == expected
    assert not guest.io_errors()
    assert "NOT WRITTEN" not in guest.log()
    box.server.kill()
    clean, text = lab.fsck_is_clean(box.root)
    assert clean, text


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("request_,expected", SYSTEMD)
def test_systemd_with_the_server_dead_ends_within_a_minute(switch_on, request_, expected, run):
    dies_with_its_server_dead(switch_on(roots.SYSTEMD), request_, expected)


def test_isolate_leaves_devices_and_watch_in_place(switch_on):
    """And the machine then goes down as it should, for its server is there."""
    box = switch_on(roots.SYSTEMD)
    guest = box.guest
    client = "/run/initramfs/bin/nbdclient"
    before = guest.run("ls /run/nbdclient/down")
    assert before.split() == ["halt", "kexec", "poweroff", "reboot"]
    guest.run("systemctl isolate rescue.target", timeout=60)
    assert guest.run("ls /run/nbdclient/down") == before
    guest.run("systemctl daemon-reexec", timeout=60)
    assert guest.run("ls /run/nbdclient/down") == before
    for _ in range(8):  # who connects asks for nothing
        guest.run("perl -MSocket -e 'socket(S, AF_UNIX, SOCK_SEQPACKET, 0) or die; "
                  'connect(S, pack_sockaddr_un("/run/nbdclient/down/reboot")) or die $!\'')
    assert guest.run("systemctl is-failed 'nbdroot-*.socket'; true").split() == ["active"] * 4
    assert guest.run("ls /run/nbdclient/down") == before
    # nor does who sends signals with systemctl, although it is process 1 that sends them
    pid = json.loads(guest.run(f"{client} status --json"))[0]["pid"]
    guest.run(f"systemd-run --unit=victim sleep 1000 2>/dev/null && "
              f"echo {pid} >/sys/fs/cgroup/system.slice/victim.service/cgroup.procs && "
              f"systemctl kill victim && echo {pid} >/sys/fs/cgroup/cgroup.procs", timeout=60)
    guest.wait_log("goes on in spite of signal 15", 10)
    box.server.kill()
    guest.wait_log("lost server", 15)
    box.server.start()
    guest.wait_log("is back after", 15)
    assert json.loads(guest.run(f"{client} status --json"))[0]["state"] == "attached"
    assert "the machine is to" not in guest.log()
    goes_down_cleanly(box, "systemctl poweroff", "off")


# sysvinit's root takes a minute to build and another to boot
if LONG:
    @pytest.mark.parametrize("run", RUNS)
    @pytest.mark.parametrize("request_,expected", SYSVINIT)
    def test_sysvinit_with_the_server_dead_ends_within_a_minute(switch_on, request_, expected, run):
        dies_with_its_server_dead(switch_on(roots.SYSVINIT), request_, expected)

    @pytest.mark.parametrize("request_,expected", [("poweroff", "off"), ("reboot", "restart")])
    def test_sysvinit_goes_down_cleanly(switch_on, request_, expected):
        goes_down_cleanly(switch_on(roots.SYSVINIT), request_, expected)

    @pytest.mark.parametrize("name", [roots.SYSTEMD, roots.SYSVINIT])
    def test_shutdown_of_the_initramfs_ends_a_running_machine(switch_on, name):
        """/run/initramfs/shutdown, called by a person: bounded, and it needs nothing of the root."""
        box = switch_on(name)
        box.guest.run("sync")
        box.server.kill()
        box.guest.wait_log("lost server", 15)
        box.guest.start("/run/initramfs/shutdown poweroff")
        how, _ = roots.wait_end(box.guest, 70)
        assert how == "off"
        assert "not everything could be written" in box.guest.log() or (
            "what was not written is lost" in box.guest.log())
