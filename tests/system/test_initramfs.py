# SPDX-License-Identifier: GPL-2.0-or-later
"""
`nbdroot initramfs`: what is in the archive, read by a parser of our own and by modprobe, which uses
the same library as init. The kernel tree is Debian's, from the build folder.
"""
import os
import pathlib
import re
import shutil
import signal
import stat
import subprocess
import time

import pytest
from archives import (BUILD, LIB, NBDROOT, PACKERS, TREE, VERSION, copied, depmod, entries, modprobe,
                      modules_in, pack)

DRIVERS = "virtio_net,e1000,e1000e,r8169"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The archive of a small room: what offices' and virtual machines have."""
    path = tmp_path_factory.mktemp("demo") / "initrd"
    done = pack(path, "--modules", TREE, "--drivers", DRIVERS)
    return path, done


@pytest.fixture(scope="module")
def found(demo):
    return entries(demo[0])


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """
    A kernel tree with a handful of modules, for tests that change it. Its ext4 is another module
    under that name, for the real one takes most of the time that compressing takes.
    """
    top = tmp_path_factory.mktemp("small") / "lib" / "modules" / VERSION
    (top / "kernel/fs/ext4").mkdir(parents=True)
    shutil.copyfile(next(TREE.resolve().rglob("nls_ascii.ko")), top / "kernel/fs/ext4/ext4.ko")
    for name in ("nbd", "virtio_net", "virtio_pci", "virtio_pci_legacy_dev", "virtio_pci_modern_dev",
                 "virtio", "virtio_ring", "failover", "net_failover", "vmxnet3", "8139cp", "8139too",
                 "mii", "r8169", "realtek", "libphy", "mdio_devres"):
        source = next(TREE.resolve().rglob(name + ".ko"))
        target = top / source.relative_to(TREE.resolve())
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        shutil.copyfile(TREE / name, top / name)
    depmod(top)
    return top


# ---- what is in it ----------------------------------------------------------------------------


def test_archive_has_init_and_all_that_a_boot_starts_with(found):
    for name, source in (("init", "init"), ("bin/nbdclient", "nbdclient"),
                         ("bin/busybox", "busybox"), ("etc/udhcpc.script", "udhcpc.script")):
        assert stat.S_ISREG(found[name].mode) and found[name].mode & 0o777 == 0o755
        content = (BUILD / source).read_bytes()
        if name.startswith("etc/"):
            assert found[name].data == content
            continue
        # what is loaded of it; but for the head, which knows of no sections any more
        assert found[name].data[64:] == content[64:len(found[name].data)], name
        assert len(found[name].data) < len(content) / (1 if source == "busybox" else 2)
    for name in ("bin", "dev", "etc", "lib", "newroot", "proc", "run", "sys", "tmp"):
        assert stat.S_ISDIR(found[name].mode), name
    assert found["tmp"].mode & 0o7777 == 0o1777
    assert stat.S_ISCHR(found["dev/console"].mode) and found["dev/console"].device == (5, 1)


def test_programs_run_without_what_was_taken_from_them(found, tmp_path):
    for name, words in (("bin/nbdclient", "nbdclient "), ("init", "init (nbdroot) ")):
        program = tmp_path / pathlib.Path(name).name
        program.write_bytes(found[name].data)
        program.chmod(0o755)
        done = subprocess.run([program, "--version"], capture_output=True, text=True)
        assert done.stdout.startswith(words), done


def test_every_command_of_busybox_is_a_link_to_it(found):
    listed = subprocess.run([BUILD / "busybox", "--list"], check=True, capture_output=True,
                            text=True).stdout.split()
    links = {name[4:] for name, e in found.items() if stat.S_ISLNK(e.mode)}
    assert links == set(listed) - {"busybox"}
    assert {"sh", "udhcpc", "mount", "switch_root"} <= links
    assert all(e.data == b"busybox" for e in found.values() if stat.S_ISLNK(e.mode))


def test_every_parent_comes_before_its_children_and_all_is_roots(found):
    seen = {""}
    for number, (name, entry) in enumerate(found.items(), 1):
        assert os.path.dirname(name) in seen
        if stat.S_ISDIR(entry.mode):
            seen.add(name)
        assert (entry.uid, entry.gid, entry.mtime, entry.inode) == (0, 0, 0, number)


def test_modules_are_the_drivers_nbd_ext4_and_all_that_they_need(found):
    modules = modules_in(found)
    for name in ("overlay", "nfsv3", "nfsv4", "lockd", "sunrpc", "dns_resolver", "8021q"):
        assert name + ".ko" in modules, name
    for name in ("nbd", "ext4", "jbd2", "mbcache", "crc16", "virtio_net", "virtio_pci", "virtio",
                 "virtio_ring", "failover", "net_failover", "e1000", "e1000e", "r8169", "libphy",
                 "realtek"):
        assert name + ".ko" in modules, name
    # ext4 asks for crc32c by an alias that modules.dep does not know.
    assert "crc32c_generic.ko" in modules
    assert len(modules) < 45


def test_modules_are_byte_for_byte_the_kernels(found):
    for name, entry in found.items():
        if name.endswith(".ko"):
            assert entry.data == (TREE / name[len(LIB) + 1:]).read_bytes(), name


def test_libkmod_finds_modules_by_name_by_alias_and_by_soft_dependency(found, tmp_path):
    loads = modprobe(found, tmp_path, "--show-depends", "ext4")
    assert loads[-1] == "ext4.ko" and "crc32c_generic.ko" in loads and "jbd2.ko" in loads
    assert loads.index("jbd2.ko") < loads.index("ext4.ko")
    card = "pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00"
    assert modprobe(found, tmp_path, "--show-depends", card)[-1] == "e1000.ko"
    card = "pci:v000010ECd00008168sv00000000sd00000000bc02sc00i00"
    assert "realtek.ko" in modprobe(found, tmp_path, "--show-depends", card)


def test_indexes_know_what_is_built_in(found):
    index = found[f"{LIB}/modules.builtin.bin"].data
    assert index and index[:4] == bytes.fromhex("b007f457")
    # From modules.builtin.modinfo, whose strings end with a zero byte.
    assert len(found[f"{LIB}/modules.builtin.alias.bin"].data) > 100


def test_archive_is_as_small_as_promised(demo, tmp_path):
    # issue 5: virtio, e1000, e1000e, r8169, nbd, ext4, overlay, NFS v3 and v4
    assert demo[0].stat().st_size <= 5 * (1 << 20) // 2
    pack(tmp_path / "bare")
    assert (tmp_path / "bare").stat().st_size <= 1 << 20
    assert not any(name.startswith("lib/") for name in entries(tmp_path / "bare"))


def test_summary_says_how_large_it_is_and_how_many_modules(demo, found):
    done = demo[1]
    kib = (demo[0].stat().st_size + 1023) // 1024
    told = re.fullmatch(rf"\S+: {kib} KiB, for amd64; {VERSION}: {len(modules_in(found))} modules "
                        r"\((\d+) KiB\); clients need about (\d+) MiB of memory\n", done.stdout)
    # both of them, and the kernel
    assert 100 + (int(told[1]) + kib) // 1024 <= int(told[2]) <= 105 + (int(told[1]) + kib) // 1024


# ---- choosing ---------------------------------------------------------------------------------


def test_drivers_that_are_missing_or_built_in_are_left_out_with_a_note(small, tmp_path):
    builtin = re.search(r"/([^/]+)\.ko$", (small / "modules.builtin").read_text(),
                        re.MULTILINE).group(1)
    done = pack(tmp_path / "out", "--modules", small, "--drivers", f"virtio-net,nosuch,{builtin}",
                "--compress", "gzip")
    note = done.stderr.splitlines()[0]
    assert note.startswith(f"nbdroot: {VERSION}: left out: overlay (not in this tree), ")
    assert note.endswith(f" nosuch (not in this tree), {builtin} (built in)")
    modules = modules_in(entries(tmp_path / "out"))
    assert "virtio_net.ko" in modules and "net_failover.ko" in modules


@pytest.mark.parametrize("gone", ["nbd", "ext4"])
def test_kernel_without_nbd_or_ext4_is_an_error(small, tmp_path, gone):
    tree = copied(small, tmp_path)
    next(tree.rglob(gone + ".ko")).unlink()
    depmod(tree)
    done = pack(tmp_path / "out", "--modules", tree, status=1)
    assert f"no {gone} module" in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
    # Built in is as good.
    with open(tree / "modules.builtin", "a") as f:
        f.write(f"kernel/some/{gone}.ko\n")
    pack(tmp_path / "out", "--modules", tree, "--drivers", "virtio_net", "--compress", "gzip")
    assert gone + ".ko" not in modules_in(entries(tmp_path / "out"))


def test_two_kernels_share_one_archive(small, tmp_path):
    other = copied(small, tmp_path)
    other = other.rename(other.parent / "6.99.0-other")
    depmod(other)
    pack(tmp_path / "out", "--modules", small, "--modules", f"{other}/", "--drivers", "virtio_net",
         "--compress", "gzip")
    found = entries(tmp_path / "out")
    assert modules_in(found) == modules_in(found, "6.99.0-other") != []
    assert modprobe(found, tmp_path / "x", "--show-depends", "nbd", version="6.99.0-other") == [
        "nbd.ko"]
    done = pack(tmp_path / "out", "--modules", small, "--modules", small, status=2)
    assert "twice" in done.stderr


# ---- compressed modules -----------------------------------------------------------------------


@pytest.mark.parametrize("ending", PACKERS)
def test_compressed_modules_are_unpacked(small, tmp_path, ending):
    tree = copied(small, tmp_path)
    for module in list(tree.rglob("*.ko")):
        pathlib.Path(f"{module}{ending}").write_bytes(PACKERS[ending](module.read_bytes()))
        module.unlink()
    # Not depmod: this machine's may know no compression.
    for name in ("modules.dep", "modules.order"):
        text = (tree / name).read_text()
        if name == "modules.dep":
            (tree / name).write_text(text.replace(".ko", ".ko" + ending))
    pack(tmp_path / "packed", "--modules", tree, "--drivers", "virtio_net", "--compress", "gzip")
    pack(tmp_path / "plain", "--modules", small, "--drivers", "virtio_net", "--compress", "gzip")
    assert (tmp_path / "packed").read_bytes() == (tmp_path / "plain").read_bytes()


@pytest.mark.parametrize("ending, spoil, words", [
    (".xz", lambda data: data[:-7], "damaged"),
    (".gz", lambda data: data[:-7], "damaged"),
    (".zst", lambda data: data[:-7], "damaged"),
    (".xz", lambda data: b"no xz at all", "damaged"),
    (".zst", lambda data: b"no zstd at all", "damaged"),
    (".xz", lambda data: PACKERS[".xz"](b"not ELF"), "not a kernel module"),
    (".zst", lambda data: PACKERS[".zst"](b"\x7fELF" + bytes(64 << 20)), "larger than 64 MiB"),
    (".gz", lambda data: PACKERS[".gz"](b"\x7fELF" + bytes(64 << 20)), "larger than 64 MiB"),
    (".xz", lambda data: PACKERS[".xz"](b"\x7fELF" + bytes(64 << 20)), "larger than 64 MiB"),
    (".lzo", lambda data: data, "does not know"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_damaged_module_is_named_and_nothing_is_made(small, tmp_path, ending, spoil, words):
    tree = copied(small, tmp_path)
    module = next(tree.rglob("nbd.ko"))
    good = PACKERS.get(ending, bytes)(module.read_bytes())
    pathlib.Path(f"{module}{ending}").write_bytes(spoil(good))
    module.unlink()
    text = (tree / "modules.dep").read_text()
    (tree / "modules.dep").write_text(text.replace("/nbd.ko", "/nbd.ko" + ending))
    done = pack(tmp_path / "out", "--modules", tree, status=1)
    assert f"nbd.ko{ending}: " in done.stderr and words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert os.listdir(tmp_path) == ["lib"]


# ---- reproducible -----------------------------------------------------------------------------


def test_same_input_gives_the_same_bytes_wherever_it_is_made(small, tmp_path):
    there = copied(small, tmp_path)
    for i, tree in enumerate((small, there)):
        temporary = tmp_path / f"tmp{i}"
        temporary.mkdir()
        env = dict(os.environ, TMPDIR=str(temporary), SOURCE_DATE_EPOCH="1700000000")
        pack(f"out{i}", "--modules", tree, "--drivers", "virtio_net", "--compress", "gzip",
             cwd=tmp_path, env=env)
        assert os.listdir(temporary) == []
    assert (tmp_path / "out0").read_bytes() == (tmp_path / "out1").read_bytes()
    assert {e.mtime for e in entries(tmp_path / "out0").values()} == {1700000000}


@pytest.mark.parametrize("kind, magic", [("zstd", "28b52ffd"), ("xz", "fd377a585a00"),
                                         ("gzip", "1f8b08")])
def test_every_compression_is_reproducible_and_holds_the_same(tmp_path, kind, magic):
    pack(tmp_path / "a", "--compress", kind)
    pack(tmp_path / "b", "--compress", kind)
    data = (tmp_path / "a").read_bytes()
    assert data == (tmp_path / "b").read_bytes()
    assert data.startswith(bytes.fromhex(magic))
    assert "init" in entries(tmp_path / "a")
    if kind == "xz":
        assert data[7] == 1  # the check is CRC32: the kernel takes no CRC64


def test_older_kernel_gets_an_archive_that_it_can_unpack(small, tmp_path):
    tree = copied(small, tmp_path)
    for version, magic in (("4.18.0-553.el8.x86_64", b"\xfd7zXZ"), ("5.9.0", b"\x28\xb5\x2f\xfd")):
        tree = tree.rename(tree.parent / version)
        depmod(tree)
        pack(tmp_path / "out", "--modules", tree, "--drivers", "virtio_net")
        assert (tmp_path / "out").read_bytes().startswith(magic)
    # A kernel whose package tells how it was built is believed.
    (tree / "config").write_text("CONFIG_RD_GZIP=y\n# CONFIG_RD_ZSTD is not set\n")
    pack(tmp_path / "out", "--modules", tree, "--drivers", "virtio_net")
    assert (tmp_path / "out").read_bytes().startswith(b"\x1f\x8b")
    done = pack(tmp_path / "out", "--modules", tree, "--compress", "zstd", status=1)
    assert "kernel 5.9.0 cannot unpack it" in done.stderr and len(done.stderr.splitlines()) == 1


# ---- programs and refusals --------------------------------------------------------------------


def test_programs_come_from_the_folder_given(tmp_path):
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("nbdclient", "busybox", "udhcpc.script"):
        shutil.copy(BUILD / name, programs / name)
    done = pack(tmp_path / "out", "--program-dir", programs, status=1)
    assert f"{programs}/init: not there" in done.stderr
    (programs / "init").write_text("another init")
    pack(tmp_path / "out", "--program-dir", programs, "--compress", "gzip")
    assert entries(tmp_path / "out")["init"].data == b"another init"


def test_installed_it_takes_the_installed_programs(tmp_path):
    for name in ("sbin", "lib/nbdroot"):
        (tmp_path / name).mkdir(parents=True)
    shutil.copy(NBDROOT, tmp_path / "sbin")
    for name in ("init", "nbdclient", "busybox", "udhcpc.script"):
        shutil.copy(BUILD / name, tmp_path / "lib/nbdroot")
    (tmp_path / "lib/nbdroot/init").write_text("the installed init")
    subprocess.run([tmp_path / "sbin/nbdroot", "initramfs", "-o", tmp_path / "out", "--compress",
                    "gzip"], check=True, cwd="/", capture_output=True)
    assert entries(tmp_path / "out")["init"].data == b"the installed init"


def test_busybox_that_does_not_run_is_an_error(tmp_path):
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("init", "nbdclient", "udhcpc.script"):
        shutil.copy(BUILD / name, programs / name)
    (programs / "busybox").write_text("garbage")
    done = pack(tmp_path / "out", "--program-dir", programs, status=1)
    assert "busybox --list: failed" in done.stderr
    assert os.listdir(tmp_path) == ["programs"]


def test_older_file_is_replaced_but_nothing_else_is(tmp_path):
    (tmp_path / "out").write_text("older")
    pack(tmp_path / "out", "--compress", "gzip")
    assert "init" in entries(tmp_path / "out")
    (tmp_path / "folder").mkdir()
    assert "not a regular file" in pack(tmp_path / "folder", status=1).stderr
    assert sorted(os.listdir(tmp_path)) == ["folder", "out"]


def test_failure_leaves_the_older_file_alone(small, tmp_path):
    (tmp_path / "out").write_text("older")
    pack(tmp_path / "out", "--modules", tmp_path, status=1)
    assert (tmp_path / "out").read_text() == "older"
    assert os.listdir(tmp_path) == ["out"]


def test_signal_in_the_middle_leaves_nothing(tmp_path):
    for name in ("tmp", "out"):
        (tmp_path / name).mkdir()
    process = subprocess.Popen([NBDROOT, "initramfs", "-o", tmp_path / "out" / "initrd",
                                "--modules", TREE], stderr=subprocess.PIPE,
                               env=dict(os.environ, TMPDIR=str(tmp_path / "tmp")))
    deadline = time.monotonic() + 10
    while not os.listdir(tmp_path / "tmp"):
        assert process.poll() is None and time.monotonic() < deadline
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == -signal.SIGTERM
    assert process.stderr.read() == b""
    assert os.listdir(tmp_path / "tmp") == os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize("arguments, status, words", [
    (["--modules", "/nowhere"], 1, "/nowhere"), (["--modules", "/usr"], 1, "modules.dep"),
    (["--compress", "lz4"], 2, "lz4"), (["--arch", "arm64"], 2, "arm64"),
    (["--firmware", "/nowhere"], 2, "/nowhere"), (["--fsck", "/nowhere"], 1, "/nowhere"),
    (["--json"], 2, "--json"), (["--list", "/nowhere"], 2, "one of"), (["stray"], 2, "-o FILE"), (["--stray"], 2, "stray"),
    # a shell's pattern that fits several kernels
    (["--modules", "/usr", "/bin"], 2, "/bin: give --modules once for each kernel")])
def test_wrong_use_says_what_is_wrong(tmp_path, arguments, status, words):
    done = pack(tmp_path / "out", *arguments, status=status)
    assert words in done.stderr and len(done.stderr.splitlines()) == 1
    assert os.listdir(tmp_path) == []


def test_output_is_needed():
    done = subprocess.run([NBDROOT, "initramfs"], capture_output=True, text=True)
    assert done.returncode == 2 and "-o FILE" in done.stderr
