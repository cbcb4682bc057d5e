"""Matrices whose singular values we chose, so that the right answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np

SPECTRA = {
    "power law": lambda k: 1.0 / np.arange(1, k + 1),
    "exponential": lambda k: 10.0 ** -np.linspace(0, 6, k),
    "step": lambda k: np.where(np.arange(k) < k // 2, 1.0, 1e-3),
    "flat tail": lambda k: np.where(np.arange(k) < 2, 1.0, 0.01),
    "stairs": lambda k: 2.0 ** -(np.arange(k) // 3),
    "exact rank": lambda k: np.where(np.arange(k) < (k + 1) // 2, 1.0 / np.arange(1, k + 1), 0.0),
    "identity": lambda k: np.ones(k),
    "zero": lambda k: np.zeros(k),
    "one value": lambda k: np.where(np.arange(k) < 1, 1.0, 0.0),
}


def _below(values: Any) -> Any:
    """Ten leading ones, then these: how Tropp et al. (2017, 2019) build their test spectra."""
    return np.concatenate([np.ones(min(10, len(values))), values])[: len(values)]


# The hard cases of the literature on randomised methods, for some dozens of singular values.
HARD_SPECTRA = {
    "low rank and noise": lambda k: _below(
        0.05 * np.linalg.svd(np.random.default_rng(0).standard_normal((k, k)) / np.sqrt(k))[1]
    ),
    "slow polynomial decay": lambda k: _below(np.arange(2, k + 2) ** -0.5),
    "fast polynomial decay": lambda k: _below(np.arange(2, k + 2) ** -2.0),
    "slow exponential decay": lambda k: _below(10.0 ** (-0.01 * np.arange(1, k + 1))),
    "fast exponential decay": lambda k: _below(10.0 ** (-0.25 * np.arange(1, k + 1))),
    "devil's stairs": lambda k: 0.6 ** (np.arange(k) // 7),
    "flat tail": lambda k: np.where(np.arange(k) < 4, 1.0, 0.01),
    "almost flat": lambda k: 1.0 - 1e-3 * np.arange(k) / k,
    "repeats across the cut": lambda k: np.where(np.arange(k) < 3, 2.0, np.ones(k)),
    "more repeats than a block": lambda k: np.where(np.arange(k) < 19, 1.0, 0.5),
    "linear": lambda k: 1.0 - np.arange(k) / k,
    "exact rank": lambda k: np.where(np.arange(k) < 4, 1.0 / np.arange(1, k + 1), 0.0),
    "identity": lambda k: np.ones(k),
    "zero": lambda k: np.zeros(k),
}
SHAPES = [(6, 6), (9, 4), (4, 9), (1, 5), (5, 1), (1, 1), (23, 17)]


def orthonormal(m: int, k: int, *, seed: int, complex_: bool) -> Any:
    """Orthonormal columns, Haar-distributed."""
    rng = np.random.default_rng(seed)
    G = rng.standard_normal((m, k))
    if complex_:
        G = G + 1j * rng.standard_normal((m, k))
    return np.linalg.qr(G)[0]


def normal(shape: tuple[int, ...], dtype: str, seed: int) -> Any:
    """Normal entries as `dtype` holds them, in double precision."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape)
    if dtype.startswith("complex"):
        values = values + 1j * rng.standard_normal(shape)
    return rounded(values, dtype)


def random(shape: tuple[int, ...], dtype: str, seed: int) -> Any:
    """Normal entries in `dtype`."""
    return normal(shape, dtype, seed).astype(dtype)


def matrix(S: Any, shape: tuple[int, int], *, dtype: str, seed: int = 0) -> Any:
    """A NumPy matrix in double precision with these singular values and random vectors."""
    m, n = shape
    complex_ = dtype.startswith("complex")
    U = orthonormal(m, len(S), seed=seed, complex_=complex_)
    V = orthonormal(n, len(S), seed=seed + 1, complex_=complex_)
    return (U * S) @ V.conj().T


def sparse(m: int, n: int, dtype: str, seed: int = 0, density: float = 0.15) -> Any:
    """A matrix most of whose entries are zero, in double precision, as `dtype` holds it."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((m, n)) * (rng.uniform(size=(m, n)) < density) / np.arange(1, n + 1)
    if dtype.startswith("complex"):
        A = A * np.exp(1j * rng.uniform(0, 6, (m, n)))
    return rounded(A, dtype)


def rounded(A: Any, dtype: str) -> Any:
    """`A` as `dtype` holds it, again in double precision: what a library really gets."""
    if dtype == "bfloat16":
        bits = np.asarray(A, np.float32).view(np.uint32)
        nearest = bits + 0x7FFF + ((bits >> 16) & 1)
        return (nearest & 0xFFFF0000).astype(np.uint32).view(np.float32).astype(np.float64)
    narrow = np.asarray(A).astype(dtype)
    return narrow.astype(np.complex128 if np.iscomplexobj(narrow) else np.float64)


def hilbert(n: int) -> Any:
    """Hilbert matrix: singular values that fall to rounding noise at once."""
    i = np.arange(n)
    return 1.0 / (i[:, None] + i + 1)


def kahan(n: int, theta: float = 1.2) -> Any:
    """Kahan matrix: triangular, no small diagonal entry, one tiny singular value."""
    s, c = np.sin(theta), np.cos(theta)
    return np.diag(s ** np.arange(n)) @ (np.eye(n) - c * np.triu(np.ones((n, n)), 1))


def truncation_derivative(A: Any, S: Any, r: int, G: Any) -> Any:
    """Change of the best approximation of rank r along `G`, in closed form; its own adjoint too.

    With full singular bases, kept values s and dropped ones t, zero beyond the short side, what
    couples kept j and dropped i is ``(s_j**2 * one + s_j * t_i * other) / (s_j**2 - t_i**2)``.
    """
    m, n = A.shape
    U, _, Vh = np.linalg.svd(A, full_matrices=True)
    M = U.conj().T @ G @ Vh.conj().T
    k = max(m, n)
    square = np.zeros((k, k), M.dtype)
    square[:m, :n] = M
    dropped = np.concatenate([S[r:], np.zeros(k - len(S))])[:, None]
    ratio = np.divide(dropped, S[:r], out=np.zeros((k - r, r)), where=dropped > 0)
    lower, upper = square[r:, :r], square[:r, r:].conj().T
    change = np.zeros_like(square)
    change[:r, :r] = square[:r, :r]
    change[r:, :r] = (lower + ratio * upper) / (1 - ratio) / (1 + ratio)
    change[:r, r:] = ((upper + ratio * lower) / (1 - ratio) / (1 + ratio)).conj().T
    return U @ change[:m, :n] @ Vh
