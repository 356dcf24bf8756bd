# SPDX-License-Identifier: GPL-2.0-or-later
"""
Other people's clients against nbdserve: libnbd's tools, QEMU's, and nbd-client. What they write
and read is compared byte for byte. (Attaching with nbd-client needs the kernel's driver; the
tests with a real kernel do that with our own client.)
"""
import json
import pathlib
import random
import shutil
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))
from nbd import Server  # noqa: E402

MIB = 1 << 20
SIZE = 24 * MIB + 512


def tool(*command, ok=True):
    name = str(command[0])
    if not shutil.which(name) and not shutil.which(f"/usr/sbin/{name}"):
        pytest.skip(f"{name} is not installed (make deps)")
    if not shutil.which(name):
        command = (f"/usr/sbin/{name}", *command[1:])
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True,
                            timeout=60)
    assert not ok or result.returncode == 0, result.stderr
    return result


def sample(seed):
    """Random data with holes between."""
    rng = random.Random(seed)
    return b"".join(rng.randbytes(64 * 1024) if rng.random() < 0.5 else bytes(64 * 1024)
                    for _ in range(24 * 16)) + rng.randbytes(512)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    tmp = tmp_path_factory.mktemp("peers")
    (tmp / "golden.img").write_bytes(sample(1))
    with open(tmp / "disk.img", "wb") as f:
        f.truncate(SIZE)
    return tmp


@pytest.fixture(scope="module")
def server(folder):
    server = Server(folder, "--unix", folder / "sock", "--export", f"golden={folder}/golden.img,ro",
                    "--export", f"disk={folder}/disk.img,durability=flush")
    yield server
    assert server.stop() == 0


@pytest.fixture
def uri(server):
    return f"nbd://127.0.0.1:{server.address[1]}"


@pytest.fixture
def unix_uri(server, folder):
    return lambda name: f"nbd+unix:///{name}?socket={folder}/sock"


def test_nbdinfo_sees_each_export_as_it_is(uri):
    info = json.loads(tool("nbdinfo", "--json", f"{uri}/golden").stdout)["exports"][0]
    assert info["export-size"] == SIZE
    assert info["is_read_only"] and info["can_flush"] and info["can_fua"]
    assert not info["can_multi_conn"]
    info = json.loads(tool("nbdinfo", "--json", f"{uri}/disk").stdout)["exports"][0]
    assert not info["is_read_only"]
    assert info["can_trim"] and info["can_zero"]
    assert info["block_size_minimum"] == 1
    assert info["block_size_maximum"] == 32 * MIB
    assert tool("nbdinfo", "--size", f"{uri}/disk").stdout == f"{SIZE}\n"


def test_nbdinfo_says_that_an_unknown_export_is_unknown(uri):
    result = tool("nbdinfo", f"{uri}/nothing", ok=False)
    assert result.returncode != 0
    assert "No such file or directory for export: nothing" in result.stderr


def test_nbdinfo_lists_the_exports(uri):
    exports = json.loads(tool("nbdinfo", "--json", "--list", uri).stdout)["exports"]
    assert sorted(e["export-name"] for e in exports) == ["disk", "golden"]


def test_nbd_client_lists_the_exports(server):
    out = tool("nbd-client", "-l", "127.0.0.1", server.address[1], ok=False).stdout
    assert "golden" in out.split() and "disk" in out.split()


def test_nbdcopy_reads_what_is_there(uri, folder):
    tool("nbdcopy", f"{uri}/golden", folder / "copy.img")
    assert (folder / "copy.img").read_bytes() == (folder / "golden.img").read_bytes()


@pytest.mark.parametrize("options", [[], ["--requests=1"], ["--allocated"], ["--flush"],
                                     ["--request-size=4096"]], ids=lambda o: o[0] if o else "plain")
def test_nbdcopy_writes_what_it_was_given(uri, folder, options):
    data = sample(100 + sum(map(len, options)))
    (folder / "in.img").write_bytes(data)
    tool("nbdcopy", *options, folder / "in.img", f"{uri}/disk")
    assert (folder / "disk.img").read_bytes() == data


def test_nbdcopy_from_export_to_export(uri, folder):
    tool("nbdcopy", f"{uri}/golden", f"{uri}/disk")
    assert (folder / "disk.img").read_bytes() == (folder / "golden.img").read_bytes()


def test_nbdcopy_over_the_unix_socket(unix_uri, folder):
    data = sample(7)
    (folder / "in.img").write_bytes(data)
    tool("nbdcopy", folder / "in.img", unix_uri("disk"))
    tool("nbdcopy", unix_uri("disk"), folder / "out.img")
    assert (folder / "out.img").read_bytes() == data == (folder / "disk.img").read_bytes()


def test_qemu_img_info_and_compare(uri, folder):
    info = json.loads(tool("qemu-img", "info", "--output=json", f"{uri}/golden").stdout)
    assert info["virtual-size"] == SIZE
    copy = folder / "compare.img"
    shutil.copyfile(folder / "golden.img", copy)
    same = ["qemu-img", "compare", "-f", "raw", "-F", "raw", f"{uri}/golden", copy]
    assert tool(*same).returncode == 0
    with open(copy, "r+b") as f:
        f.seek(20 * MIB)
        f.write(b"another")
    assert tool(*same, ok=False).returncode == 1


def test_qemu_img_convert_both_ways(uri, folder):
    data = sample(9)
    (folder / "in.img").write_bytes(data)
    tool("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", folder / "in.img", f"{uri}/disk")
    assert (folder / "disk.img").read_bytes() == data
    tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2", f"{uri}/disk", folder / "out.qcow2")
    tool("qemu-img", "convert", "-f", "qcow2", "-O", "raw", folder / "out.qcow2",
         folder / "out.img")
    assert (folder / "out.img").read_bytes() == data


def test_qemu_io_writes_zeroes_discards_and_verifies(uri, folder):
    commands = ["write -P 0x5a 1M 3M", "write -f -P 0x5b 2M 64k", "write -z 3M 512k",
                "discard 5M 1M", "flush", "read -P 0x5a 1M 1M", "read -P 0x5b 2M 64k",
                "read -P 0 3M 512k"]
    words = [word for command in commands for word in ("-c", command)]
    result = tool("qemu-io", "-f", "raw", *words, f"{uri}/disk")
    assert "failed" not in (result.stdout + result.stderr).lower()
    assert (folder / "disk.img").read_bytes()[1 * MIB:2 * MIB] == b"\x5a" * MIB


def test_qemu_tools_respect_the_lock_on_a_served_image(server, folder):
    result = tool("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", folder / "golden.img",
                  folder / "disk.img", ok=False)
    assert result.returncode != 0
    assert "lock" in result.stderr
