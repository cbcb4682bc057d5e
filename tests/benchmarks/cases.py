"""Matrices with a spectrum that we chose, in the sizes of the benchmarks."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.fft


class Sizes(NamedTuple):
    """How large the matrices of every work are."""

    square: int
    rank: int
    tall: tuple[tuple[int, int], ...]
    tall_rank: int
    stack: tuple[int, int]
    stack_rank: int
    growth: tuple[int, ...]
    gradients: tuple[int, ...]
    choice: tuple[tuple[int, int], ...]
    sparse: tuple[int, int]
    disk: int


FULL = Sizes(
    square=4096,
    rank=64,
    tall=((20000, 500), (30522, 384)),
    tall_rank=50,
    stack=(64, 512),
    stack_rank=16,
    growth=(1024, 2048, 4096, 8192),
    gradients=(1024, 4096),
    choice=(
        *((n, n) for n in (32, 64, 128, 256, 512, 1024)),
        *((1000, 100), (4000, 64), (100, 1000)),
    ),
    sparse=(200_000, 50_000),
    disk=1_000_000,
)
QUICK = Sizes(
    square=512,
    rank=8,
    tall=((2000, 50), (3052, 38)),
    tall_rank=5,
    stack=(8, 64),
    stack_rank=4,
    growth=(256, 512, 1024),
    gradients=(128, 256),
    choice=((32, 32), (64, 64), (200, 20)),
    sparse=(4000, 1000),
    disk=20_000,
)


class Case(NamedTuple):
    """A matrix or a stack, the singular values it was made from, and the rank asked for."""

    A: Any
    S: Any
    rank: int

    @property
    def best(self) -> float:
        """Frobenius error of the best approximation."""
        return float(np.linalg.norm(self.S[self.rank :]))


def power(n: int, rank: int, dtype: str = "float32") -> Case:
    """Singular values 1/j."""
    return square(1 / np.arange(1, n + 1), rank, dtype)


def spikes(n: int, rank: int, dtype: str = "float32") -> Case:
    """As many values from 1 to 0.2 as are asked for, above a bulk in (0, 0.1)."""
    bulk = np.random.default_rng(1).uniform(0, 0.1, n - rank)
    return square(np.concatenate([np.linspace(1, 0.2, rank), np.sort(bulk)[::-1]]), rank, dtype)


def flat(n: int, rank: int) -> Case:
    """A few values at 1, fewer than are asked for, and all others at 0.01."""
    return square(np.where(np.arange(n) < 20 * rank // 64, 1.0, 0.01), rank, "float32")


def tall(shape: tuple[int, int], rank: int) -> Case:
    """Singular values 1/sqrt(j) of a matrix with many rows."""
    S = np.arange(1, shape[1] + 1) ** -0.5
    return Case(matrix(S, shape).astype("float32"), S, rank)


def stack(count: int, n: int, rank: int) -> Case:
    """Square matrices with singular values 1/j, each with vectors of its own."""
    S = 1 / np.arange(1, n + 1)
    A = np.stack([matrix(S, (n, n), seed).astype("float32") for seed in range(count)])
    return Case(A, S, rank)


def square(S: Any, rank: int, dtype: str) -> Case:
    """The square matrix with these singular values."""
    return Case(matrix(S, (len(S), len(S))).astype(dtype), S, rank)


def matrix(S: Any, shape: tuple[int, int], seed: int = 0) -> Any:
    """A matrix with these singular values and mixed singular vectors, in float64."""
    rng = np.random.default_rng(seed)
    A = np.zeros(shape)
    np.fill_diagonal(A, S)
    # After one round the vectors are cosines, after two they look like random ones.
    for axis in 0, 1, 0, 1:
        A = mixed(A, axis, rng)
    return A


def mixed(A: Any, axis: int, rng: Any) -> Any:
    """Random signs, then the orthonormal cosine transform: a fast orthogonal map."""
    signs = rng.choice([-1.0, 1.0], A.shape[axis])
    A *= signs[:, None] if axis == 0 else signs
    return scipy.fft.dct(A, axis=axis, norm="ortho", overwrite_x=True)
