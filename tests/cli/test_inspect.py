"""What ``eckart inspect`` measures and how it prints it."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

import eckart
from eckart.cli import report, table
from eckart.cli.files import tensors_in

pytestmark = pytest.mark.numpy_only


def spectrum_of(A):
    return np.asarray(eckart.singular_values(A), dtype=np.float64)


def titles(page):
    """The words right above the separator."""
    lines = page.splitlines()
    separator = next(i for i, line in enumerate(lines) if set(line) == {"─"})
    return lines[separator - 1].split()


def test_every_number_is_the_librarys(dtype, tmp_path, low_rank, measured):
    """Ranks from the singular values are those that the library takes from the matrix."""
    A = (low_rank + 1e-3 * np.eye(30, 20)).astype(dtype)
    np.save(tmp_path / "w.npy", A)
    facts = measured(tmp_path / "w.npy")["w"]
    S = spectrum_of(A)
    assert facts["rank"] == int(eckart.matrix_rank(A))
    assert facts["stable_rank"] == pytest.approx(float(eckart.stable_rank(A)), rel=1e-5)
    assert facts["effective_rank"] == pytest.approx(float(eckart.effective_rank(A)), rel=1e-5)
    assert facts["break_even_rank"] == eckart.break_even_rank(A.shape)
    for percent in (90, 95, 99):
        cut = facts["energy"][str(percent)]
        r = int(eckart.select_rank(S, error=math.sqrt(1 - percent / 100)))
        assert cut["rank"] == r
        assert cut["error"] == pytest.approx(float(eckart.truncation_error(S, r, relative=True)))
        assert cut["saved"] == pytest.approx(1 - eckart.factorize(A, r).size / A.size)


@pytest.mark.parametrize("name", ["F16", "BF16"])
def test_half_precision_has_its_own_rule_for_zero(name, low_rank, safetensors, measured):
    """Rounding to half precision adds noise, and the rank is still the one before."""
    A = low_rank.astype(np.float16 if name == "F16" else ml_dtypes.bfloat16)
    facts = measured(safetensors(w=(name, [30, 20], A.tobytes())))["w"]
    assert facts["dtype"] == A.dtype.name
    assert facts["rank"] == int(eckart.matrix_rank(A)) == 3
    # The singular values are not rounded to half precision on the way.
    wide = A.astype(np.float64)
    assert facts["stable_rank"] == pytest.approx(float(eckart.stable_rank(wide)), rel=1e-6)


def test_bfloat16_is_read_where_nothing_else_has_taught_it_to_numpy(safetensors):
    """The command imports what defines the dtype; these tests, which do too, would hide it."""
    path = safetensors(w=("BF16", [1, 2], b"\x80\x3f" * 2))
    command = [sys.executable, "-m", "eckart.cli", "inspect", str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "bfloat16" in ended.stdout


def test_the_singular_values_are_computed_once(npz, run, monkeypatch):
    """All columns come from one decomposition of each matrix."""
    shapes = []
    original = eckart.singular_values
    monkeypatch.setattr(eckart, "singular_values", lambda A: shapes.append(A.shape) or original(A))
    assert run("inspect", npz, "--rank", 2).exit_code == 0
    assert sorted(shapes) == [(6, 12), (12, 8), (30, 20)]


def test_rank_and_error_only_lower_the_rank(npz, measured):
    """The smaller of the two is taken, and no matrix is asked for more than it has."""
    both = {
        name: facts["truncated"]
        for name, facts in measured(npz, "--rank", 9, "--error", 0.5).items()
    }
    alone = {name: facts["truncated"] for name, facts in measured(npz, "--error", 0.5).items()}
    wide = {name: facts["truncated"]["rank"] for name, facts in measured(npz, "--rank", 9).items()}
    assert both == alone
    assert all(cut["error"] <= 0.5 for cut in alone.values())
    assert wide == {"conv": 6, "layer.2.weight": 9, "layer.10.weight": 8}


def test_without_a_rule_there_is_no_truncation(npz, measured):
    """The column belongs to ``--rank`` and ``--error``."""
    assert all(facts["truncated"] is None for facts in measured(npz).values())


def test_names_come_in_natural_order(npz, measured):
    """Layer 2 stands before layer 10."""
    assert list(measured(npz)) == ["conv", "layer.2.weight", "layer.10.weight"]


def test_a_pattern_chooses_by_name(npz, run, measured):
    """What the pattern leaves out is not counted as skipped."""
    assert list(measured(npz, "--name", "layer.*.weight")) == ["layer.2.weight", "layer.10.weight"]
    assert run("inspect", npz, "--name", "layer.*.weight").stderr == ""


def test_a_tensor_of_more_axes_is_the_first_against_the_rest(npz, run, measured):
    """The table and the JSON both say so."""
    facts = measured(npz)["conv"]
    assert (facts["shape"], facts["matrix_shape"]) == ([6, 3, 2, 2], [6, 12])
    page = run("inspect", npz).stdout
    assert "6×(3·2·2)" in page
    assert "more than two axes, taken as the first one against the rest" in page


def test_what_is_no_matrix_is_counted_on_stderr(npz, run):
    """Vectors and integers are skipped, and stdout has the measurements only."""
    result = run("inspect", npz, "--json")
    assert result.stderr == (
        "Skipped 2 of 5 tensors: 1 with fewer than two axes, 1 of dtype int64.\n"
    )
    assert "Skipped" not in result.stdout


def test_float8_is_skipped(safetensors, run):
    """A format that NumPy has no arrays of is named, and the rest measured."""
    path = safetensors(w=("F32", [2, 2], b"\0" * 16), q=("F8_E4M3", [2, 2], b"\0" * 4))
    result = run("inspect", path, "--json")
    assert result.exit_code == 0
    assert result.stderr == "Skipped 1 of 2 tensors: 1 of dtype F8_E4M3.\n"


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("precision", [np.float16, np.float64])
def test_a_matrix_that_is_not_finite_has_a_row_that_says_so(
    value, precision, tmp_path, run, measured
):
    """The library's sentence goes to stderr, and the other matrices are measured."""
    bad = np.ones((3, 4), precision)
    bad[1, 2] = value
    np.savez(tmp_path / "w.npz", bad=bad, good=np.eye(3))
    result = run("inspect", tmp_path / "w.npz")
    assert result.exit_code == 0
    (row,) = (line for line in result.stdout.splitlines() if line.startswith("bad"))
    assert row.split(maxsplit=3) == ["bad", "3×4", precision.__name__, "NaN or Inf"]
    assert titles(result.stdout)[-1] == "refused"
    assert result.stderr.startswith("bad: `A` must be finite, but 1 of its 12 entries")
    facts = measured(tmp_path / "w.npz")
    assert facts["bad"]["rank"] is None
    assert facts["bad"]["refusal"].startswith("`A` must be finite")
    assert facts["good"]["rank"] == 3


def test_a_matrix_out_of_range_has_a_row_that_says_so(tmp_path, run):
    """A singular value that does not fit the dtype is another reason than a NaN."""
    np.save(tmp_path / "w.npy", np.full((4, 4), np.finfo(np.float32).max))
    result = run("inspect", tmp_path / "w.npy")
    head, _, row = result.stdout.splitlines()
    assert head.split() == ["tensor", "shape", "dtype", "refused"]
    assert row.split(maxsplit=3) == ["w", "4×4", "float32", "out of range"]
    assert "the largest singular value must fit" in result.stderr


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (2, 0, 4), (4, 4)])
def test_empty_and_zero_matrices_are_values(shape, tmp_path, run, measured):
    """Their ranks are 0, and nothing divides by zero."""
    np.save(tmp_path / "w.npy", np.zeros(shape))
    facts = measured(tmp_path / "w.npy", "--rank", 1)["w"]
    numbers = [facts[key] for key in ("rank", "stable_rank", "effective_rank")]
    assert numbers == [0, 0, 0]
    assert facts["energy"]["99"]["rank"] == 0
    assert run("inspect", tmp_path / "w.npy").exit_code == 0


@pytest.mark.parametrize("change", [np.asfortranarray, lambda A: A.astype(">f8")])
def test_the_layout_in_the_file_does_not_matter(change, tmp_path, low_rank, measured):
    """Fortran order and the other byte order hold the same matrix."""
    np.save(tmp_path / "w.npy", low_rank)
    np.save(tmp_path / "other.npy", change(low_rank))
    plain, other = measured(tmp_path / "w.npy")["w"], measured(tmp_path / "other.npy")["other"]
    assert {**other, "name": "w"} == plain


def test_json_keeps_every_digit(tmp_path, low_rank, measured):
    """A number read back is the number that was computed."""
    np.save(tmp_path / "w.npy", low_rank)
    (tensor,) = load(tmp_path / "w.npy")
    facts = report.facts(tensor, low_rank)
    assert measured(tmp_path / "w.npy")["w"]["effective_rank"] == facts.measured.effective_rank


def load(path):
    with tensors_in(path) as tensors:
        return tensors


def test_a_file_has_no_width(npz, run):
    """Redirected, every name is whole, every matrix one line without codes or trailing blanks."""
    name = "x" * 300
    with np.load(npz) as arrays:
        np.savez(npz, **arrays, **{name: np.eye(2), "bad": np.full((2, 2), np.nan)})
    page = run("inspect", npz, "--rank", 2).stdout
    assert "\x1b" not in page
    lines = page.splitlines()
    assert all(line == line.rstrip() for line in lines)
    separator = next(i for i, line in enumerate(lines) if set(line) == {"─"})
    assert max(map(len, lines)) == len(lines[separator])
    rows = lines[separator + 1 : lines.index("")]
    assert [row.split()[:3] for row in rows] == [
        ["bad", "2×2", "float64"],
        ["conv", "6×(3·2·2)", "float32"],
        ["layer.2.weight", "30×20", "float64"],
        ["layer.10.weight", "12×8", "float64"],
        [name, "2×2", "float64"],
    ]
    assert lines[lines.index("") + 1].startswith("Rank 90 %: ")


@pytest.mark.parametrize("width", [80, 100, 120, 200])
@pytest.mark.parametrize("name", ["encoder.layers.10.self_attention.query.weight", "w"])
def test_the_table_fits_the_terminal_and_no_number_is_cut(width, name, tmp_path):
    """A long name is folded; numbers stay whole even where the terminal is too narrow for them."""
    np.savez(tmp_path / "w.npz", **{name: np.eye(1000, 100, dtype=np.float32)})
    with tensors_in(tmp_path / "w.npz") as (tensor,):
        found = [report.facts(tensor, tensor.load(), rank=3)]
    page = list(table.page(found, width))
    lines = page[: page.index("")]
    numbers = ["100", "100.0", "100.0"]
    numbers += [str(cut.rank) for cut in found[0].measured.energy.values()]
    numbers += ["1", "%", "–", "90", "3", "0.98"]
    # Without what can be folded; of a long name 16 characters stay on a line.
    narrowest = {"w": 102}.get(name, 112)
    if width < narrowest:
        head, above, below, separator, *names, row = lines
        assert head == "tensor, shape, dtype"
        titles = "stable effect. rank rank rank saved saved break cut to with"
        assert " ".join(above.split()) == titles
        assert len(below) == len(row) <= len(separator) <= width
        assert " ".join(names).split() == [name, "1000×100", "float32"]
        assert row.split() == numbers
        return
    full = narrowest - 16 + len(name) if len(name) > 16 else narrowest
    assert max(map(len, lines)) == min(width, full)
    above, head, separator, row, *rest = lines
    assert above.strip().startswith("stable  effect.  rank  rank  rank  saved  saved  break")
    assert head.split()[:4] == ["tensor", "shape", "dtype", "rank"]
    start, *cells = row.split()
    assert cells == ["1000×100", "float32", *numbers]
    # Every cell ends where its title does.
    assert len(head) == len(row) == len(separator)
    # A name is folded where a word of it ends.
    assert "".join([start, *rest]) == name
    assert all(line.endswith(".") for line in [start, *rest][:-1])
    assert bool(rest) == (len(separator) < full)


def test_a_name_cannot_drive_the_terminal(tmp_path, run):
    """Control characters of a name are printed as their escapes."""
    np.savez(tmp_path / "w.npz", **{"\x1b[2Jw\n": np.eye(2)})
    assert r"\x1b[2Jw\n" in run("inspect", tmp_path / "w.npz").stdout


@pytest.mark.parametrize("error", ["-0.1", "1.5", "nan"])
def test_an_error_is_between_zero_and_one(error, npz, run):
    """Nothing is computed with another."""
    result = run("inspect", npz, f"--error={error}")
    assert result.exit_code == 2
    assert "it must be between 0 and 1, got" in result.stderr


def test_an_interrupt_is_silent(npz, run, monkeypatch):
    """Control-C ends with the exit code of a signal and no traceback."""

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "facts", interrupt)
    result = run("inspect", npz)
    assert result.exit_code == 128 + signal.SIGINT
    assert result.output.strip() == ""


def test_too_little_memory_is_a_sentence(npz, refused, monkeypatch):
    """What does not fit is refused like any other input."""

    def exhaust(*_, **__):
        raise MemoryError

    monkeypatch.setattr(report, "facts", exhaust)
    assert "must fit in memory" in refused("inspect", npz)


def test_a_reader_who_leaves_early_sees_no_traceback(npz):
    """The other end of a pipe may close at any time; the signal ends it, as it ends others."""
    process = subprocess.Popen(
        [sys.executable, "-m", "eckart.cli", "inspect", str(npz)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    process.stdout.close()
    with process:
        assert process.stderr.read() == b""
    assert process.returncode == -signal.SIGPIPE


def test_a_saving_is_shown_only_where_there_is_one():
    """Factors that store more than the matrix save nothing, and a dash says so."""
    assert table._saved(0.25) == "25 %"
    assert table._saved(0.0) == table._saved(-0.5) == "–"
