# SPDX-License-Identifier: GPL-2.0-or-later
"""
Our client against other people's servers: the negotiation from here, and a real kernel attached to
each of them, through a kill and a restart.
"""
import json
import pathlib
import shutil
import subprocess
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))
import lab  # noqa: E402

SIZE = 64 << 20


def nbd_server_config(folder, image, address, port):
    path = folder / "nbd-server.conf"
    path.write_text("[generic]\nallowlist = true\nuser = root\ngroup = root\n"
                    f"listenaddr = {address}\nport = {port}\n"
                    f"[root]\nexportname = {image}\nflush = true\nfua = true\ntrim = true\n")
    return path


def peer_argv(name, folder, image, address, port):
    """How to run a server that exports image as "root" in the foreground."""
    if name == "nbd-server":
        # It forks, and forks again for each connection; all of it dies with its namespace.
        return ["unshare", "--pid", "--fork", "--kill-child", "sh", "-c",
                f"nbd-server -C {nbd_server_config(folder, image, address, port)}; sleep infinity"]
    if name == "nbdkit":
        return ["nbdkit", "-f", "-i", address, "-p", port, "file", image]
    return ["qemu-nbd", "-f", "raw", "-b", address, "-p", port, "-x", "root", "-t",
            "--cache=writeback", image]


PEERS = ("nbd-server", "nbdkit", "qemu-nbd")


@pytest.fixture(params=PEERS)
def peer_name(request):
    if not shutil.which(request.param):
        pytest.skip(f"{request.param} is not installed (make deps)")
    return request.param


@pytest.fixture
def peer(peer_name, tmp_path, network):
    """The server in a namespace of its own."""
    image = lab.make_image(tmp_path / "root.img", str(SIZE))
    server = lab.Server(network, {}, port=10809,
                        argv=peer_argv(peer_name, tmp_path, image, lab.SERVER_IP, 10809))
    server.image = image
    server.start()
    yield server
    server.close()


def nbdclient(server, *argv):
    return subprocess.run(server.inside(lab.NBDCLIENT, *argv), capture_output=True, text=True,
                          check=False, timeout=30)


def test_info_tells_the_size_of_an_export(peer, peer_name):
    result = nbdclient(peer, "info", "--json", f"nbd://{lab.SERVER_IP}/root")
    assert result.returncode == 0, result.stderr
    info = json.loads(result.stdout)
    # nbd-server 3.24 opens an export for NBD_OPT_GO only, and says 0 to NBD_OPT_INFO
    assert info["size"] == SIZE or (peer_name == "nbd-server" and info["size"] == 0)
    assert not info["read_only"]
    assert "flush" in info["flag_names"]


def test_list_names_the_export(peer, peer_name):
    result = nbdclient(peer, "list", "--json", f"nbd://{lab.SERVER_IP}/")
    assert result.returncode == 0, result.stderr
    names = [e["export"] for e in json.loads(result.stdout)]
    assert names == ([""] if peer_name == "nbdkit" else ["root"])


def test_unknown_export_is_refused_in_words(peer, peer_name):
    result = nbdclient(peer, "info", f"nbd://{lab.SERVER_IP}/nothing")
    if peer_name == "nbdkit":  # its file plugin takes any name
        assert result.returncode == 0
        return
    assert result.returncode == 1
    assert "no such export" in result.stderr


def test_mounted_device_survives_a_kill_of_the_server(peer, guest):
    guest.run(f"nbdclient attach nbd://{lab.SERVER_IP}/root --device /dev/nbd0")
    guest.run("mount -t ext3 /dev/nbd0 /mnt")
    job = guest.start("guest write /mnt/records /tmp/acked")
    for _ in range(2):
        time.sleep(0.5)
        peer.kill()
        peer.start()
        guest.wait_state("attached")
        time.sleep(2.5)
    guest.run("kill $(cat /tmp/guest-write.pid)")
    guest.finish(job)
    assert guest.run("guest verify /mnt/records /tmp/acked").endswith(" 0 lost\n")
    guest.run("umount /mnt && nbdclient detach /dev/nbd0")
    assert not guest.io_errors()
    peer.kill()
    clean, text = lab.fsck_is_clean(peer.image)
    assert clean, text
