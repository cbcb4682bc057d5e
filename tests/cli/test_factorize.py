"""What ``eckart factorize`` writes, what it says of it, and that it writes all or nothing."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

import eckart
from compare import EPS, assert_within
from eckart.cli import factors, files

pytestmark = pytest.mark.numpy_only

SUFFIXES = ["npz", "safetensors"]


def read(path):
    """The arrays in a file by their names."""
    with files.tensors_in(path) as tensors:
        return {tensor.name: tensor.load() for tensor in tensors}


@pytest.fixture
def cut(run, entries):
    """The JSON that a run prints by the names of the tensors, and the arrays that it writes."""

    def cut(file, out, *rules):
        result = run("factorize", file, *rules, "--json", "-o", out)
        assert result.exit_code == 0, result.output
        return entries(result), read(out)

    return cut


def wide(A):
    return np.asarray(A).astype(np.complex128 if np.iscomplexobj(A) else np.float64)


# ---- What is written -----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_factors_are_the_librarys(suffix, npz, tmp_path, cut):
    """Bit for bit those of ``factorize``, named after the tensor, and nothing else."""
    found, written = cut(npz, tmp_path / f"out.{suffix}", "--rank", 2)
    assert set(found) == {"conv", "layer.2.weight", "layer.10.weight"}
    assert set(written) == {f"{name}.{side}" for name in found for side in "BA"}
    for name, A in read(npz).items():
        if name in found:
            B, C = eckart.factorize(A.reshape(len(A), -1), 2)
            assert files._bits(written[f"{name}.B"]) == files._bits(B)
            assert files._bits(written[f"{name}.A"]) == files._bits(C)


@pytest.mark.parametrize("change", [np.asfortranarray, lambda A: A.astype(">f8")])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_layout_in_the_file_does_not_matter(change, suffix, tmp_path, low_rank, cut):
    """Fortran order and the other byte order hold the same matrix."""
    for name, A in ("plain", low_rank), ("other", change(low_rank)):
        np.save(tmp_path / f"{name}.npy", A)
    _, plain = cut(tmp_path / "plain.npy", tmp_path / f"p.{suffix}", "--rank", 3)
    _, other = cut(tmp_path / "other.npy", tmp_path / f"o.{suffix}", "--rank", 3)
    for side in "BA":
        assert files._bits(plain[f"plain.{side}"]) == files._bits(other[f"other.{side}"])


def test_factors_that_are_not_contiguous_are_written_in_order(tmp_path, low_rank, cut, monkeypatch):
    """The writer of .safetensors would take the memory of a transposed array as it lies."""
    original = eckart.factorize

    def turned(*args, **rules):
        return eckart.LowRank(*map(np.asfortranarray, original(*args, **rules)))

    monkeypatch.setattr(eckart, "factorize", turned)
    np.save(tmp_path / "w.npy", low_rank)
    _, written = cut(tmp_path / "w.npy", tmp_path / "out.safetensors", "--rank", 3)
    assert files._bits(written["w.B"]) == files._bits(original(low_rank, 3).B)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("precision", files._FLOATS)
def test_a_format_lacks_what_it_says_and_nothing_else(precision, suffix, tmp_path):
    """Every other dtype comes back bit for bit, empty arrays and signed zeros too."""
    form = files.FORMATS[f".{suffix}"]
    arrays = {
        "w": np.asarray([[1, -0.0, 3]]).astype(precision),
        "none": np.zeros((3, 0)).astype(precision),
    }
    path = tmp_path / "out"
    with path.open("wb") as stream:
        if precision in form.lacks and suffix == "safetensors":
            with pytest.raises(Exception, match=precision):
                form.write(stream, arrays)
            return
        form.write(stream, arrays)
    assert files.holds(path, arrays) == (precision not in form.lacks)


def test_who_may_read_the_file_is_as_for_any_new_one(npz, tmp_path, run):
    """The library that writes .safetensors would let its owner only."""
    (tmp_path / "new").touch()
    for suffix in SUFFIXES:
        assert run("factorize", npz, "--rank", 1, "-o", tmp_path / f"out.{suffix}").exit_code == 0
        assert (tmp_path / f"out.{suffix}").stat().st_mode == (tmp_path / "new").stat().st_mode


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_names_that_look_like_factors_do_not_collide(suffix, tmp_path, cut):
    """The factors of ``x.B`` stand beside those of ``x``."""
    np.savez(tmp_path / "w.npz", **{"x": 2 * np.eye(2), "x.B": 3 * np.eye(2)})
    _, written = cut(tmp_path / "w.npz", tmp_path / f"out.{suffix}", "--rank", 2)
    assert set(written) == {"x.B", "x.A", "x.B.B", "x.B.A"}
    for name, scale in ("x", 2), ("x.B", 3):
        product = written[f"{name}.B"] @ written[f"{name}.A"]
        assert_within(product, scale * np.eye(2), dtype="float64", size=2, scale=scale)


def test_two_matrices_of_one_name_are_refused(twins, tmp_path, refused):
    """An archive may hold them, but their factors could not be told apart."""
    sentence = refused("factorize", twins, "--rank", 1, "-o", tmp_path / "out.npz")
    assert "but 2 are called 'w'. Rename them" in sentence


def test_a_pattern_chooses_by_name(npz, tmp_path, cut):
    """What it leaves out is not in the file."""
    _, written = cut(npz, tmp_path / "out.npz", "--rank", 1, "--name", "conv")
    assert set(written) == {"conv.B", "conv.A"}


def test_what_is_no_matrix_is_counted_on_stderr(npz, tmp_path, run, entries):
    """As ``inspect`` counts it; it is not in the file, and stdout has the numbers only."""
    result = run("factorize", npz, "--rank", 1, "-o", tmp_path / "out.npz", "--json")
    assert result.exit_code == 0
    assert result.stderr == (
        "Skipped 2 of 5 tensors: 1 with fewer than two axes, 1 of dtype int64.\n"
    )
    assert len(entries(result)) == 3


# ---- Which rank ----------------------------------------------------------------------------------


def test_an_error_gives_the_smallest_rank_that_keeps_it(npz, tmp_path, cut):
    """The certified error is at most the one asked for, and with a rank less it would not be."""
    found, _ = cut(npz, tmp_path / "out.npz", "--error", 0.4)
    for name, entry in found.items():
        A = read(npz)[name]
        S = eckart.singular_values(A.reshape(len(A), -1))
        assert entry["relative_error"] <= 0.4
        assert eckart.truncation_error(S, entry["rank"] - 1, relative=True) > 0.4


def test_rank_and_error_only_lower_the_rank(npz, tmp_path, cut):
    """The smaller of the two is taken, and no matrix is asked for more than it has."""

    def ranks(*rules):
        found, _ = cut(npz, tmp_path / "out.npz", *rules)
        return {name: entry["rank"] for name, entry in found.items()}

    most = ranks("--rank", 9)
    assert most == {"conv": 6, "layer.2.weight": 9, "layer.10.weight": 8}
    alone = ranks("--error", 0.4)
    both = ranks("--error", 0.4, "--rank", 3)
    assert both == {name: min(rank, 3) for name, rank in alone.items()}
    assert both != alone


def test_rounding_above_the_error_asked_for_is_told(tmp_path, low_rank, run):
    """The rule chose the rank, and the dtype then rounds the factors; a `--rank` owes no error."""
    A = (low_rank + np.eye(30, 20)).astype(np.float16)
    np.savez(tmp_path / "w.npz", w=A, zero=np.zeros((2, 2)))
    result = run("factorize", tmp_path / "w.npz", "--error", 1e-6, "-o", tmp_path / "out.npz")
    assert result.exit_code == 0
    assert result.stderr.startswith("The error of 1 of 2 matrices is above --error 1e-06, at most ")
    rules = ("--error", 1e-6, "--rank", 5)
    assert run("factorize", tmp_path / "w.npz", *rules, "-o", tmp_path / "out.npz").stderr == ""


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (2, 0, 4), (4, 4)])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_empty_and_zero_matrices_are_values(shape, suffix, tmp_path, cut, run):
    """They have factors, without an error, and nothing divides by zero."""
    np.save(tmp_path / "w.npy", np.zeros(shape))
    m, n = shape[0], math.prod(shape[1:])
    found, written = cut(tmp_path / "w.npy", tmp_path / f"out.{suffix}", "--error", 0.1)
    assert (found["w"]["rank"], found["w"]["relative_error"], found["w"]["error"]) == (0, 0, 0)
    assert (written["w.B"].shape, written["w.A"].shape) == ((m, 0), (0, n))
    arguments = (tmp_path / "w.npy", "--rank", 1, "-o", tmp_path / f"out.{suffix}")
    assert run("factorize", *arguments).exit_code == 0


def test_rank_zero_is_a_rank(tmp_path, low_rank, cut):
    """Nothing is kept, and the error is the whole matrix."""
    np.save(tmp_path / "w.npy", low_rank)
    found, written = cut(tmp_path / "w.npy", tmp_path / "out.npz", "--rank", 0)
    assert (found["w"]["rank"], found["w"]["relative_error"], found["w"]["saved"]) == (0, 1, 1)
    assert written["w.B"].shape == (30, 0)


def test_where_an_iteration_gives_up_the_full_decomposition_is_taken(
    tmp_path, low_rank, cut, monkeypatch
):
    """Its warning names a remedy, and the command applies it."""
    original = eckart.factorize

    def giving_up(*args, method="auto", **rules):
        if method == "auto":
            warnings.warn("the triplets have not converged", RuntimeWarning, stacklevel=1)
        return original(*args, method=method, **rules)

    monkeypatch.setattr(eckart, "factorize", giving_up)
    np.save(tmp_path / "w.npy", low_rank)
    _, written = cut(tmp_path / "w.npy", tmp_path / "out.npz", "--rank", 2)
    expected = original(low_rank, 2, method="exact")
    assert files._bits(written["w.B"]) == files._bits(expected.B)


# ---- What is said of it --------------------------------------------------------------------------


@pytest.mark.parametrize("precision", files._FLOATS)
def test_every_number_is_true_of_the_factors_in_the_file(
    precision, tmp_path, low_rank, safetensors, cut
):
    """Measured anew in double precision from what was written; the bounds are bounds."""
    A = (low_rank + 0.1 * np.random.default_rng(2).standard_normal((30, 20))).astype(precision)
    if precision == "bfloat16":
        source, out = safetensors(w=("BF16", [30, 20], A.tobytes())), tmp_path / "out.safetensors"
    else:
        source, out = tmp_path / "w.npz", tmp_path / "out.npz"
        np.savez(source, w=A)
    found, written = cut(source, out, "--rank", 5)
    B, C, entry = written["w.B"], written["w.A"], found["w"]
    assert (B.dtype, C.dtype, entry["dtype"]) == (A.dtype, A.dtype, precision)
    assert (entry["shape"], entry["matrix_shape"]) == ([30, 20], [30, 20])
    assert (entry["rank"], entry["size"], entry["dense_size"]) == (5, B.size + C.size, A.size)
    assert entry["saved"] == pytest.approx(1 - (B.size + C.size) / A.size)
    assert entry["refusal"] is None
    computed = {"float16": "float32", "bfloat16": "float32"}.get(precision, precision)
    rest, norm = wide(A) - wide(B) @ wide(C), np.linalg.norm(wide(A))
    error, units = np.linalg.norm(rest), {"dtype": computed, "size": 30}
    assert_within(entry["error"], error, scale=norm, **units)
    assert_within(entry["relative_error"], error / norm, **units)
    assert entry["spectral_error"] >= np.linalg.norm(rest, 2) - EPS[computed] * norm
    best = np.linalg.norm(np.linalg.svd(wide(A), compute_uv=False)[5:])
    assert entry["excess"] >= error - best - 30 * EPS[computed] * norm
    assert 0 <= entry["failure_probability"] <= 1


def test_what_is_certified_was_read_from_the_file(tmp_path, low_rank, cut, monkeypatch):
    """Not the arrays that were meant to be written, however equal."""
    made, measured = [], []
    factorize, certify = eckart.factorize, eckart.certify

    def factorizing(*args, **rules):
        made.append(factorize(*args, **rules))
        return made[-1]

    def certifying(A, low_rank):
        measured.append(low_rank)
        return certify(A, low_rank)

    monkeypatch.setattr(eckart, "factorize", factorizing)
    monkeypatch.setattr(eckart, "certify", certifying)
    np.save(tmp_path / "w.npy", low_rank)
    cut(tmp_path / "w.npy", tmp_path / "out.npz", "--rank", 2)
    (one,), (other,) = made, measured
    assert not np.shares_memory(one.B, other.B)
    assert files._bits(one.B) == files._bits(other.B)


def test_a_tensor_of_more_axes_is_the_first_against_the_rest(npz, tmp_path, cut, run):
    """Its factors are those of that matrix."""
    found, written = cut(npz, tmp_path / "out.npz", "--rank", 2)
    assert (found["conv"]["shape"], found["conv"]["matrix_shape"]) == ([6, 3, 2, 2], [6, 12])
    assert (written["conv.B"].shape, written["conv.A"].shape) == ((6, 2), (2, 12))
    page = run("factorize", npz, "--rank", 2, "-o", tmp_path / "out.npz").stdout
    assert "6×(3·2·2): more than two axes, taken as the first one against the rest." in page


def test_the_table_tells_each_matrix_and_the_sum(npz, tmp_path, run):
    """Factors that store more than the matrix are written all the same, and a dash says so."""
    page = run("factorize", npz, "--rank", 6, "-o", tmp_path / "out.npz").stdout
    head, _, *rows = page.splitlines()[: page.splitlines().index("")]
    assert head.split() == ["tensor", "shape", "dtype", "rank", "saved", "error"]
    cells = {row.split()[0]: row.split()[1:] for row in rows}
    assert cells["conv"][:4] == ["6×(3·2·2)", "float32", "6", "–"]
    assert cells["layer.2.weight"][:5] == ["30×20", "float64", "6", "50", "%"]
    assert float(cells["layer.2.weight"][-1]) < 1e-14
    assert cells["layer.10.weight"][3] == "–"
    size = sum(array.size for array in read(tmp_path / "out.npz").values())
    assert f"Together the factors store {size} numbers in place of 768." in page


def test_a_number_that_does_not_fit_its_dtype_is_null(tmp_path, cut):
    """An absolute error may overflow where the relative one does not."""
    np.save(tmp_path / "w.npy", np.diag(np.full(4, 3e38, np.float32)))
    found, _ = cut(tmp_path / "w.npy", tmp_path / "out.npz", "--rank", 1)
    assert found["w"]["error"] is None
    assert found["w"]["relative_error"] == pytest.approx(math.sqrt(3) / 2)


# ---- What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("precision", [np.float16, np.float64])
def test_a_matrix_that_is_not_finite_is_left_out(value, precision, tmp_path, run, entries):
    """It is named, the others are written, and the exit code says that the file lacks one."""
    bad = np.ones((3, 4), precision)
    bad[1, 2] = value
    np.savez(tmp_path / "w.npz", bad=bad, good=np.eye(3))
    arguments = ("factorize", tmp_path / "w.npz", "--rank", 1, "-o", tmp_path / "out.npz")
    result = run(*arguments)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.startswith("bad: `A` must be finite, but 1 of its 12 entries")
    (row,) = (line for line in result.stdout.splitlines() if line.startswith("bad"))
    assert row.split(maxsplit=3) == ["bad", "3×4", precision.__name__, "NaN or Inf"]
    assert set(read(tmp_path / "out.npz")) == {"good.B", "good.A"}
    result = run(*arguments, "--json")
    assert result.exit_code == 1
    entry = entries(result)["bad"]
    assert entry["refusal"].startswith("`A` must be finite")
    assert {entry[key] for key in ("rank", "size", "saved", "relative_error", "excess")} == {None}


@pytest.mark.parametrize("rule", [("--rank", 1), ("--error", 0.1)])
def test_a_matrix_out_of_range_is_left_out(rule, tmp_path, run):
    """Its largest singular value does not fit the dtype."""
    high = np.full((4, 4), np.finfo(np.float32).max)
    np.savez(tmp_path / "w.npz", high=high, good=np.eye(3))
    result = run("factorize", tmp_path / "w.npz", *rule, "-o", tmp_path / "out.npz")
    assert result.exit_code == 1
    assert "out of range" in result.stdout
    assert result.stderr.startswith("high: the largest singular value must fit")


def test_where_every_matrix_is_refused_nothing_is_written(tmp_path, refused):
    """A file without tensors would look like a result."""
    np.savez(tmp_path / "w.npz", v=np.full((2, 2), np.nan), w=np.full((2, 2), np.inf))
    sentence = refused("factorize", tmp_path / "w.npz", "--rank", 1, "-o", tmp_path / "out.npz")
    assert "every matrix is refused, the first, 'v', because `A` must be finite" in sentence
    assert {path.name for path in tmp_path.iterdir()} == {"w.npz"}


def test_without_a_rule_nothing_is_cut(npz, tmp_path, refused):
    """The sentence names both."""
    sentence = refused("factorize", npz, "-o", tmp_path / "out.npz")
    assert sentence.startswith("`--rank` or `--error` must choose a rank")


def test_without_a_file_to_write_nothing_is_cut(npz, run):
    """The usage says so."""
    result = run("factorize", npz, "--rank", 1)
    assert result.exit_code == 2
    assert "Missing option '-o'" in result.stderr


@pytest.mark.parametrize("place", ["p.pt", "out", "none/p.npz", "model.npz/p.npz", "dir.npz"])
def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    place, npz, tmp_path, refused, monkeypatch
):
    """No matrix is cut for a file that has nowhere to go."""
    (tmp_path / "dir.npz").mkdir()
    monkeypatch.setattr(factors, "factored", lambda *_, **__: pytest.fail("it was cut"))
    sentence = refused("factorize", npz, "--rank", 1, "-o", tmp_path / place)
    assert "`-o` must name a .safetensors or .npz file that can be written" in sentence


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to", "itself"])
def test_the_file_read_is_never_the_one_written(link, npz, tmp_path, refused):
    """Under whatever name."""
    other = tmp_path / "other.npz"
    if link == "itself":
        other = tmp_path / ".." / tmp_path.name / npz.name
    else:
        getattr(other, link)(npz)
    before = npz.read_bytes()
    assert "must name another file" in refused("factorize", npz, "--rank", 1, "-o", other)
    assert npz.read_bytes() == before


def test_a_dtype_that_the_format_lacks_is_refused_before_the_work(
    tmp_path, safetensors, refused, monkeypatch
):
    """The sentence names the format that has it."""
    monkeypatch.setattr(factors, "factored", lambda *_, **__: pytest.fail("it was cut"))
    half = safetensors(w=("BF16", [1, 2], b"\0" * 4))
    assert refused("factorize", half, "--rank", 1, "-o", tmp_path / "out.npz").startswith(
        "`-o` must name a .safetensors file for 'w' of dtype bfloat16, which a .npz cannot store"
    )
    np.savez(tmp_path / "w.npz", w=np.ones((2, 2), complex))
    path = tmp_path / "w.npz"
    assert refused("factorize", path, "--rank", 1, "-o", tmp_path / "out.safetensors").startswith(
        "`-o` must name a .npz file for 'w' of dtype complex128, which a .safetensors cannot store"
    )


# ---- All or nothing ------------------------------------------------------------------------------


@pytest.fixture
def intact(npz, tmp_path):
    """Whether there is the old file, whole, and no other beside it but the one read."""
    out = tmp_path / "out.npz"
    out.write_bytes(b"old")

    def intact():
        return out.read_bytes() == b"old" and set(tmp_path.iterdir()) == {npz, out}

    return intact


def test_the_old_file_is_replaced(npz, tmp_path, run, intact):
    """When all went well, and nothing else is left."""
    assert intact()
    assert run("factorize", npz, "--rank", 1, "-o", tmp_path / "out.npz").exit_code == 0
    assert not intact()
    assert {path.name for path in tmp_path.iterdir()} == {"model.npz", "out.npz"}


@pytest.mark.parametrize("step", ["factored", "store", "certified"])
def test_an_interrupt_leaves_the_old_file(step, npz, tmp_path, run, intact, monkeypatch):
    """At whatever step."""

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(factors, step, interrupt)
    assert run("factorize", npz, "--rank", 1, "-o", tmp_path / "out.npz").exit_code == 130
    assert intact()


def writing(monkeypatch, write):
    """Let ``write(original, stream, arrays)`` write all archives."""
    form = files.FORMATS[".npz"]
    changed = form._replace(write=lambda *args: write(form.write, *args))
    monkeypatch.setitem(files.FORMATS, ".npz", changed)


def test_a_full_disk_leaves_the_old_file(npz, tmp_path, refused, intact, monkeypatch):
    """The operating system's refusal is told as a sentence."""

    def full(original, stream, arrays):
        stream.write(b"some")
        raise OSError(28, "No space left on device")

    writing(monkeypatch, full)
    sentence = refused("factorize", npz, "--rank", 1, "-o", tmp_path / "out.npz")
    assert "cannot be written: No space left on device. Choose another path." in sentence
    assert intact()


def flipped(original, stream, arrays):
    name = next(iter(arrays))
    wrong = arrays[name].copy()
    wrong.view(np.uint8)[-1, -1] ^= 1
    original(stream, {**arrays, name: wrong})


def cut_short(original, stream, arrays):
    original(stream, arrays)
    stream.truncate(stream.tell() - 30)


def broken(original, stream, arrays):
    original(stream, arrays)
    stream.seek(600)
    stream.write(b"\xff" * 8)


def incomplete(original, stream, arrays):
    original(stream, dict(list(arrays.items())[1:]))


def overfull(original, stream, arrays):
    original(stream, {**arrays, "more": np.zeros(1)})


def converted(original, stream, arrays):
    original(stream, {name: wide(array) for name, array in arrays.items()})


@pytest.mark.parametrize("fault", [flipped, cut_short, broken, incomplete, overfull, converted])
def test_a_file_that_is_not_what_was_written_leaves_the_old_one(
    fault, npz, tmp_path, refused, intact, monkeypatch
):
    """It is read back before it takes the place, and one bit is enough."""
    writing(monkeypatch, fault)
    sentence = refused("factorize", npz, "--rank", 1, "-o", tmp_path / "out.npz")
    assert "keeps what is written to it" in sentence
    assert "but what was read back is something else." in sentence
    assert intact()


def test_a_kill_in_the_middle_leaves_the_old_file(npz, tmp_path):
    """What it had written so far stays under another name, which says what it is."""
    out = tmp_path / "out.npz"
    out.write_bytes(b"old")
    program = """
import sys, time
from eckart.cli import files
from eckart.cli.commands import command

def write(stream, arrays):
    stream.write(b"a part")
    stream.flush()
    print("writing", flush=True)
    time.sleep(60)

files.FORMATS[".npz"] = files.FORMATS[".npz"]._replace(write=write)
command(["factorize", sys.argv[1], "--rank", "1", "-o", sys.argv[2]])
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(npz), str(out)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == f"writing{os.linesep}".encode()
        process.kill()
    assert out.read_bytes() == b"old"
    (left,) = set(tmp_path.iterdir()) - {npz, out}
    assert left.name.startswith(".out.npz.")
    assert left.suffix == ".part"
    assert left.read_bytes() == b"a part"
