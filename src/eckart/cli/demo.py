"""Low-rank adaptation explained in five steps, with measured numbers."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import eckart
from eckart.cli.refusal import Refusal
from eckart.cli.text import bold

# For each backend its name in print, the package to install, and the module of its arrays.
_BACKENDS = {
    "numpy": ("NumPy", "numpy", "numpy"),
    "torch": ("PyTorch", "torch", "torch"),
    "jax": ("JAX", "jax", "jax.numpy"),
}


def page(backend: str) -> Iterator[str]:
    """The lines of the page, computed with the arrays of `backend`."""
    title, package, module = _BACKENDS[backend]
    try:
        xp = importlib.import_module(module)
    except ModuleNotFoundError:
        raise Refusal(
            f"`--backend {backend}` needs {title}, which is not installed. "
            f"Install it first, for example with pip install {package}."
        ) from None
    return _steps(title, xp.asarray)


def _steps(title: str, asarray: Callable[[Any], Any]) -> Iterator[str]:
    rng = np.random.default_rng(0)
    W = asarray(rng.standard_normal((10, 2)) @ rng.standard_normal((2, 10)))
    x, bias = asarray(rng.standard_normal(10)), asarray(rng.standard_normal(10))
    m, n = W.shape

    yield "A layer of a network computes W @ x + bias. Low-rank adaptation (LoRA)"
    yield "replaces W, or a learned change of W, by B @ A, a product of two thin factors."
    yield f"Here W is {m} x {n}, an array of {title}, {str(W.dtype).removeprefix('torch.')}:"
    yield ""
    yield from (" ".join(f"{entry:7.3f}" for entry in row) for row in np.asarray(W))

    yield from _heading("1. How many directions has W?")
    S = eckart.singular_values(W)
    rank = int(eckart.matrix_rank(W))
    yield "singular_values(W)"
    yield " ".join(f"{value:.1e}" for value in np.asarray(S))
    yield _line("matrix_rank(W)", rank)

    yield from _heading(f"2. Two factors of rank {rank} reproduce W")
    factors = eckart.factorize(W, rank)
    yield f"factors = factorize(W, {rank})"
    yield _line("factors.B.shape", tuple(factors.B.shape))
    yield _line("factors.A.shape", tuple(factors.A.shape))
    yield _line("largest entry of abs(W - B @ A)", f"{_gap(W, eckart.reconstruct(factors)):.1e}")

    yield from _heading("3. The layer has the same output with the factors")
    dense, thin = W @ x + bias, eckart.linear(x, factors, bias)
    yield f"{'W @ x + bias':>16} {'linear(x, factors, bias)':>28}"
    for one, other in zip(np.asarray(dense), np.asarray(thin), strict=True):
        yield f"{one:16.9f} {other:28.9f}"
    yield _line("largest difference", f"{_gap(dense, thin):.1e}")

    yield from _heading("4. The factors store fewer numbers")
    limit = eckart.break_even_rank(W.shape)
    yield _line(f"W: {m} * {n}", factors.dense_size)
    yield _line(f"B and A: {rank} * ({m} + {n})", factors.size)
    yield _line(f"break_even_rank(({m}, {n}))", limit)
    yield f"Up to rank {limit} two factors store fewer numbers than W."

    lower = rank - 1
    yield from _heading(f"5. At rank {lower} no matrix is nearer to W than B @ A")
    expected = float(eckart.truncation_error(S, lower, relative=True))
    rest = np.asarray(W) - np.asarray(eckart.reconstruct(eckart.factorize(W, lower)))
    measured = np.linalg.norm(rest) / np.linalg.norm(np.asarray(W))
    yield _line(f"truncation_error(S, {lower}, relative=True)", f"{expected:.6f}")
    yield _line("norm(W - B @ A) / norm(W)", f"{measured:.6f}")


def _heading(words: str) -> list[str]:
    return ["", bold(words)]


def _line(what: str, value: object) -> str:
    return f"   {what:<40} {value}"


def _gap(one: Any, other: Any) -> float:
    return float(np.max(np.abs(np.asarray(one) - np.asarray(other))))
