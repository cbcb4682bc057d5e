"""The command as a whole."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import eckart.cli

pytestmark = pytest.mark.numpy_only


def test_without_the_extra_one_sentence_says_what_to_install(monkeypatch, capsys):
    """Exit code 2, before anything that is missing is imported."""
    monkeypatch.setitem(sys.modules, "rich", None)
    with pytest.raises(SystemExit) as end:
        eckart.cli.main()
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        "Error: the command `eckart` needs rich, which is not installed. "
        "Install the extra with pip install 'eckart[cli]'.\n"
    )


def test_the_library_does_not_import_the_command():
    """``import eckart`` needs none of the extra, and help none of the formats."""
    program = """
import sys, eckart
assert not {"eckart.cli", "click", "rich"} & set(sys.modules)
from eckart.cli.commands import command
command(["--help"], standalone_mode=False)
for name in "inspect", "factorize":
    command([name, "--help"], standalone_mode=False)
heavy = {"rich", "safetensors", "matplotlib", "torch", "jax"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_it_runs_as_a_module(tmp_path):
    """A refusal there is the same sentence."""
    ended = subprocess.run(
        [sys.executable, "-m", "eckart.cli", "inspect", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.endswith("but it is a directory. Name a file.\n")


def test_command_uses_the_public_interface_only():
    """No module of the command imports a private one of the library."""
    for path in Path(eckart.cli.__file__).parent.glob("*.py"):
        assert not re.search(r"eckart\._|from eckart import _", path.read_text("utf-8")), path.name
