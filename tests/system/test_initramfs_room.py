# SPDX-License-Identifier: GPL-2.0-or-later
"""
`nbdroot initramfs` for a mixed room: which drivers, firmware and programs come along, for which
machines. Kernel trees are made up, but for the sizes that are promised.
"""
import os
import re
import shutil
import subprocess

import pytest
from archives import (AARCH64, AMD64, BUILD, I386, NEEDED, PACKERS, depmod, entries, make_tree,
                      modules_in, module, pack)

MIB = 1 << 20
ALL_OF_THEM = {
    "kernel/drivers/net/ethernet/a/acard": {"alias": "pci:v0001d*", "depends": "mii"},
    "kernel/drivers/net/mii": {},
    "kernel/drivers/net/usb/ucard": {"alias": "usb:v0001p*"},
    "kernel/drivers/net/phy/aphy": {"alias": "mdio:0001", "depends": "libphy"},
    "kernel/drivers/net/phy/libphy": {},
    "kernel/drivers/net/virtio_net": {"alias": "virtio:d00000001v*"},
    "kernel/drivers/net/wireless/wifi": {"alias": "pci:v0002d*"},
    "kernel/drivers/usb/host/xhci-pci": {"alias": "pci:v*d*bc0Csc03i30*", "depends": "xhci-hcd"},
    "kernel/drivers/usb/host/xhci-hcd": {},
    "kernel/drivers/usb/host/ehci-pci": {"alias": "pci:v*d*bc0Csc03i20*"},
    "kernel/drivers/virtio/virtio_pci": {"alias": "pci:v00001AF4d*"},
    "kernel/drivers/sound/sound": {"alias": "pci:v0003d*"},
}


def small_pack(tmp_path, *args, **kwargs):
    done = pack(tmp_path / "out", "--compress", "gzip", *args, **kwargs)
    return done, entries(tmp_path / "out") if done.returncode == 0 else None


def names(found, version):
    return {name[:-3] for name in modules_in(found, version)}


# ---- drivers ----------------------------------------------------------------------------------


def test_all_is_the_default_and_has_every_network_driver_with_the_buses_they_sit_on(tmp_path):
    tree = make_tree(tmp_path, "6.1-x", ALL_OF_THEM)
    done, found = small_pack(tmp_path, "--modules", tree)
    assert not done.stderr
    there = names(found, "6.1-x")
    assert there >= {"acard", "mii", "ucard", "aphy", "libphy", "virtio_net", "xhci-pci", "xhci-hcd",
                     "ehci-pci", "virtio_pci"}
    assert there >= {path.rsplit("/", 1)[1] for path in NEEDED}
    assert not there & {"wifi", "sound"}


def test_named_driver_brings_its_bus_and_nothing_of_another(tmp_path):
    tree = make_tree(tmp_path, "6.1-x", ALL_OF_THEM)
    there = names(small_pack(tmp_path, "--modules", tree, "--drivers", "ucard")[1], "6.1-x")
    assert there >= {"ucard", "xhci-pci", "xhci-hcd", "ehci-pci"}
    assert not there & {"acard", "virtio_net", "virtio_pci", "aphy"}
    there = names(small_pack(tmp_path, "--modules", tree, "--drivers", "virtio-net")[1], "6.1-x")
    assert "virtio_pci" in there and "xhci-pci" not in there


@pytest.mark.parametrize("softdep, phys", [({}, {"aphy", "bphy"}), ({"softdep": "pre: bphy"}, {"bphy"})],
                         ids=["any", "its own"])
def test_driver_that_leaves_the_phy_open_brings_all_and_one_that_names_it_only_that(
        tmp_path, softdep, phys):
    tree = make_tree(tmp_path, "6.1-x", {
        "kernel/drivers/net/ethernet/card": {"alias": "pci:v0001d*", "depends": "libphy,mdio_help",
                                             **softdep},
        "kernel/drivers/net/mdio/mdio_help": {"depends": "libphy"},
        "kernel/drivers/net/phy/libphy": {},
        "kernel/drivers/net/phy/aphy": {"alias": "mdio:0001", "depends": "libphy"},
        "kernel/drivers/net/phy/bphy": {"alias": "mdio:0002", "depends": "libphy"},
    })
    there = names(small_pack(tmp_path, "--modules", tree, "--drivers", "card")[1], "6.1-x")
    assert there & {"aphy", "bphy"} == phys and "mdio_help" in there


def test_network_driver_that_somebody_else_built_is_among_all(tmp_path):
    tree = make_tree(tmp_path, "6.1-x", {
        "kernel/drivers/net/ethernet/acard": {"alias": "pci:v0001d*"},
        "updates/dkms/r8125": {"alias": "pci:v0002d*", "strings": b"\0register_netdev\0"},
        "updates/dkms/zfs": {"strings": b"\0register_filesystem\0"},
    })
    there = names(small_pack(tmp_path, "--modules", tree)[1], "6.1-x")
    assert "r8125" in there and "zfs" not in there


def test_other_file_systems_come_when_they_are_named(tmp_path):
    tree = make_tree(tmp_path, "6.1-x", {
        **ALL_OF_THEM, "kernel/fs/xfs/xfs": {"depends": "libcrc32c", "alias": "fs-xfs"},
        "kernel/lib/libcrc32c": {"softdep": "pre: crypto-crc32c"},
        "kernel/crypto/crc32c_generic": {"alias": "crypto-crc32c"},
        "kernel/fs/squashfs/squashfs": {"alias": "fs-squashfs"}})
    there = names(small_pack(tmp_path, "--modules", tree, "--drivers", "all,xfs")[1], "6.1-x")
    assert there >= {"xfs", "libcrc32c", "crc32c_generic", "acard"} and "squashfs" not in there


def test_what_a_kernel_lacks_for_some_roots_is_noted(tmp_path):
    tree = make_tree(tmp_path, "6.1-x", needed=[n for n in NEEDED if "overlay" not in n])
    done, _ = small_pack(tmp_path, "--modules", tree, "--drivers", "")
    assert done.stderr == "nbdroot: 6.1-x: left out: overlay (not in this tree)\n"


# ---- firmware ---------------------------------------------------------------------------------


def firmware_tree(tmp_path, version="6.1-x", **modules):
    return make_tree(tmp_path, version, {f"kernel/drivers/net/ethernet/{name}": {"firmware": files}
                                         for name, files in modules.items()})


def put(folder, name, content):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def test_firmware_that_drivers_name_comes_along_from_beside_the_modules(tmp_path):
    tree = firmware_tree(tmp_path, acard=["a/one.fw", "a/two.fw"], bcard="b.fw", ccard="c.fw")
    put(tmp_path / "lib/firmware", "a/one.fw", b"one")
    put(tmp_path / "lib/firmware", "b.fw", b"two")
    put(tmp_path / "lib/firmware", "not-named.fw", b"three")
    done, found = small_pack(tmp_path, "--modules", tree)
    there = {name[len("lib/firmware/"):]: e.data for name, e in found.items()
             if name.startswith("lib/firmware/") and e.data}
    assert there == {"a/one.fw": b"one", "b.fw": b"two"}
    assert "; 2 firmware files (0 KiB)" in done.stdout
    # one of several is enough, none is worth a word
    assert "no firmware found for: ccard (" in done.stderr and done.stderr.count("\n") == 1


def test_firmware_is_looked_for_as_a_kernel_does_and_unpacked(tmp_path):
    tree = firmware_tree(tmp_path, "6.1-x", acard=["a.fw", "b.fw", "c.fw", "d.fw", "e-*.bin"])
    folder = tmp_path / "elsewhere"
    for place in ("", "updates/", "6.1-x/", "updates/6.1-x/"):
        put(folder, place + "a.fw", b"a of " + place.encode())
    for place in ("", "updates/"):
        put(folder, place + "b.fw", b"b of " + place.encode())
    put(folder, "c.fw.xz", PACKERS[".xz"](b"c, packed"))
    put(folder, "d.fw.zst", PACKERS[".zst"](b"d, packed"))
    put(folder, "updates/d.fw.xz", PACKERS[".xz"](b"zst comes first"))
    put(folder, "e-1.bin", b"e1")
    put(folder, "e-2.bin.xz", PACKERS[".xz"](b"e2"))
    put(folder, "e-folder.bin/x", b"no file")
    _, found = small_pack(tmp_path, "--modules", tree, "--firmware", folder)
    there = {name[len("lib/firmware/"):]: e.data for name, e in found.items()
             if name.startswith("lib/firmware/") and e.data}
    assert there == {"6.1-x/a.fw": b"a of updates/6.1-x/", "b.fw": b"b of updates/", "c.fw": b"c, packed",
                     "d.fw": b"d, packed", "e-1.bin": b"e1", "e-2.bin": b"e2"}


def test_two_kernels_share_firmware_unless_it_differs(tmp_path):
    trees = [firmware_tree(tmp_path / version, version, acard=["same.fw", "other.fw"])
             for version in ("6.1-x", "6.2-y")]
    for version in ("6.1-x", "6.2-y"):
        put(tmp_path / version / "lib/firmware", "same.fw", b"same")
        put(tmp_path / version / "lib/firmware", "other.fw", version.encode())
    _, found = small_pack(tmp_path, "--modules", trees[0], "--modules", trees[1])
    there = {name[len("lib/firmware/"):]: e.data for name, e in found.items()
             if name.startswith("lib/firmware/") and e.data}
    assert there == {"same.fw": b"same", "other.fw": b"6.1-x", "6.2-y/other.fw": b"6.2-y"}


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../secret", "", "../*"])
def test_module_cannot_name_a_file_outside_the_folder(tmp_path, name):
    tree = firmware_tree(tmp_path, acard=name)
    put(tmp_path / "lib/firmware", "a/x", b"")
    put(tmp_path / "lib", "secret", b"secret")
    _, found = small_pack(tmp_path, "--modules", tree)
    assert not any(e.data == b"secret" or "passwd" in name for name, e in found.items())


def test_firmware_can_be_left_out_and_a_damaged_file_is_an_error(tmp_path):
    tree = firmware_tree(tmp_path, acard="a.fw")
    put(tmp_path / "lib/firmware", "a.fw.xz", b"garbage")
    done = pack(tmp_path / "out", "--modules", tree, status=1)
    assert "a.fw.xz: damaged" in done.stderr
    done, found = small_pack(tmp_path, "--modules", tree, "--firmware", "none")
    assert not done.stderr and not any(name.startswith("lib/firmware") for name in found)


# ---- machines ---------------------------------------------------------------------------------


def machine_of(data):
    assert data[:4] == b"\x7fELF"
    return data[18] | data[19] << 8


def test_one_32_bit_kernel_makes_the_archive_one_for_all_machines(tmp_path):
    old = make_tree(tmp_path / "a", "6.1-686", machine=I386)
    young = make_tree(tmp_path / "b", "6.1-amd64")
    for trees, programs in (([young], AMD64), ([old], I386), ([young, old], I386)):
        done, found = small_pack(tmp_path, *[w for t in trees for w in ("--modules", t)])
        for name in ("init", "bin/nbdclient", "bin/busybox"):
            assert machine_of(found[name].data) == programs, (trees, name)
        assert (", for i386" if programs == I386 else ", for amd64") in done.stdout
        assert {name.split("/")[2] for name in found if name.startswith("lib/modules/6")} == {
            t.name for t in trees}


def test_arch_decides_and_is_refused_where_a_kernel_could_not_run_it(tmp_path):
    old = make_tree(tmp_path / "a", "6.1-686", machine=I386)
    young = make_tree(tmp_path / "b", "6.1-amd64")
    _, found = small_pack(tmp_path, "--arch", "i386", "--modules", young)
    assert machine_of(found["init"].data) == I386
    os.unlink(tmp_path / "out")
    done = pack(tmp_path / "out", "--arch", "amd64", "--modules", young, "--modules", old, status=1)
    assert "6.1-686 is a 32-bit one" in done.stderr and done.stderr.count("\n") == 1
    # A 64-bit kernel that was built to run nothing of 32 bits says so in its configuration.
    for place in (young / "config", tmp_path / "b/boot/config-6.1-amd64"):
        place.parent.mkdir(exist_ok=True)
        place.write_text("CONFIG_RD_GZIP=y\nCONFIG_RD_ZSTD=y\n# CONFIG_IA32_EMULATION is not set\n")
        done = pack(tmp_path / "out", "--modules", young, "--modules", old, status=1)
        assert "6.1-amd64 cannot run 32-bit programs" in done.stderr
        place.unlink()
    assert not (tmp_path / "out").exists()


def test_other_machines_and_mixed_trees_are_refused_in_words(tmp_path):
    done = pack(tmp_path / "out", "--modules", make_tree(tmp_path, "6.1-arm64", machine=AARCH64),
                status=1)
    assert "another kind of machine" in done.stderr and "183" in done.stderr
    tree = make_tree(tmp_path, "6.1-x", {"kernel/drivers/net/ethernet/old": {}})
    (tree / "kernel/drivers/net/ethernet/old.ko").write_bytes(module(I386))
    done = pack(tmp_path / "out", "--modules", tree, status=1)
    assert "old.ko: for i386 machines, in a tree for amd64" in done.stderr
    assert not (tmp_path / "out").exists()


def test_programs_for_the_other_machine_that_are_not_there_are_named(tmp_path):
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("init", "nbdclient", "busybox", "udhcpc.script"):
        shutil.copy(BUILD / name, programs / name)
    done = pack(tmp_path / "out", "--program-dir", programs, "--arch", "i386", status=1)
    assert f"{programs}/i386/init: not there, or not for i386" in done.stderr
    shutil.copytree(BUILD / "i386", programs / "i386")
    done, found = small_pack(tmp_path, "--program-dir", programs, "--arch", "i386")
    assert machine_of(found["init"].data) == I386 and "etc/udhcpc.script" in found
    # Given the folder itself, it takes what is there.
    shutil.copy(BUILD / "udhcpc.script", programs / "i386")
    _, found = small_pack(tmp_path, "--program-dir", programs / "i386", "--arch", "i386")
    assert machine_of(found["init"].data) == I386


# ---- e2fsck -----------------------------------------------------------------------------------


def test_static_e2fsck_comes_along_and_only_one_that_runs(tmp_path):
    """busybox is as static as e2fsck.static: this is about which file is taken."""
    _, found = small_pack(tmp_path, "--fsck", BUILD / "busybox")
    assert found["sbin/e2fsck"].mode == 0o100755
    assert machine_of(found["sbin/e2fsck"].data) == AMD64
    _, found = small_pack(tmp_path, "--fsck", BUILD / "i386/busybox")
    assert machine_of(found["sbin/e2fsck"].data) == I386
    os.unlink(tmp_path / "out")
    for path, arch, words in ((BUILD / "busybox", "i386", "for amd64, and this archive is for i386"),
                              (shutil.which("e2fsck"), "amd64", "needs shared libraries"),
                              (BUILD / "udhcpc.script", "amd64", "no program"),
                              (tmp_path / "nowhere", "amd64", "cannot be read")):
        done = pack(tmp_path / "out", "--fsck", path, "--arch", arch, status=1)
        assert words in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_debians_static_e2fsck_is_found_by_auto(tmp_path):
    if not os.path.exists("/sbin/e2fsck.static"):
        done = pack(tmp_path / "out", "--fsck", "auto", status=1)
        assert "install the package e2fsck-static" in done.stderr
        return
    _, found = small_pack(tmp_path, "--fsck", "auto")
    program = tmp_path / "e2fsck"
    program.write_bytes(found["sbin/e2fsck"].data)
    program.chmod(0o755)
    assert "e2fsck " in subprocess.run([program, "-V"], capture_output=True, text=True).stderr


# ---- what was promised ------------------------------------------------------------------------


KERNELS = ["kernel", "kernel-i386"] + (["kernel-5.10", "kernel-6.12"] if os.environ.get("NBDROOT_LONG")
                                       else [])


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_network_driver_of_the_kernel_fits_in_12_mib_and_the_usual_ones_in_2_5(
        tmp_path, kernel):
    tree = BUILD / kernel / "modules"
    done = pack(tmp_path / "few", "--modules", tree, "--drivers", "virtio_net,e1000,e1000e,r8169")
    assert (tmp_path / "few").stat().st_size <= 5 * MIB // 2, done.stdout
    if kernel == "kernel-i386":
        return  # half the size of the other one
    done = pack(tmp_path / "all", "--modules", tree)
    assert (tmp_path / "all").stat().st_size <= 12 * MIB, done.stdout
    there = set(modules_in(entries(tmp_path / "all"), tree.resolve().name))
    for folder in ("ethernet", "usb", "phy"):
        every = {re.sub(r"\.ko.*", ".ko", p.name)
                 for p in (tree.resolve() / "kernel/drivers/net" / folder).rglob("*.ko*")}
        assert every and every <= there, every - there


def test_32_bit_archive_is_reproducible(tmp_path):
    tree = make_tree(tmp_path, "6.1-686", ALL_OF_THEM, machine=I386)
    depmod(tree)
    pack(tmp_path / "a", "--modules", tree)
    pack(tmp_path / "b", "--modules", tree)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
