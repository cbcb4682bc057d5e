"""Every end: its sentence, its exit code, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import stat
import struct
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

import eckart
from compare import assert_within
from eckart.cli import files, output

pytestmark = pytest.mark.numpy_only


@pytest.fixture(autouse=True)
def _interruptible():
    """A shell starts what runs in the background with Control-C ignored, and so its children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def shell(line, *arguments, program=("-m", "eckart")):
    """Run the command as ``$@`` in a line of the shell, with streams that are buffered."""
    return subprocess.run(
        ["sh", "-c", line, "sh", sys.executable, *program, *map(str, arguments)],
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        capture_output=True,
        text=True,
        check=False,
    )


# ---- Standard streams ----------------------------------------------------------------------------


def test_a_closed_output_is_refused_before_the_work(npz, tmp_path):
    """There would be nowhere to say what was measured; nothing is written."""
    out = tmp_path / "out.npz"
    ended = shell('"$@" >&-', "factorize", npz, "--rank", 1, "-o", out)
    assert ended.returncode == 2
    assert ended.stderr.startswith("Error: standard output must be open")
    assert not out.exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_an_output_that_takes_nothing_is_a_sentence(npz, tmp_path):
    """It says that the file is there all the same, and has an exit code of its own."""
    out = tmp_path / "out.npz"
    ended = shell('"$@" >/dev/full', "factorize", npz, "--rank", 1, "-o", out)
    assert ended.returncode == 3
    assert ended.stderr == (
        "Error: standard output must be writable, but it is not: No space left on device. "
        f"`{out}` is complete. Redirect it to another place.\n"
    )
    assert read(out)
    ended = shell('"$@" >/dev/full', "inspect", "--help")
    assert (ended.returncode, ended.stderr.count("\n")) == (3, 1)


@pytest.mark.parametrize("closed", ["2>&-", "2>/dev/full", "<&- 2>&-"])
def test_where_no_sentence_can_be_told_the_exit_code_is_the_same(closed, npz, tmp_path):
    """Even where Python would complain at its end of what it could not flush."""
    bad = np.full((2, 2), np.nan)
    np.savez(tmp_path / "w.npz", bad=bad, good=np.eye(3))
    out = tmp_path / "out.npz"
    ended = shell(f'"$@" {closed}', "factorize", tmp_path / "w.npz", "--rank", 1, "-o", out)
    assert ended.returncode == 1
    assert set(read(out)) == {"good.B", "good.A"}
    assert shell(f'"$@" {closed}', "inspect", tmp_path / "none").returncode == 2


NOISY = """
import os, eckart, eckart.cli
factorize = eckart.factorize
eckart.factorize = lambda *args, **rules: os.write(2, b"noise") and factorize(*args, **rules)
eckart.cli.main()
"""


def test_no_file_becomes_a_stream_that_is_closed(npz, tmp_path):
    """A library that writes to stderr on its own would write into the file."""
    out = tmp_path / "out.safetensors"
    arguments = ("factorize", npz, "--rank", 1, "-o", out)
    assert shell('"$@" 2>&-', *arguments, program=("-c", NOISY)).returncode == 0
    assert len(read(out)) == 6


def read(path):
    with files.tensors_in(path) as tensors:
        return {tensor.name: tensor.load() for tensor in tensors}


def test_inspecting_nothing_but_nan_is_no_success(tmp_path, run):
    """The table says why, and a script sees it."""
    np.savez(tmp_path / "w.npz", v=np.full((2, 2), np.nan), w=np.full((2, 2), np.inf))
    for options in (), ("--json",):
        result = run("inspect", tmp_path / "w.npz", *options)
        assert result.exit_code == 1
        assert "NaN" in result.stdout
        assert result.stderr.startswith("v: `A` must be finite")


# ---- Signals -------------------------------------------------------------------------------------

# What a module that is imported gets when Control-C is pressed.
PRESSED = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"


@pytest.mark.parametrize(
    ("module", "program"),
    [
        ("numpy", ["-c", "from eckart_command import main; main()"]),
        ("click", ["-m", "eckart"]),
        ("rich.cells", ["-m", "eckart"]),
    ],
)
def test_control_c_while_modules_are_imported_is_silent(module, program, npz, tmp_path):
    """The process dies by the signal, so that a loop of the shell ends as well."""
    package, _, inner = module.partition(".")
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("" if inner else PRESSED)
    if inner:
        (tmp_path / package / "console.py").write_text(PRESSED)
    variables = {**os.environ, "PYTHONPATH": str(tmp_path)}
    program = [sys.executable, *program, "inspect", str(npz)]
    ended = subprocess.run(program, env=variables, capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGINT
    assert (ended.stdout, ended.stderr) == ("", "")


WRITING = """
import sys, time
import eckart.cli
from eckart.cli import files

def write(stream, arrays):
    stream.write(b"a part")
    stream.flush()
    print("writing", flush=True)
    time.sleep(60)

files.FORMATS[".npz"] = files.FORMATS[".npz"]._replace(write=write)
eckart.cli.main()
"""


def writing(npz, out):
    """A process that is in the middle of writing."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITING, "factorize", npz, "--rank", "1", "-o", out],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout.readline().strip() == b"writing"
    return process


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_that_asks_to_end_leaves_nothing_behind(name, npz, tmp_path):
    """Not a part of a file, no word, and the old file as it was."""
    out, number = tmp_path / "out.npz", getattr(signal, name)
    out.write_bytes(b"old")
    with writing(npz, out) as process:
        process.send_signal(number)
        assert process.stderr.read() == b""
    assert process.returncode == -number
    assert out.read_bytes() == b"old"
    assert set(tmp_path.iterdir()) == {npz, out}


def test_what_a_kill_leaves_the_next_run_clears(npz, tmp_path, run):
    """But not what another process is still writing, and no file of another name."""
    out = tmp_path / "out.npz"
    with writing(npz, out) as process:
        process.kill()
    (left,) = set(tmp_path.iterdir()) - {npz}
    other = tmp_path / ".out.npz.0123456.part"
    other.touch()
    with writing(npz, out) as process:
        (living,) = set(tmp_path.iterdir()) - {npz, other}  # so the one left is gone
        assert living != left
        assert run("factorize", npz, "--rank", 1, "-o", out).exit_code == 0
        assert set(tmp_path.iterdir()) == {npz, out, other, living}
        process.terminate()
    assert set(tmp_path.iterdir()) == {npz, out, other}


def test_signals_are_as_before_when_the_file_is_written(npz, tmp_path, run):
    """Whoever runs the command in a process of theirs keeps their handlers."""
    before = [signal.getsignal(end) for end in output._ENDS]
    assert run("factorize", npz, "--rank", 1, "-o", tmp_path / "out.npz").exit_code == 0
    assert [signal.getsignal(end) for end in output._ENDS] == before


# ---- What is written -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o777])
def test_a_file_that_is_replaced_keeps_its_mode(mode, npz, tmp_path, run):
    """And is never readable for others on the way to it."""
    out = tmp_path / "out.npz"
    out.touch()
    out.chmod(mode)
    assert run("factorize", npz, "--rank", 1, "-o", out).exit_code == 0
    assert stat.S_IMODE(out.stat().st_mode) == mode
    assert read(out)


def test_the_metadata_are_carried_over(safetensors, tmp_path, run):
    """Some libraries load no file that does not say ``format: pt``."""
    source, out = tmp_path / "w.safetensors", tmp_path / "out.safetensors"
    metadata = {"format": "pt", "π": '{"a": [1, "}"]}'}
    header = {"__metadata__": metadata, "w": {"dtype": "F64", "shape": [2, 2]}}
    header["w"]["data_offsets"] = [0, 32]
    text = json.dumps(header).encode()
    source.write_bytes(struct.pack("<Q", len(text)) + text + np.eye(2).tobytes())
    assert run("factorize", source, "--rank", 1, "-o", out).exit_code == 0
    with safe_open(out, framework="np") as file:
        assert file.metadata() == metadata
    assert run("factorize", source, "--rank", 1, "-o", tmp_path / "out.npz").exit_code == 0
    assert run("factorize", tmp_path / "out.npz", "--rank", 1, "-o", out).exit_code == 0
    with safe_open(out, framework="np") as file:
        assert not file.metadata()


@pytest.mark.parametrize(
    ("name", "why"),
    [("x" * 200_000, "takes 200,002 bytes, of 65,531 at most"), ("a\0b", "has a null character")],
    ids=["long", "null"],
)
def test_a_name_that_the_format_cannot_hold_is_refused(name, why, tmp_path, refused, run):
    """Before the work, in a sentence that a long name does not fill."""
    text = json.dumps({name: {"dtype": "F64", "shape": [2, 2], "data_offsets": [0, 32]}}).encode()
    source = tmp_path / "w.safetensors"
    source.write_bytes(struct.pack("<Q", len(text)) + text + np.eye(2).tobytes())
    sentence = refused("factorize", source, "--rank", 1, "-o", tmp_path / "out.npz")
    assert why in sentence
    assert len(sentence) < 1000
    out = tmp_path / "out.safetensors"
    assert run("factorize", source, "--rank", 1, "-o", out).exit_code == 0
    assert set(read(out)) == {f"{name}.B", f"{name}.A"}


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_a_name_that_is_no_text_is_refused(suffix, tmp_path, refused, run):
    """A .npy is called after its file, whose name may be any bytes; it is measured all the same."""
    path = tmp_path / "w\udcff.npy"
    np.save(path, np.eye(3))
    assert run("inspect", path).exit_code == 0
    out = tmp_path / f"out.{suffix}"
    assert "'w\\udcff' is no text" in refused("factorize", path, "--rank", 1, "-o", out)


def test_factors_whose_list_could_not_be_read_are_refused(tmp_path, safetensors, refused, run):
    """Before the work; 20,000 matrices are not too many."""
    name = "x" * 60_000
    data = np.eye(1, dtype=np.float32).tobytes()
    source = safetensors(**{f"{i}{name}": ("F32", [1, 1], data) for i in range(80)})
    out = tmp_path / "out.safetensors"
    sentence = refused("factorize", source, "--rank", 1, "-o", out)
    assert "the factors of 80 matrices take" in sentence
    assert files.listed_in([f"encoder.layer.{i}.weight.B" for i in range(40_000)]) < files.DIRECTORY


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_the_list_of_a_file_is_no_longer_than_foretold(suffix, tmp_path):
    """So that what is written can be read back."""
    arrays = {f"π\n{i}": np.zeros((10**9, 0)) for i in range(100)}
    path = tmp_path / f"out.{suffix}"
    with path.open("wb") as stream:
        files.FORMATS[path.suffix].write(stream, arrays)
    content = path.read_bytes()
    start = {"npz": content.find(b"PK\1\2"), "safetensors": 0}[suffix]
    assert len(content) - start - 22 <= files.listed_in(list(arrays))


# ---- Habits --------------------------------------------------------------------------------------


def test_several_patterns_choose_what_any_of_them_does(npz, measured, refused):
    """In the order of the names; each must match something."""
    names = ("--name", "layer.10.*", "--name", "conv", "--name", "*10*")
    assert list(measured(npz, *names)) == ["conv", "layer.10.weight"]
    sentence = refused("inspect", npz, "--name", "conv", "--name", "decoder")
    assert "`--name` must match a tensor" in sentence
    assert "got 'decoder'" in sentence


def test_the_usage_names_every_argument_that_is_required(run):
    """An option that has to be there is one."""
    usage = run("factorize", "--help").stdout.splitlines()[0]
    assert usage.endswith(" factorize [OPTIONS] -o OUT FILE")


def test_the_package_runs_as_a_module_and_says_what_it_needs():
    """The same sentence as the script, where the extra is not installed."""
    program = "import sys, runpy; sys.modules['safetensors'] = None; runpy.run_module('eckart')"
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("Error: the command `eckart` needs safetensors, which is not")


def test_many_small_matrices_are_measured_in_stacks(tmp_path, run, monkeypatch, entries):
    """One call for all of a shape and a dtype, with the facts of each alone in their order."""
    rng = np.random.default_rng(0)
    matrices = {f"w.{i}": rng.standard_normal((8, 4 + i % 2)) for i in range(60)}
    matrices["w.7"] = matrices["w.7"] * np.nan
    matrices["w.8"] = np.zeros((8, 4))
    matrices["w.9"] = matrices["w.9"].astype(np.float16)
    np.savez(tmp_path / "w.npz", **matrices)
    shapes = []
    original = eckart.singular_values
    monkeypatch.setattr(eckart, "singular_values", lambda A: shapes.append(A.shape) or original(A))
    result = run("inspect", tmp_path / "w.npz", "--json", "--error", 0.3)
    # What is not finite is left out of its stack, and what is alone in its dtype needs none.
    assert sorted(shapes) == [(8, 5), (8, 5), (28, 8, 5), (30, 8, 4)]
    found = entries(result)
    assert list(found) == [f"w.{i}" for i in range(60)]
    for name, A in matrices.items():
        if name == "w.7":
            assert found[name]["refusal"].startswith("`A` must be finite")
            continue
        facts = found[name]
        S = np.linalg.svd(A.astype(np.float64), compute_uv=False)
        assert facts["rank"] == (0 if name == "w.8" else len(S))
        for cut in (*facts["energy"].values(), facts["truncated"]):
            error = np.linalg.norm(S[cut["rank"] :]) / max(np.linalg.norm(S), 1e-300)
            dtype = "float32" if name == "w.9" else "float64"
            assert_within(cut["error"], error, dtype=dtype, size=8)


def test_a_python_too_old_is_refused_at_once():
    """Its pip looks for versions of what has no marker, for minutes, before it looks at ours."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    for extra in "cli", "plot":
        for requirement in project["optional-dependencies"][extra]:
            assert requirement.endswith("; python_version > '3.10'")
