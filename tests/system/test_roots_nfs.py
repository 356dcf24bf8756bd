# SPDX-License-Identifier: GPL-2.0-or-later
"""
Roots on NFS: our initramfs in User-Mode Linux mounts them from a real NFS server, whatever the server
is like, and says in words what it waits for.
"""
import shutil
import subprocess
import time

import lab
import nfs
import pytest

IP = f"ip={lab.GUEST_IP}::{lab.SERVER_IP}:255.255.255.0:pc-17:vec0:none"
SERVER = lab.SERVER_IP


@pytest.fixture(scope="session")
def initrd(tmp_path_factory):
    return nfs.make_initrd(tmp_path_factory.mktemp("init"))


@pytest.fixture
def tree(tmp_path, root_tree):
    """A root for one machine, as a folder."""
    path = tmp_path / "root"
    shutil.copytree(root_tree, path, symlinks=True)
    return path


@pytest.fixture
def serve(network):
    servers = []

    def start(*exports, **options):
        servers.append(nfs.Server(network, list(exports), **options))
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def root_mount(guest):
    return next(line for line in guest.run("cat /proc/mounts").splitlines() if " / nfs" in line)


@pytest.mark.parametrize("append, version", [
    ("root=nfs:{server}:{path}", "4.2"),
    ("root=nfs:{server}:{path}:vers=3", "3"),
    ("root=nfs4:{server}:{path}", "4.2"),
    ("root=/dev/nfs nfsroot={server}:{path},vers=4.0", "4.0"),
    ("root=nfs:{server}:{path}:vers=4.1,noatime", "4.1"),
])
def test_root_is_mounted_by_each_form_and_version(boot, serve, tree, append, version):
    serve(nfs.Export(tree))
    guest = boot(append.format(server=SERVER, path=tree) + f" rw {IP}")
    guest.wait_ready()
    mount = root_mount(guest)
    assert mount.startswith(f"{SERVER}:{tree} / nfs") and f"vers={version}," in mount
    assert " rw," in mount and ",hard," in mount and "proto=tcp," in mount
    assert ("nolock" in mount) == (version == "3")
    guest.run("echo hello >/from-guest; sync")
    assert (tree / "from-guest").read_text() == "hello\n"
    assert f"root: {SERVER}:{tree} (NFS version {version}, read-write)" in guest.log()
