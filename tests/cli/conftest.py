"""What every test of the command uses: a way to run it and a way to make files."""

from __future__ import annotations

import fcntl
import json
import os
import struct
import subprocess
import sys
import termios
import warnings
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from eckart.cli.commands import command


@pytest.fixture
def run() -> Callable[..., Result]:
    """Run the command with arguments of any kind; what it raises stays visible."""

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(command, [str(argument) for argument in arguments])

    return run


@pytest.fixture
def terminal() -> Callable[..., tuple[int, str]]:
    """Run Python on a terminal; its exit code and what the terminal gets, stderr among it."""

    def terminal(*arguments: object, columns: int = 80, **variables: str) -> tuple[int, str]:
        ours, its = os.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            stdin=its,
            stdout=its,
            stderr=its,
            env=environment | {"TERM": "xterm-256color", "OMP_NUM_THREADS": "1"} | variables,
        )
        os.close(its)
        pieces = []
        with process, suppress(OSError):  # the end of what a terminal gets is an error
            while piece := os.read(ours, 2**16):
                pieces.append(piece)
        os.close(ours)
        return process.returncode, b"".join(pieces).decode().replace("\r\n", "\n")

    return terminal


@pytest.fixture
def refused(run: Callable[..., Result]) -> Callable[..., str]:
    """The sentence that a run ends with: on stderr only, exit code 2, no traceback."""

    def refused(*arguments: object) -> str:
        result = run(*arguments)
        assert result.exit_code == 2, result.output
        assert isinstance(result.exception, SystemExit)
        assert result.stdout == ""
        assert result.stderr.count("\n") == 1
        assert result.stderr.startswith("Error: ")
        return result.stderr.removeprefix("Error: ").rstrip("\n")

    return refused


@pytest.fixture
def entries() -> Callable[[Result], dict[str, dict[str, Any]]]:
    """The JSON that a run has printed, by the names of the tensors."""
    return lambda result: {entry["name"]: entry for entry in strict_json(result.stdout)}


@pytest.fixture
def measured(run: Callable[..., Result], entries: Callable[[Result], Any]) -> Callable[..., Any]:
    """What ``inspect`` prints as JSON, by the names of the tensors."""

    def measured(*arguments: object) -> dict[str, dict[str, Any]]:
        result = run("inspect", *arguments, "--json")
        assert result.exit_code == 0, result.output
        return entries(result)

    return measured


def strict_json(text: str) -> Any:
    """Parse JSON, refusing the NaN and Infinity that Python's parser lets pass."""

    def refuse(literal: str) -> None:
        raise AssertionError(f"{literal} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def low_rank() -> np.ndarray:
    """A matrix of shape (30, 20) and rank 3."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((30, 3)) @ rng.standard_normal((3, 20))


@pytest.fixture
def npz(tmp_path: Path, low_rank: np.ndarray) -> Path:
    """Matrices, vectors, integers and a tensor of four axes."""
    rng = np.random.default_rng(1)
    path = tmp_path / "model.npz"
    np.savez(
        path,
        **{
            "layer.10.weight": rng.standard_normal((12, 8)),
            "layer.2.weight": low_rank,
            "layer.2.bias": np.ones(30),
            "conv": rng.standard_normal((6, 3, 2, 2)).astype(np.float32),
            "steps": np.arange(6).reshape(2, 3),
        },
    )
    return path


@pytest.fixture
def twins(tmp_path: Path) -> Path:
    """An archive with two matrices of one name, of ranks 2 and 3."""
    path = tmp_path / "twins.npz"
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Duplicate name", UserWarning)
        for size in (2, 3):
            with archive.open("w.npy", "w") as stream:
                np.save(stream, np.eye(size))
    return path


@pytest.fixture
def safetensors(tmp_path: Path) -> Callable[..., Path]:
    """Write a .safetensors byte by byte: ``name=(dtype, shape, data)``."""

    def write(length: int | None = None, **tensors: tuple[str, list[int], bytes]) -> Path:
        header, data = {}, b""
        for name, (dtype, shape, values) in tensors.items():
            offsets = [len(data), len(data) + len(values)]
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
            data += values
        text = json.dumps(header).encode()
        path = tmp_path / "model.safetensors"
        path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
        return path

    return write
