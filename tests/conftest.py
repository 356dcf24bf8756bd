# SPDX-License-Identifier: GPL-2.0-or-later
"""
What the tests share. A test that cannot run here skips with the reason; with the packages of
images/packages installed, none does: NBDROOT_NO_SKIP (not empty) turns every skip into a failure,
which is how root's `make check` runs.
"""
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "system"))
import lab  # noqa: E402
import nbd  # noqa: E402


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("NBDROOT_NO_SKIP") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, and nothing may be skipped here: {report.longrepr}"


def need(program):
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed (make deps)")


def pytest_generate_tests(metafunc):
    if "engine" in metafunc.fixturenames:
        metafunc.parametrize("engine", nbd.engines(), indirect=True, scope="module",
                             ids=lambda engine: engine or "nbdserve")


@pytest.fixture(scope="module")
def engine(request):
    """Each of nbdserve's engines in turn."""
    if request.param == "io_uring" and not nbd.has_io_uring():
        pytest.skip("this machine lets nobody set an io_uring up")
    return request.param


@pytest.fixture(scope="session")
def preloaded(tmp_path_factory):
    """Makes a shared object for LD_PRELOAD of a C file of tests/system; returns its path."""
    def build(source):
        compiler = shutil.which("gcc") or shutil.which("cc")
        if not compiler:
            pytest.skip("no C compiler is installed (make deps)")
        out = (tmp_path_factory.mktemp("preloaded") / source).with_suffix(".so")
        folder = pathlib.Path(nbd.__file__).parent
        subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", out, folder / source, "-ldl"],
                       check=True)
        return out
    return build


@pytest.fixture
def empty_network():
    """A namespace without a guest."""
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("/dev/net/tun cannot be opened, so a guest can have no network")
    net = lab.Network()
    yield net
    net.close()


@pytest.fixture
def network(empty_network):
    need("linux.uml")
    return empty_network


@pytest.fixture
def guest(network):
    machine = lab.Guest(network)
    yield machine
    machine.close()


@pytest.fixture
def image(tmp_path):
    return lab.make_image(tmp_path / "root.img", "64M", "--label", "failover")


@pytest.fixture
def server(network, image):
    srv = lab.Server(network, {"root": image})
    srv.start()
    yield srv
    srv.close()


# ---- guests that boot as diskless machines do, with our own init -----------------------------

ROOT_INIT = """#!/bin/sh
export PATH=/bin:/run/initramfs/bin
echo "real init: $*" >/dev/kmsg
exec /bin/guest agent /dev/tty1
"""


@pytest.fixture(scope="session")
def initrd(tmp_path_factory):
    path = tmp_path_factory.mktemp("init") / "initrd"
    subprocess.run([lab.NBDROOT, "initramfs", "-o", path, "--modules", lab.uml_modules(), "--drivers", ""],
                   check=True, capture_output=True)
    return path


@pytest.fixture(scope="session")
def root_tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree") / "root"
    for folder in ("bin", "sbin", "dev", "proc", "sys", "run", "tmp", "mnt", "var/lib/rpm"):
        (root / folder).mkdir(parents=True)
    shutil.copy(lab.BUILD / "busybox", root / "bin/busybox")
    shutil.copy(lab.BUILD / "guest", root / "bin/guest")
    applets = subprocess.run([lab.BUILD / "busybox", "--list"], check=True, capture_output=True,
                             text=True).stdout.split()
    for applet in applets:
        if applet != "busybox":
            os.symlink("busybox", root / "bin" / applet)
    (root / "sbin/init").write_text(ROOT_INIT)
    (root / "sbin/init").chmod(0o755)
    return root


@pytest.fixture
def tree(tmp_path, root_tree):
    """A root for one machine, as a folder."""
    path = tmp_path / "root"
    shutil.copytree(root_tree, path, symlinks=True)
    return path


@pytest.fixture
def images(tmp_path, root_tree):
    root = lab.make_image(tmp_path / "root.img", "64M", "--from", root_tree)
    return {"root": root, "rpm-" + lab.GUEST_MAC.replace(":", "-"): lab.make_image(tmp_path / "rpm.img", "16M")}


@pytest.fixture
def images_server(network, images):
    server = lab.Server(network, images)
    server.start()
    yield server
    server.close()


@pytest.fixture
def boot(network, initrd):
    with lab.booting(network, initrd) as start:
        yield start
