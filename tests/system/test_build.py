# SPDX-License-Identifier: GPL-2.0-or-later
"""What `make` and `make install` would do with an empty build folder, as `make -n` tells it."""
import os
import subprocess

import lab
import pytest


@pytest.fixture
def commands(tmp_path_factory):
    folder = tmp_path_factory.mktemp("make")
    env = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}

    def run(*argv):
        return subprocess.run(["make", "--no-print-directory", "-C", lab.TOP, "-n", f"BUILD={folder}/build",
                               f"DESTDIR={folder}/dest", *argv],
                              capture_output=True, text=True, check=True, timeout=60, env=env).stdout
    return run


def test_without_i386_nothing_of_it_is_fetched_built_or_installed(commands):
    assert "images/musl-i386.sh" in commands("install")
    assert "i386" not in commands("install", "WITH_I386=no")


def test_make_alone_builds_all_that_make_install_installs(commands):
    """So that nothing is fetched or compiled as root."""
    built = commands()
    for recipe in ("build-busybox.sh", "musl-i386.sh", "build-libkmod.sh", "udhcpc.script", "scdoc"):
        assert recipe in built, recipe
