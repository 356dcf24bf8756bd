# SPDX-License-Identifier: GPL-2.0-or-later
"""Emulated diskless machines: one set of images, one server and one initramfs per test."""
import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import machine  # noqa: E402
import room as rooms  # noqa: E402
from machine import lab  # noqa: E402

pytest_plugins = []


@pytest.fixture(scope="session")
def initramfs(tmp_path_factory):
    path = tmp_path_factory.mktemp("boot") / "initrd"
    machine.make_initramfs(path)
    return path


@pytest.fixture
def disks(tmp_path):
    return machine.Disks(tmp_path)


@pytest.fixture
def server(disks):
    srv = lab.Server(None, disks.exports(), port=machine.free_port(), address="127.0.0.1")
    srv.start()
    yield srv
    srv.close()


@pytest.fixture
def switch_on(tmp_path, initramfs):
    """switch_on(append, ...) makes a machine that is gone at the end of the test."""
    machines = []

    def make(append, **kwargs):
        machines.append(machine.Machine(tmp_path, initramfs, append, **kwargs))
        return machines[-1]

    yield make
    for box in machines:
        box.close()


# ---- a room of machines, see room.py ---------------------------------------------------------


@pytest.fixture
def room(tmp_path):
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("/dev/net/tun cannot be opened, so a machine can have no network")
    room = rooms.Room(tmp_path)
    yield room
    room.close()


@pytest.fixture(scope="session")
def small_tree(tmp_path_factory):
    return rooms.make_tree(tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="session")
def initramfs_for(tmp_path_factory):
    """initramfs_for(kernel, ...) makes one for these kernels, of 32 bits if one of them is."""
    made = {}

    def make(*kernels, drivers=rooms.DRIVERS):
        key = kernels, drivers
        if key not in made:
            made[key] = tmp_path_factory.mktemp("initramfs") / "nbdroot.img"
            rooms.make_initramfs(made[key], *kernels, drivers=drivers)
        return made[key]

    return make


@pytest.fixture
def roots(tmp_path, small_tree):
    """The exports of a room: a root for each of the first machines, and where the files are."""
    return {rooms.export(mac): rooms.make_image(tmp_path / f"root-{number}.img", small_tree)
            for number, mac in enumerate(rooms.MACS[:2])}
