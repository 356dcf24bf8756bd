# SPDX-License-Identifier: GPL-2.0-or-later
"""
`nbdroot initramfs --list` and `--check`: what is inside an archive and what is missing, of ours and of
other tools'; files that are damaged, cut off or hostile end in words.
"""
import json
import lzma
import os
import subprocess

import pytest
from archives import (AMD64, I386, NBDROOT, NEEDED, PACKERS, cpio, entries, make_tree, module, pack)

VERSION = "6.1-x"
MODULES = f"lib/modules/{VERSION}/"


def inspect(option, path, *args, status=0):
    done = subprocess.run([NBDROOT, "initramfs", option, path, *args], capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done


def listed(path, **kwargs):
    return json.loads(inspect("--list", path, "--json", **kwargs).stdout)


def checked(path, status=0):
    """{text: severity}, and the JSON and the text for people agree."""
    answer = json.loads(inspect("--check", path, "--json", status=status).stdout)
    assert answer["ok"] == (status == 0) and answer["file"] == str(path)
    text = inspect("--check", path, status=status).stdout
    for f in answer["findings"]:
        kernel = f"{f['kernel']}: " if f["kernel"] else ""
        assert f"{f['severity']}: {kernel}{f['text']}\n" in text
    assert len(text.splitlines()) == len(answer["findings"]) + 1
    return {f["text"]: f["severity"] for f in answer["findings"]}


def files_of(path):
    return {name: (e.mode, e.data) for name, e in entries(path).items()}


def written(path, data):
    path.write_bytes(data)
    return path


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """An archive of ours in which nothing is missing."""
    folder = tmp_path_factory.mktemp("ours")
    tree = make_tree(folder, VERSION, {
        "kernel/drivers/net/ethernet/acard": {"firmware": ["a/one.fw", "a/two.fw"],
                                              "depends": "alib", "softdep": "pre: aphy"},
        "kernel/drivers/net/alib": {},
        "kernel/drivers/net/phy/aphy": {"alias": "mdio:0001"},
    })
    for name in ("one", "two"):
        path = folder / f"lib/firmware/a/{name}.fw"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    pack(folder / "out", "--modules", tree, "--compress", "gzip")
    return folder / "out"


# ---- ours -------------------------------------------------------------------------------------


def test_list_tells_kernels_modules_programs_firmware_and_sizes(ours):
    answer = listed(ours)
    assert answer["bytes"] == ours.stat().st_size and answer["problem"] is None
    assert answer["drivers"] == "all" and answer["nbdroot"]
    (part,) = answer["parts"]
    assert part["compression"] == "gzip" and part["bytes"] == answer["bytes"]
    assert part["unpacked_bytes"] == answer["unpacked_bytes"] > part["bytes"]
    assert part["files"] == len(entries(ours))
    programs = {p["path"]: p for p in answer["programs"]}
    assert set(programs) == {"init", "bin/nbdclient", "bin/busybox"}
    assert all(p["for"] == "amd64" and p["version"][0].isdigit() for p in programs.values())
    (kernel,) = answer["kernels"]
    assert kernel["version"] == VERSION and kernel["for"] == "amd64"
    modules = {m["name"]: m for m in kernel["modules"]}
    assert set(modules) == {"acard", "alib", "aphy", *(n.rsplit("/", 1)[1] for n in NEEDED)}
    assert modules["acard"]["firmware"] == ["a/one.fw", "a/two.fw"] and modules["acard"]["network"]
    assert not modules["nbd"]["network"]
    assert kernel["bytes"] == sum(m["bytes"] for m in kernel["modules"])
    assert [f["name"] for f in answer["firmware"] if f["bytes"]] == ["a/one.fw", "a/two.fw"]


def test_list_for_people_has_it_too(ours):
    text = inspect("--list", ours).stdout
    for words in ("gzip", "bin/busybox", VERSION, "acard", "overlay", "a/two.fw", "--drivers all"):
        assert words in text, words
    assert all(len(line) < 100 for line in text.splitlines()[1:])


def test_nothing_is_missing_in_what_nbdroot_made(ours):
    assert not checked(ours)


def gone(name):
    return lambda files: files.pop(name)


def changed(name, entry):
    return lambda files: files.update({name: entry})


@pytest.mark.parametrize("spoil, words, severity", [
    (gone("init"), "/init is missing", "error"),
    (gone("bin/nbdclient"), "/bin/nbdclient is missing", "error"),
    (gone("etc/udhcpc.script"), "no DHCP", "error"),
    (lambda files: files.update({"init": (0o100644, files["init"][1])}), "cannot be executed (mode 0644)",
     "error"),
    (changed("init", (0o100755, b"no program at all")), "/init is no program for x86", "error"),
    (gone(MODULES + "kernel/drivers/block/nbd.ko"), "has no nbd module", "error"),
    (gone(MODULES + "kernel/fs/ext4/ext4.ko"), "has no ext4 module", "error"),
    (gone(MODULES + "kernel/fs/overlayfs/overlay.ko"), "no nbdroot.overlay=", "note"),
    (gone(MODULES + "kernel/fs/nfs/nfsv4.ko"), "no NFS root by version 4", "note"),
    (gone(MODULES + "kernel/drivers/net/alib.ko"), "acard needs alib, which is missing", "error"),
    (gone(MODULES + "kernel/drivers/net/phy/aphy.ko"), "acard asks for aphy", "note"),
    (gone(MODULES + "kernel/drivers/net/ethernet/acard.ko"), "has no network driver", "note"),
    (gone(MODULES + "modules.dep.bin"), "has no modules.dep.bin", "error"),
    (gone("lib/firmware/a/two.fw"), "module acard: 1 of its 2 firmware files is missing (a/two.fw)",
     "note"),
    (lambda files: [files.pop(f"lib/firmware/a/{n}.fw") for n in ("one", "two")],
     "module acard: none of its firmware is there (a/one.fw, ...)", "note"),
    (changed(MODULES + "kernel/fs/ext4/ext4.ko", (0o100644, b"\x7fELF, and no more")),
     "module ext4 is damaged", "error"),
    (changed(MODULES + "kernel/fs/ext4/ext4.ko", (0o100644, module(I386))),
     "for i386, and others are for amd64", "error"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_check_names_what_is_missing(ours, tmp_path, spoil, words, severity):
    files = files_of(ours)
    spoil(files)
    found = checked(written(tmp_path / "spoilt", cpio(files)), 1 if severity == "error" else 0)
    assert [s for text, s in found.items() if words in text] == [severity], found


def test_what_is_built_in_is_not_missing(ours, tmp_path):
    files = files_of(ours)
    del files[MODULES + "kernel/drivers/block/nbd.ko"]
    files[MODULES + "modules.builtin"] = (0o100644, b"kernel/a.ko\nkernel/drivers/block/nbd.ko")
    assert not checked(written(tmp_path / "builtin", cpio(files)))


def test_64_bit_init_in_front_of_a_32_bit_kernel_is_an_error(ours, tmp_path):
    files = files_of(ours)
    for name in list(files):
        if name.endswith(".ko"):
            files[name] = (0o100644, module(I386))
    found = checked(written(tmp_path / "mixed", cpio(files)), 1)
    assert any("cannot run the 64-bit /init" in text for text in found)
    # The other way round is what --arch i386 is for.
    pack(tmp_path / "out", "--arch", "i386", "--compress", "gzip", "--modules",
         make_tree(tmp_path, VERSION))
    assert all(severity == "note" for severity in checked(tmp_path / "out").values())


def test_compression_that_a_kernel_does_not_know_is_an_error(ours, tmp_path):
    files = {name.replace(VERSION, "4.18-el8"): entry for name, entry in files_of(ours).items()}
    assert not checked(written(tmp_path / "gzip", PACKERS[".gz"](cpio(files))))
    found = checked(written(tmp_path / "zstd", PACKERS[".zst"](cpio(files))), 1)
    assert [text for text in found if "cannot unpack" in text and "zstd" in text and "5.9" in text]
    bad = lzma.compress(cpio(files), check=lzma.CHECK_CRC64, preset=1)
    found = checked(written(tmp_path / "xz", bad), 1)
    assert any("--check=crc32" in text for text in found)


# ---- other people's ---------------------------------------------------------------------------


def foreign():
    """As initramfs-tools and dracut lay theirs out: usr-merged, links, a script or a link as init."""
    return {
        ".": (0o40755, b""),
        "./lib": (0o120777, b"usr/lib"),
        "./sbin": (0o120777, b"usr/sbin"),
        "./usr/bin/sh": (0o100755, b"\x7fELF"),
        "./usr/sbin/real-init": (0o100755, module(AMD64)[:16] + b"\2\0" + module(AMD64)[18:]),
        "./init": (0o120777, b"/sbin/real-init"),
        f"./usr/lib/modules/{VERSION}/kernel/net/card.ko.xz": PACKERS[".xz"](
            module(AMD64, firmware="card.fw", depends="gone")),
        f"./usr/lib/modules/{VERSION}/kernel/fs/packed.ko.zst": PACKERS[".zst"](module(AMD64)),
        f"./usr/lib/modules/{VERSION}/modules.dep.bin": b"",
        f"./usr/lib/modules/{VERSION}/modules.alias.bin": b"",
        "./usr/lib/firmware/card.fw.xz": b"packed firmware",
    }


def test_microcode_in_front_zeros_between_and_a_compressed_rest_are_all_read(tmp_path):
    early = cpio({"kernel/x86/microcode/GenuineIntel.bin": b"microcode", "init": b"not the last one"})
    path = written(tmp_path / "initrd", early + bytes(512 - len(early) % 512) +
                   PACKERS[".zst"](cpio(foreign())) + bytes(4) + PACKERS[".gz"](cpio({"late": b"x"})))
    answer = listed(path)
    assert [p["compression"] for p in answer["parts"]] == ["none", "zstd", "gzip"]
    assert [p["files"] for p in answer["parts"]] == [2, len(foreign()), 1]
    assert answer["nbdroot"] is None
    (program,) = answer["programs"]
    assert program["path"] == "init" and program["for"] == "amd64"
    (kernel,) = answer["kernels"]
    assert {m["name"]: m["firmware"] for m in kernel["modules"]} == {"card": ["card.fw"], "packed": []}
    found = checked(path, 1)
    assert found.pop("module card needs gone, which is missing") == "error"
    # That it has no nbd is no fault of an archive that another tool made for something else.
    assert found and set(found.values()) == {"note"}
    assert not any("firmware" in text for text in found)


def test_later_file_replaces_an_earlier_one(ours, tmp_path):
    site = cpio({MODULES + "kernel/drivers/block/nbd.ko": module(AMD64, firmware="late.fw")})
    first = ours.read_bytes() + b"\0"
    first += bytes(-len(first) % 4)
    answer = listed(written(tmp_path / "both", first + site))
    (nbd,) = [m for m in answer["kernels"][0]["modules"] if m["name"] == "nbd"]
    assert nbd["firmware"] == ["late.fw"]
    (text,) = checked(written(tmp_path / "crooked", first + b"\0" + site), 1)
    assert "must start at a multiple of four bytes" in text


@pytest.mark.parametrize("tool", ["bsdcpio-less cpio", "hard links"])
def test_archives_of_gnu_cpio_are_read(tmp_path, tool):
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/init").write_text("#!/bin/none\n")
    (tmp_path / "tree/lib").mkdir()
    (tmp_path / "tree/init").chmod(0o755)
    if tool == "hard links":
        (tmp_path / "tree/lib/init").hardlink_to(tmp_path / "tree/init")
    packed = subprocess.run("find . | LC_ALL=C sort | cpio -o -H newc --quiet", shell=True, check=True,
                            cwd=tmp_path / "tree", capture_output=True).stdout
    (program,) = listed(written(tmp_path / "out", packed))["programs"]
    assert program["bytes"] == len("#!/bin/none\n")


# ---- files that are not what they should be ----------------------------------------------------


def test_file_that_is_cut_off_is_read_as_far_as_it_goes(ours, tmp_path):
    raw = cpio(files_of(ours))
    path = written(tmp_path / "cut", raw[:len(raw) // 2])
    answer = listed(path, status=1)
    assert "ends in the middle of an entry" in answer["problem"]
    assert answer["programs"]
    found = checked(path, 1)
    (text,) = found
    assert "cannot be read to its end" in text
    packed = ours.read_bytes()
    checked(written(tmp_path / "packed", packed[:-100]), 1)


@pytest.mark.parametrize("data, words", [
    (b"", "the file is empty"), (b"hello", "neither cpio nor"), (bytes(4096), "the file is empty"),
    (b"070701" + b"0" * 104 + b"x", "no cpio"), (b"070701", "in the middle"),
    (b"070701" + b"ffffffff" * 13, "no cpio"), (b"\x02\x21\x4c\x18" + bytes(20), "cannot unpack this"),
    (b"BZh91AY", "cannot unpack this"), (b"\x1f\x8b\x08" + bytes(20), "damaged"),
    (b"\xfd7zXZ\0" + bytes(20), "damaged"), (b"\x28\xb5\x2f\xfd" + bytes(20), "damaged"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_file_that_is_no_archive_gets_words(tmp_path, data, words):
    found = checked(written(tmp_path / "file", data), 1)
    assert any(words in text for text in found), found


if os.environ.get("NBDROOT_LONG"): # 20 seconds
    def test_archive_that_unpacks_to_no_end_is_given_up(tmp_path):
        bomb = subprocess.run("head -c 2200M /dev/zero | zstd -q -1 -c", shell=True, check=True,
                              capture_output=True).stdout
        (text,) = checked(written(tmp_path / "bomb", bomb), 1)
        assert "more than 2 GiB" in text


def test_links_in_circles_and_names_for_terminals_do_no_harm(tmp_path):
    files = {"init": (0o120777, b"a"), "a": (0o120777, b"/b/../init"), "b": (0o120777, b"b"),
             f"{MODULES}kernel/net/\x1b[2J.ko": module(AMD64), "bin": (0o120777, b"../../../bin")}
    path = written(tmp_path / "out", cpio(files))
    assert "\x1b" not in inspect("--list", path).stdout + inspect("--check", path, status=1).stdout
    assert "/init is missing" in " ".join(checked(path, 1))


@pytest.mark.parametrize("argv", [["--list"], ["--list", "/nowhere"], ["--check", "/"],
                                  ["--list", "a", "--check", "a"], ["-o", "a", "--list", "b"]])
def test_wrong_use_is_one_line(tmp_path, argv):
    done = subprocess.run([NBDROOT, "initramfs", *argv], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode in (1, 2) and len(done.stderr.splitlines()) == 1, done
    assert not done.stdout
