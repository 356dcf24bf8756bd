# SPDX-License-Identifier: GPL-2.0-or-later
"""
Other people's clients against nbdserve, in each of its engines: libnbd's tools and its Python
binding, QEMU's, nbd-client, and fio's nbd engine. What they write and read is compared byte for
byte, what they see of the holes with what the file system says. (Attaching with nbd-client needs
the kernel's driver; the tests with a real kernel do that with our own client.)
"""
import ast
import hashlib
import importlib.util
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))
import nbd  # noqa: E402
from nbd import Server  # noqa: E402

MIB = 1 << 20
BLOCK = 64 * 1024
SIZE = 24 * MIB + 512


def tool(*command, ok=True):
    name = str(command[0])
    if not shutil.which(name) and not shutil.which(f"/usr/sbin/{name}"):
        pytest.skip(f"{name} is not installed (make deps)")
    if not shutil.which(name):
        command = (f"/usr/sbin/{name}", *command[1:])
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True,
                            timeout=60)
    assert not ok or result.returncode == 0, result.stdout + result.stderr
    return result


def sample(seed):
    """Random data with holes between."""
    rng = random.Random(seed)
    return b"".join(rng.randbytes(BLOCK) if rng.random() < 0.5 else bytes(BLOCK)
                    for _ in range(SIZE // BLOCK)) + rng.randbytes(SIZE % BLOCK)


def write_sparse(path, data):
    with open(path, "wb") as f:
        for offset in range(0, len(data), BLOCK):
            block = data[offset:offset + BLOCK]
            if block.strip(b"\0"):
                f.seek(offset)
                f.write(block)
        f.truncate(len(data))


def data_ranges(path):
    """Where the file system has data: pairs of first and last + 1."""
    ranges, end = [], 0
    fd = os.open(path, os.O_RDONLY)
    try:
        while True:
            start = os.lseek(fd, end, os.SEEK_DATA)
            end = os.lseek(fd, start, os.SEEK_HOLE)
            ranges.append((start, end))
    except OSError:  # ENXIO: no more
        return ranges
    finally:
        os.close(fd)


def allocated(path):
    return path.stat().st_blocks * 512


@pytest.fixture(scope="module")
def folder(tmp_path_factory, engine):
    tmp = tmp_path_factory.mktemp("peers")
    write_sparse(tmp / "golden.img", sample(1))
    for name in "disk", "durable":
        with open(tmp / f"{name}.img", "wb") as f:
            f.truncate(SIZE)
    return tmp


@pytest.fixture(scope="module")
def server(folder, engine):
    server = Server(folder, "--unix", folder / "sock", "--export", f"golden={folder}/golden.img,ro",
                    "--export", f"disk={folder}/disk.img,durability=flush",
                    "--export", f"durable={folder}/durable.img", engine=engine)
    yield server
    assert server.stop() == 0
    assert "ERROR: " not in server.text() and "runtime error" not in server.text(), server.text()


@pytest.fixture
def uri(server):
    return f"nbd://127.0.0.1:{server.address[1]}"


@pytest.fixture
def unix_uri(server, folder):
    return lambda name: f"nbd+unix:///{name}?socket={folder}/sock"


# ---- libnbd's tools --------------------------------------------------------------------------

def test_nbdinfo_sees_each_export_as_it_is(uri):
    info = json.loads(tool("nbdinfo", "--json", f"{uri}/golden").stdout)
    assert info["structured"]
    info = info["exports"][0]
    assert info["export-size"] == SIZE
    assert info["is_read_only"] and info["can_flush"] and info["can_fua"]
    assert info["can_multi_conn"] and info["can_df"] and info["can_cache"]
    assert info["contexts"] == ["base:allocation"]
    info = json.loads(tool("nbdinfo", "--json", f"{uri}/disk").stdout)["exports"][0]
    assert not info["is_read_only"] and not info["can_multi_conn"]
    assert info["can_trim"] and info["can_zero"] and info["can_fast_zero"]
    assert info["block_size_minimum"] == 1
    assert info["block_size_maximum"] == 32 * MIB


@pytest.mark.parametrize("what", ["connect", "read", "write", "flush", "fua", "trim", "zero",
                                  "fast-zero", "df", "cache", "structured-reply"])
def test_nbdinfo_says_what_a_writable_export_can(uri, what):
    assert tool("nbdinfo", "--can", what, f"{uri}/disk").returncode == 0


def test_nbdinfo_says_what_a_read_only_export_cannot(uri):
    for what in "write", "trim", "zero", "fast-zero":
        assert tool("nbdinfo", "--can", what, f"{uri}/golden", ok=False).returncode == 2, what
    assert tool("nbdinfo", "--is", "read-only", f"{uri}/golden").returncode == 0
    assert tool("nbdinfo", "--can", "multi-conn", f"{uri}/disk", ok=False).returncode == 2


def test_nbdinfo_maps_the_holes_as_the_file_system_does(uri, folder):
    extents = json.loads(tool("nbdinfo", "--map", "--json", f"{uri}/golden").stdout)
    assert sum(e["length"] for e in extents) == SIZE
    seen = [(e["offset"], e["offset"] + e["length"]) for e in extents if not e["type"] & 1]
    assert seen == data_ranges(folder / "golden.img")
    assert {e["type"] for e in extents} == {0, 3}


def test_nbdinfo_says_that_an_unknown_export_is_unknown(uri):
    result = tool("nbdinfo", f"{uri}/nothing", ok=False)
    assert result.returncode != 0
    assert "No such file or directory for export: nothing" in result.stderr


def test_nbdinfo_lists_the_exports(uri):
    exports = json.loads(tool("nbdinfo", "--json", "--list", uri).stdout)["exports"]
    assert sorted(e["export-name"] for e in exports) == ["disk", "durable", "golden"]


def test_nbd_client_lists_the_exports(server):
    out = tool("nbd-client", "-l", "127.0.0.1", server.address[1], ok=False).stdout
    assert "golden" in out.split() and "disk" in out.split()


def test_nbdcopy_reads_what_is_there_and_leaves_out_the_holes(uri, folder):
    copy = folder / "copy.img"
    tool("nbdcopy", f"{uri}/golden", copy)
    assert copy.read_bytes() == (folder / "golden.img").read_bytes()
    assert allocated(copy) <= allocated(folder / "golden.img") + MIB < SIZE * 3 // 4


def test_nbdcopy_reads_over_four_connections_of_a_read_only_export(uri, folder):
    tool("nbdcopy", "--connections=4", "--threads=2", f"{uri}/golden", folder / "multi.img")
    assert (folder / "multi.img").read_bytes() == (folder / "golden.img").read_bytes()


@pytest.mark.parametrize("options", [[], ["--requests=1"], ["--allocated"], ["--flush"],
                                     ["--synchronous"], ["--request-size=4096"]],
                         ids=lambda o: o[0] if o else "plain")
def test_nbdcopy_writes_what_it_was_given(uri, folder, options):
    data = sample(100 + sum(map(len, options)))
    (folder / "in.img").write_bytes(data)
    tool("nbdcopy", *options, folder / "in.img", f"{uri}/disk")
    assert (folder / "disk.img").read_bytes() == data


def test_nbdcopy_from_export_to_export_keeps_the_holes(uri, folder):
    tool("nbdcopy", f"{uri}/golden", f"{uri}/disk")
    assert (folder / "disk.img").read_bytes() == (folder / "golden.img").read_bytes()
    assert allocated(folder / "disk.img") <= allocated(folder / "golden.img") + MIB


def test_nbdcopy_over_the_unix_socket(unix_uri, folder):
    data = sample(7)
    (folder / "in.img").write_bytes(data)
    tool("nbdcopy", folder / "in.img", unix_uri("disk"))
    tool("nbdcopy", unix_uri("disk"), folder / "out.img")
    assert (folder / "out.img").read_bytes() == data == (folder / "disk.img").read_bytes()


# ---- libnbd's Python binding -----------------------------------------------------------------

def nbdsh(*options, code):
    """Runs code in libnbd's shell, with h as its handle; returns what it prints."""
    if not importlib.util.find_spec("libnbdmod"):
        pytest.skip("libnbd's Python binding is not installed (make deps)")
    # Isolated, so that its module nbd is libnbd's and not ours.
    return tool(sys.executable, "-I", "-m", "nbd", *options, "-c", code).stdout


def connected(uri, code):
    return nbdsh("--base-allocation", "-u", uri, code=code)


def test_nbdsh_sees_the_extents(uri, folder):
    code = """
extents, at = [], 0
def take(context, offset, entries, error):
    global at
    assert context == "base:allocation" and offset == at and error.value == 0
    for length, flags in zip(entries[::2], entries[1::2]):
        extents.append((at, at + length, flags))
        at += length
while at < h.get_size():
    h.block_status(h.get_size() - at, at, take)
print(extents)
at = 0
h.block_status(h.get_size(), 0, take, nbd.CMD_FLAG_REQ_ONE)
assert len(extents[-1]) == 3
"""
    extents = ast.literal_eval(connected(f"{uri}/golden", code))
    assert [(start, end) for start, end, flags in extents if not flags & 1] == data_ranges(
        folder / "golden.img")


def test_nbdsh_reads_in_chunks_and_in_one(uri, folder):
    code = """
got = bytearray(h.get_size())
def take(data, offset, status, error):
    assert error.value == 0
    if status == nbd.READ_HOLE:
        return
    got[offset:offset + len(data)] = data
step = 1 << 20
for at in range(0, h.get_size(), step):
    length = min(step, h.get_size() - at)
    assert h.pread_structured(length, at, take) is not None
    assert h.pread_structured(min(length, 65536), at, take, nbd.CMD_FLAG_DF) is not None
import hashlib
print(hashlib.sha256(got).hexdigest())
"""
    expected = hashlib.sha256((folder / "golden.img").read_bytes()).hexdigest()
    assert connected(f"{uri}/golden", code).strip() == expected


def test_nbdsh_writes_zeroes_trims_and_flushes_with_many_in_flight(uri, folder):
    code = """
cookies = [h.aio_pwrite(bytes([n % 251 + 1]) * 5000, n * 5000) for n in range(500)]
while h.aio_in_flight() > 0:
    h.poll(-1)
for cookie in cookies:
    assert h.aio_command_completed(cookie)
h.zero(5000, 5000)
h.zero(5000, 15000, nbd.CMD_FLAG_NO_HOLE)
h.zero(65536, 4 << 20, nbd.CMD_FLAG_FAST_ZERO)
h.trim(5000, 25000, nbd.CMD_FLAG_FUA)
h.cache(100000, 0)
h.flush()
for n in range(500):
    data = h.pread(5000, n * 5000)
    assert data == bytes([n % 251 + 1]) * 5000 or n in (1, 3, 5), n
    assert n not in (1, 3) or data == bytes(5000)
h.shutdown()
"""
    connected(f"{uri}/disk", code)
    data = (folder / "disk.img").read_bytes()
    assert data[5000:10000] == bytes(5000) and data[10000:15000] == b"\3" * 5000


def test_nbdsh_gets_errors_as_errors_and_goes_on(uri):
    code = """
import errno
h.set_strict_mode(0)
def fails(number, f, *args):
    try:
        f(*args)
    except nbd.Error as e:
        assert e.errnum == number, (e.errnum, number)
    else:
        raise AssertionError(f)
end = h.get_size()
fails(errno.EINVAL, h.pread, 512, end)
fails(errno.ENOSPC, h.pwrite, b"x" * 512, end - 256)
fails(errno.EINVAL, h.trim, 512, end)
fails(errno.EINVAL, h.block_status, 512, end, lambda *args: 0)
fails(errno.EINVAL, h.pread, 512, 0, nbd.CMD_FLAG_NO_HOLE)
assert len(h.pread(512, 0)) == 512
"""
    connected(f"{uri}/disk", code)


def test_nbdsh_haggles_over_options(server):
    code = f"""
h.set_opt_mode(True)
h.connect_tcp("127.0.0.1", "{server.address[1]}")
names = []
h.opt_list(lambda name, description: names.append(name))
assert sorted(names) == ["disk", "durable", "golden"], names
h.set_export_name("golden")
contexts = []
h.opt_list_meta_context(contexts.append)
assert contexts == ["base:allocation"], contexts
h.opt_info()
assert h.get_size() == {SIZE} and h.is_read_only()
h.set_export_name("nothing")
try:
    h.opt_go()
    raise AssertionError("went")
except nbd.Error:
    pass
h.set_export_name("golden")
h.add_meta_context("base:allocation")
h.opt_go()
assert h.can_meta_context("base:allocation")
if hasattr(h, "get_extended_headers_negotiated"):  # libnbd 1.18
    assert h.get_extended_headers_negotiated()
    sizes = []
    h.block_status_64({SIZE}, 0, lambda c, o, entries, e: sizes.extend(entries))
    assert sizes
print(len(h.pread(4096, 0)))
"""
    assert nbdsh(code=code) == "4096\n"


# ---- QEMU's ----------------------------------------------------------------------------------

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


def test_qemu_img_maps_the_holes_as_the_file_system_does(uri, folder):
    extents = json.loads(tool("qemu-img", "map", "--output=json", "-f", "raw",
                              f"{uri}/golden").stdout)
    seen = [(e["start"], e["start"] + e["length"]) for e in extents if e["data"]]
    assert seen == data_ranges(folder / "golden.img")
    assert all(e["zero"] for e in extents if not e["data"])
    assert sum(e["length"] for e in extents) >= SIZE


@pytest.mark.parametrize("options", [[], ["-W", "-m", "16"], ["-S", "0"]],
                         ids=["plain", "out of order", "no holes"])
def test_qemu_img_convert_both_ways(uri, folder, options):
    data = sample(9)
    write_sparse(folder / "in.img", data)
    tool("qemu-img", "convert", *options, "-n", "-f", "raw", "-O", "raw", folder / "in.img",
         f"{uri}/disk")
    assert (folder / "disk.img").read_bytes() == data
    tool("qemu-img", "convert", *options, "-f", "raw", "-O", "qcow2", f"{uri}/disk",
         folder / "out.qcow2")
    tool("qemu-img", "convert", "-f", "qcow2", "-O", "raw", folder / "out.qcow2",
         folder / "out.img")
    assert (folder / "out.img").read_bytes() == data


def qemu_io(uri, *commands):
    words = [word for command in commands for word in ("-c", command)]
    result = tool("qemu-io", "-f", "raw", *words, uri)
    text = (result.stdout + result.stderr).lower()
    assert "failed" not in text and "error" not in text, text
    return text


def test_qemu_io_writes_zeroes_discards_and_verifies(uri, folder):
    qemu_io(f"{uri}/disk", "write -P 0x5a 1M 3M", "write -f -P 0x5b 2M 64k", "write -z 3M 512k",
            "write -z -u 3584k 64k", "discard 5M 1M", "flush", "read -P 0x5a 1M 1M",
            "read -P 0x5b 2M 64k", "read -P 0 3M 576k")
    data = (folder / "disk.img").read_bytes()
    assert data[1 * MIB:2 * MIB] == b"\x5a" * MIB
    assert data[3 * MIB:3 * MIB + 576 * 1024] == bytes(576 * 1024)


def test_qemu_io_does_many_things_at_once(unix_uri, folder):
    commands = [f"aio_write -P {n + 1} {n * 100}k 100k" for n in range(40)]
    commands += ["aio_flush", "aio_write -z 200k 100k", "aio_flush"]
    commands += [f"aio_read -P {0 if n == 2 else n + 1} {n * 100}k 100k" for n in range(40)]
    qemu_io(unix_uri("durable"), *commands, "aio_flush", "flush")
    data = (folder / "durable.img").read_bytes()
    assert data[102400:204800] == b"\2" * 102400 and data[204800:307200] == bytes(102400)


def test_qemu_tools_respect_the_lock_on_a_served_image(server, folder):
    result = tool("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", folder / "golden.img",
                  folder / "disk.img", ok=False)
    assert result.returncode != 0
    assert "lock" in result.stderr


# ---- fio -------------------------------------------------------------------------------------

FIO = {
    "random writes, verified": ["--rw=randwrite", "--bs=4k", "--iodepth=32"],
    "mixed sizes, verified": ["--rw=randwrite", "--bsrange=512-128k", "--bs_unaligned=1",
                              "--iodepth=16"],
    "reads and writes with flushes": ["--rw=randrw", "--bs=16k", "--iodepth=8", "--fsync=16"],
}


@pytest.mark.parametrize("export", ["disk", "durable"])
@pytest.mark.parametrize("case", FIO)
def test_fio_finds_what_it_wrote(unix_uri, uri, folder, case, export):
    where = f"{uri}/{export}" if export == "disk" else unix_uri(export)
    result = tool("fio", "--name=job", "--ioengine=nbd", f"--uri={where}", "--size=8M",
                  "--verify=crc32c", "--do_verify=1", "--verify_fatal=1", "--randrepeat=1",
                  f"--aux-path={folder}", "--output-format=json", *FIO[case])
    report = result.stdout[result.stdout.index("{"):]
    job = json.loads(report)["jobs"][0]
    assert job["error"] == 0
    assert job["write"]["total_ios"] > 0 and job["read"]["total_ios"] > 0
