"""What is true of a decomposition, in NumPy and double precision, and what refuses all else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import eckart
import zoo
from compare import EPS, assert_within
from eckart._arrays.sketch import gaussian

METHODS = ["exact", "gram", "krylov", "auto"]


def real(dtype: str) -> str:
    """The real dtype of this precision."""
    return {"complex64": "float32", "complex128": "float64"}.get(dtype, dtype)


def ways(*names: str) -> list[Any]:
    """Transformations to parametrize with, each where the library has it."""
    return [pytest.param(name, marks=pytest.mark.needs(name)) for name in names]


def parts(backend: Any, factors: Any) -> list[Any]:
    """The arrays of an SVD or a LowRank in NumPy."""
    return [backend.to_numpy(array) for array in factors]


def in_numpy(backend: Any, value: Any) -> Any:
    """The same in NumPy, which traces nothing: an array, or a tuple that holds some."""
    if not isinstance(value, tuple):
        return backend.to_numpy(value)
    entries = [in_numpy(backend, entry) for entry in value]
    return type(value)(*entries) if hasattr(value, "_fields") else tuple(entries)


def dense(backend: Any, factors: Any) -> Any:
    """The matrix in double precision, whatever rounding its product would add."""
    wide = [part.astype(np.result_type(part.dtype, np.float64)) for part in parts(backend, factors)]
    left, *S, right = wide
    return (left * S[0][..., None, :] if S else left) @ right


def error_of(A: Any, backend: Any, factors: Any) -> Any:
    """Frobenius norms of what the factors leave of a NumPy matrix or stack."""
    return np.linalg.norm(A - dense(backend, factors), axis=(-2, -1))


def truncated(A: Any, rank: int) -> tuple[Any, Any, Any]:
    """The leading triplets, by NumPy."""
    U, S, Vh = np.linalg.svd(A, full_matrices=False)
    return U[..., :rank], S[..., :rank], Vh[..., :rank, :]


def best(A: Any, rank: int) -> tuple[Any, Any]:
    """Best approximation and its error, by NumPy."""
    U, S, Vh = truncated(A, rank)
    values = np.linalg.svd(A, compute_uv=False)
    return (U * S[..., None, :]) @ Vh, np.linalg.norm(values[..., rank:], axis=-1)


def given(backend: Any, dtype: str, triplets: Any) -> tuple[eckart.SVD, Any]:
    """An SVD of the library, and what it holds after rounding, in double precision."""
    names = dtype, real(dtype), dtype
    arrays = [backend.asarray(part, name) for part, name in zip(triplets, names, strict=True)]
    U, S, Vh = (zoo.rounded(part, name) for part, name in zip(triplets, names, strict=True))
    return eckart.SVD(*arrays), (U * S[..., None, :]) @ Vh


def svd_of(backend: Any, A: Any, rank: int, dtype: str) -> tuple[eckart.SVD, Any]:
    """The best approximation as an SVD of the library, and its error."""
    return given(backend, dtype, truncated(A, rank))[0], best(A, rank)[1]


def nothing(backend: Any, n: int, dtype: str) -> eckart.SVD:
    """What a stream of rows begins with."""
    return given(backend, dtype, (np.zeros((0, 0)), np.zeros(0), np.zeros((0, n))))[0]


def low_rank(
    backend: Any,
    dtype: str,
    m: int = 7,
    n: int = 5,
    r: int = 3,
    stack: tuple[int, ...] = (),
    seed: int = 0,
) -> tuple[eckart.LowRank, Any]:
    """A LowRank of the library and its dense NumPy matrix in double precision."""
    B, A = zoo.random((*stack, m, r), dtype, seed), zoo.random((*stack, r, n), dtype, seed + 1)
    factors = eckart.LowRank(backend.asarray(B, dtype), backend.asarray(A, dtype))
    wide = np.result_type(dtype, np.float64)
    return factors, B.astype(wide) @ A.astype(wide)


def known_by_products(backend: Any, A: Any, dtype: str) -> eckart.Operator:
    """The linear operator of a NumPy matrix or a stack."""
    array = backend.asarray(A, dtype)
    adjoint = backend.xp.conj(array.mT) if dtype.startswith("complex") else array.mT
    return eckart.operator(A.shape, lambda X: array @ X, lambda X: adjoint @ X, like=array)


def drawn(backend: Any, dtype: str, n: int = 500, k: int = 7, **which: int) -> Any:
    """A random test matrix of the library, in NumPy."""
    like = backend.asarray(np.zeros(1), dtype)
    return backend.to_numpy(gaussian(n, k, like=like, **({"seed": 0} | which)))


def certificate_of(backend: Any, A: Any, factors: Any, **options: Any) -> eckart.Certificate:
    """A certificate with its numbers in NumPy."""
    certificate = eckart.certify(A, factors, **options)
    assert isinstance(certificate, eckart.Certificate)
    return eckart.Certificate(*(backend.to_numpy(part).astype(float) for part in certificate))


def real_inner(xp: Any, W: Any, Y: Any) -> Any:
    """``Re sum(conj(W) * Y)``, which a gradient is taken of."""
    product = xp.sum(xp.conj(W) * Y) if "complex" in str(W.dtype) else xp.sum(W * Y)
    return xp.real(product) if "complex" in str(W.dtype) else product


def accuracy(dtype: str) -> float:
    """The default residual, over S[0]."""
    return float(np.sqrt(EPS[dtype]))


def assert_orthonormal(Q: Any, *, dtype: str, size: int, units: float = 8.0) -> None:
    """Refuse columns whose products with each other are not those of the identity."""
    assert_within(Q.conj().T @ Q, np.eye(Q.shape[1]), dtype=dtype, size=size, units=units)


def assert_truncation(
    triplets: Any, A: Any, S: Any, *, dtype: str, rank: int, units: float = 1.0
) -> None:
    """Orthonormal triplets of the truncation of a NumPy matrix that has these singular values."""
    U, values, Vh = map(np.asarray, triplets)
    size, scale = max(A.shape), max(S[0], 1e-30)
    for Q in U, Vh.conj().T:
        assert_within(Q.conj().T @ Q, np.eye(rank), dtype=dtype, size=size, units=units)
    assert_within(values, S[:rank], dtype=dtype, size=size, scale=scale, units=units)
    error = np.linalg.norm(A.astype(np.complex128) - (U * values) @ Vh)
    least = np.linalg.norm(S[rank:])
    assert error <= least * (1 + accuracy(dtype)) + units**2 * size * EPS[dtype] * S[0]


def assert_promise_kept(
    triplets: Any,
    A: Any,
    S: Any,
    *,
    dtype: str,
    rank: int | None = None,
    promised: float | None = None,
) -> None:
    """Orthonormal vectors, and the Eckart–Young error but for what was promised."""
    U, values, Vh = triplets
    rank = len(values) if rank is None else rank
    promised = accuracy(dtype) if promised is None else promised
    assert values.shape == (rank,)
    size, least, scale = max(A.shape), np.linalg.norm(S[rank:]), max(S[0], 1e-300)
    for vectors in U, Vh.conj().T:
        product = vectors.conj().T @ vectors
        assert_within(product, np.eye(rank), dtype=dtype, size=size, units=2)
    error = np.linalg.norm(A - (U * values) @ Vh)
    rounding = 4 * size * EPS[dtype] * scale
    assert least - rounding <= error <= least * (1 + promised) + rounding
    # Ritz values are below the singular values, by what the error may be above the least one.
    missing = S[:rank] ** 2 - values.astype(float) ** 2
    assert np.sum(missing) <= 3 * promised * least**2 + 8 * rounding * scale
    assert np.all(missing >= -4 * rounding * scale)
    assert np.all(np.diff(values) <= 0)


def assert_truncated(backend: Any, factors: Any, A: Any, dtype: str, rank: int = 6) -> None:
    """Refuse all but the truncation of a NumPy matrix, to twice the rounding of one product."""
    S = np.linalg.svd(A, compute_uv=False)
    assert_truncation(parts(backend, factors), A, S, dtype=dtype, rank=rank, units=2)


def assert_certified(
    certificate: Any, A: Any, approximation: Any, S: Any, *, dtype: str, rank: int
) -> None:
    """Equal to what it measures, or on the safe side of what it bounds."""
    size, scale = max(A.shape), max(S[0], np.linalg.norm(approximation, 2))
    rounding = 8 * size * EPS[dtype] * scale
    remainder = A - approximation
    error, least = np.linalg.norm(remainder), np.linalg.norm(S[rank:])
    assert abs(certificate.error - error) <= rounding
    assert abs(certificate.relative_error * np.linalg.norm(A) - error) <= rounding
    spectral = np.linalg.norm(remainder, 2)
    assert spectral - rounding <= certificate.spectral_error <= 1.5 * spectral + rounding
    assert certificate.spectral_error <= certificate.error + rounding
    assert certificate.failure_probability <= 1.001e-10
    assert error - least - rounding <= certificate.excess <= certificate.error + rounding
