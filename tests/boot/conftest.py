# SPDX-License-Identifier: GPL-2.0-or-later
"""Emulated diskless machines: one set of images, one server and one initramfs per test."""
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import machine  # noqa: E402
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
