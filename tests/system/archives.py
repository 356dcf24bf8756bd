# SPDX-License-Identifier: GPL-2.0-or-later
"""
Initramfs archives for tests: made by `nbdroot initramfs`, read by a parser of our own and by
modprobe, which uses the same library as init; and kernel trees of made-up modules, of which nothing
is real but what they say of themselves.
"""
import collections
import gzip
import lzma
import os
import pathlib
import shutil
import stat
import struct
import subprocess

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("NBDROOT_BUILD", TOP / "build")).resolve()
NBDROOT = BUILD / "nbdroot"
TREE = BUILD / "kernel" / "modules"
VERSION = TREE.resolve().name
LIB = f"lib/modules/{VERSION}"

os.environ["PATH"] += ":/usr/sbin:/sbin"  # depmod, for who is not root

Entry = collections.namedtuple("Entry", "inode mode uid gid links mtime size device data")


def pack(output, *args, status=0, **kwargs):
    done = subprocess.run([NBDROOT, "initramfs", "-o", output, *map(str, args)], text=True,
                          capture_output=True, timeout=400, **kwargs)
    assert done.returncode == status, (args, done.returncode, done.stdout, done.stderr)
    return done


def unpack(path):
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        return gzip.decompress(data)
    if data[:6] == b"\xfd7zXZ\0":
        return lzma.decompress(data)
    assert data[:4] == b"\x28\xb5\x2f\xfd", data[:6]
    return subprocess.run(["zstd", "-dc", path], check=True, capture_output=True).stdout


def entries(path):
    """The archive as {name: Entry}, in order."""
    data = unpack(path)
    found = {}
    at = 0
    while True:
        assert data[at:at + 6] == b"070701"
        f = [int(data[at + 6 + i * 8:at + 14 + i * 8], 16) for i in range(13)]
        name = data[at + 110:at + 110 + f[11] - 1].decode()
        assert data[at + 110 + f[11] - 1] == 0
        at = (at + 110 + f[11] + 3) & ~3
        if name == "TRAILER!!!":
            assert at == len(data)
            return found
        assert name not in found
        found[name] = Entry(f[0], f[1], f[2], f[3], f[4], f[5], f[6], (f[9], f[10]),
                            data[at:at + f[6]])
        at = (at + f[6] + 3) & ~3


def modules_in(found, version=VERSION):
    return sorted(pathlib.Path(name).name for name in found
                  if name.startswith(f"lib/modules/{version}/") and name.endswith(".ko"))


def modprobe(found, folder, *args, version=VERSION):
    """Asks modprobe about the modules of an archive."""
    for name, entry in found.items():
        if name.startswith("lib/modules/") and stat.S_ISREG(entry.mode):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(entry.data)
    done = subprocess.run(["modprobe", "-d", folder, "-S", version, "-C", "/dev/null", *args],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [pathlib.Path(line.split()[-1]).name for line in done.stdout.splitlines()]


def depmod(tree):
    subprocess.run(["depmod", "-b", tree.parents[2], tree.name], check=True)


def copied(tree, tmp_path):
    target = tmp_path / "lib" / "modules" / tree.name
    shutil.copytree(tree, target)
    return target


PACKERS = {
    ".gz": lambda data: gzip.compress(data, mtime=0),
    ".xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32, preset=1),
    ".zst": lambda data: subprocess.run(["zstd", "-1", "-q", "-c"], input=data, check=True,
                                        capture_output=True).stdout,
}


# ---- made-up modules --------------------------------------------------------------------------

I386, AMD64, AARCH64 = 3, 62, 183


def module(machine=AMD64, strings=b"", **info):
    """An object file with the .modinfo given, whose values may be lists."""
    text = b""
    for key, values in info.items():
        for value in [values] if isinstance(values, str) else values:
            text += f"{key}={value}".encode() + b"\0"
    names = b"\0.modinfo\0.shstrtab\0.data\0"
    is_64 = machine != I386
    head = 64 if is_64 else 52
    body = text + names + strings
    at = [(1, head, len(text)), (10, head + len(text), len(names)),
          (20, head + len(text) + len(names), len(strings))]
    sections = [(0, 0, 0, 0)] + [(name, 3 if i == 1 else 1, offset, size)
                                 for i, (name, offset, size) in enumerate(at)]
    table = (head + len(body) + 7) & ~7
    body = body.ljust(table - head, b"\0")
    for name, kind, offset, size in sections:
        body += (struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, offset, size, 0, 0, 1, 0) if is_64 else
                 struct.pack("<10I", name, kind, 0, 0, offset, size, 0, 0, 1, 0))
    ident = b"\x7fELF" + bytes([2 if is_64 else 1, 1, 1]) + bytes(9)
    return ident + struct.pack("<HHI" + ("QQQ" if is_64 else "III") + "IHHHHHH", 1, machine, 1, 0, 0,
                               table, 0, head, 0, 0, 64 if is_64 else 40, len(sections), 2) + body


NEEDED = ("kernel/drivers/block/nbd", "kernel/fs/ext4/ext4", "kernel/fs/overlayfs/overlay",
          "kernel/fs/nfs/nfsv3", "kernel/fs/nfs/nfsv4", "kernel/net/8021q/8021q",
          "kernel/net/packet/af_packet")


def make_tree(folder, version, modules=(), machine=AMD64, needed=NEEDED):
    """modules: {path without .ko: what module() takes}. Returns DIR/lib/modules/VERSION."""
    tree = folder / "lib" / "modules" / version
    for path, info in {**{path: {} for path in needed}, **dict(modules)}.items():
        file = tree / f"{path}.ko"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(module(**{"machine": machine, "license": "GPL", **info}))
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        (tree / name).touch()
    depmod(tree)
    # depmod goes by symbols, of which these have none
    paths = {pathlib.Path(path).name: path for path in [*needed, *dict(modules)]}

    def depends(path):
        direct = dict(modules).get(path, {}).get("depends", "")
        for name in filter(None, direct.split(",")):
            yield paths[name]
            yield from depends(paths[name])

    (tree / "modules.dep").write_text("".join(
        f"{path}.ko: {' '.join(f'{d}.ko' for d in dict.fromkeys(depends(path)))}\n"
        for path in paths.values()))
    return tree


def cpio(files):
    """A "newc" archive of {name: content, or (mode, content)}."""
    text = b""
    for number, (name, entry) in enumerate([*files.items(), ("TRAILER!!!", (0, b""))], 1):
        mode, content = entry if isinstance(entry, tuple) else (0o100644, entry)
        text += b"070701" + b"".join(b"%08x" % n for n in (
            number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0))
        text += name.encode() + b"\0"
        text += bytes(-len(text) % 4) + content
        text += bytes(-len(text) % 4)
    return text

