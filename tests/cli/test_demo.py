"""The page of ``eckart demo``."""

from __future__ import annotations

import sys

import pytest

pytestmark = pytest.mark.numpy_only


def test_the_page_tells_the_numbers(run):
    """A matrix of rank 2: 100 numbers against 40, and rank 4 the last that saves."""
    result = run("demo")
    assert result.exit_code == 0
    told = [line.split() for line in result.stdout.splitlines()]
    assert ["matrix_rank(W)", "2"] in told
    assert ["factors.B.shape", "(10,", "2)"] in told
    assert ["factors.A.shape", "(2,", "10)"] in told
    assert ["W:", "10", "*", "10", "100"] in told
    assert ["B", "and", "A:", "2", "*", "(10", "+", "10)", "40"] in told
    assert ["break_even_rank((10,", "10))", "4"] in told


def test_the_two_outputs_are_compared(run):
    """Ten rows of a pair each, equal up to rounding, and their largest difference."""
    lines = run("demo").stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if "linear(x, factors, bias)" in line)
    pairs = [tuple(map(float, line.split())) for line in lines[start + 1 : start + 11]]
    assert len({one for one, _ in pairs}) == 10
    assert all(one == pytest.approx(other, abs=1e-8) for one, other in pairs)
    difference = float(lines[start + 11].split()[-1])
    assert lines[start + 11].split()[:2] == ["largest", "difference"]
    assert 0 <= difference < 1e-13


def test_the_error_foretold_is_the_error_made(run):
    """Eckart–Young, to the digits printed."""
    foretold, made = (line.split()[-1] for line in run("demo").stdout.splitlines()[-2:])
    assert foretold == made
    assert 0 < float(made) < 1


def test_the_page_fits_eighty_columns(run):
    """It reads well in the smallest terminal there is."""
    assert max(map(len, run("demo").stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("backend", "module", "title"), [("torch", "torch", "PyTorch"), ("jax", "jax", "JAX")]
)
def test_a_missing_library_is_a_sentence(backend, module, title, refused, monkeypatch):
    """It names the library and how to get it."""
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "jax.numpy", raising=False)
    sentence = refused("demo", "--backend", backend)
    assert sentence == (
        f"`--backend {backend}` needs {title}, which is not installed. "
        f"Install it first, for example with pip install {backend}."
    )
