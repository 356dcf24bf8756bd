# SPDX-License-Identifier: GPL-2.0-or-later
"""
The servers that the tests of the wire run against: `target` is ours in each of its engines, then
each peer that is installed ("peer:nbdkit": `-k peer` runs those only). A test that has nothing to
ask of some of them says so with peers.only(). What is known to fail on a peer is expected to.

Under a sanitizer (make asan, make tsan) a report in the log of any server is an error, also when
the server was killed before its exit status could tell.
"""
import re
import shutil
import subprocess

import deviations
import lab
import nbd
import peers
import pytest


def pytest_generate_tests(metafunc):
    if "target" not in metafunc.fixturenames:
        return
    wanted = getattr(metafunc.function, "targets", None)
    names = [*peers.ours(), *(f"peer:{name}" for name in peers.PEERS)]
    names = [name for name in names if wanted is None or name in wanted
             or ("ours" in wanted and not name.startswith("peer:"))]
    metafunc.parametrize("target", names, indirect=True, scope="module")


REPORT = re.compile(r"(ERROR|WARNING): \w+Sanitizer|runtime error: ")


@pytest.fixture(scope="session", autouse=True)
def no_sanitizer_reports(tmp_path_factory):
    yield
    for log in tmp_path_factory.getbasetemp().rglob("*.log"):
        text = log.read_text(errors="replace") if log.is_file() else ""
        assert not REPORT.search(text), f"{log}:\n{text[-20000:]}"


@pytest.fixture(scope="module")
def target(request, tmp_path_factory):
    name = request.param.removeprefix("peer:")
    if name in peers.PEERS and not peers.version(name):
        pytest.skip(f"{name} is not installed (make deps)")
    if name == "io_uring" and not nbd.has_io_uring():
        pytest.skip("this machine lets nobody set an io_uring up")
    folder = tmp_path_factory.mktemp(name)
    peers.make_images(folder)
    target = peers.start(name, folder)
    yield target
    target.close()


@pytest.fixture(autouse=True)
def known_deviation(request):
    """Expects a peer to fail where it is known to; where it was measured, it has to."""
    if "target" in request.fixturenames:
        target = request.getfixturevalue("target")
        target.revive()
        deviations.expect(request, target)


@pytest.fixture
def raw(target):
    """A client that has greeted and not yet asked for anything."""
    with target.raw() as client:
        yield client


@pytest.fixture
def udhcpd(network, tmp_path):
    """busybox' DHCP server, with more options than its usual ones."""
    processes = []
    if not shutil.which("busybox"):
        pytest.skip("busybox, whose udhcpd is the DHCP server here, is not installed (make deps)")

    def start(*more):
        leases, conf = tmp_path / "leases", tmp_path / "udhcpd.conf"
        leases.touch()
        conf.write_text(f"start {lab.GUEST_IP}\nend {lab.GUEST_IP}\ninterface tap0\nmax_leases 1\n"
                        f"lease_file {leases}\npidfile {tmp_path}/pid\n"
                        "option subnet 255.255.255.0\noption lease 600\n"
                        + "".join(f"{line}\n" for line in more))
        with open(tmp_path / "udhcpd.log", "wb") as log:
            processes.append(subprocess.Popen(network.inside("busybox", "udhcpd", "-f", conf),
                                              stdout=log, stderr=log))

    yield start
    for process in processes:
        lab.end(process)
