# SPDX-License-Identifier: GPL-2.0-or-later
"""What --help says, what the manual pages say, and what the programs take are the same."""
import re
import subprocess

import lab
import pytest

HELPS = {
    "nbdclient": [[]],
    "nbdserve": [[]],
    "nbdroot": [[], ["image", "create"], ["image", "info"], ["image", "check"], ["initramfs"],
                ["netboot"],
                ["status"], ["reload"], ["client"], ["client", "list"], ["client", "disconnect"],
                ["client", "release"]],
}


def options_in(text):
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))


def run(program, *argv):
    return subprocess.run([lab.BUILD / program, *argv], capture_output=True, text=True,
                          check=False, timeout=10)


@pytest.mark.parametrize("program", HELPS)
def test_help_and_manual_page_name_the_same_options(program):
    helped = set()
    for words in HELPS[program]:
        result = run(program, *words, "--help")
        assert result.returncode == 0 and not result.stderr
        helped |= options_in(result.stdout)
    # only options of this program: a manual page may show another's command lines, indented
    page = (lab.TOP / f"docs/{program}.8.scd").read_text()
    described = options_in("\n".join(re.findall(r"^\*-.*$|^\*--.*$", page, re.MULTILINE)))
    assert helped - {"--help", "--version"} == described - {"--help", "--version"}


@pytest.mark.parametrize("program", HELPS)
def test_version_is_one_line(program):
    result = run(program, "--version")
    assert result.returncode == 0
    assert re.fullmatch(program + r" \d+\.\d+\.\d+\n", result.stdout)


@pytest.mark.parametrize("program", HELPS)
def test_nonsense_is_a_usage_error_of_one_line(program):
    for argv in ([], ["--nonsense"], ["nonsense"]):
        if program == "nbdserve" and not argv:
            continue
        result = run(program, *argv)
        assert result.returncode == 2, (argv, result.stderr)
        assert not result.stdout
    assert run(program, "--nonsense").stderr.count("\n") == 1
