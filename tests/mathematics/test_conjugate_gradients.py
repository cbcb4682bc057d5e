"""Conjugate gradients over many columns, with and without a preconditioner."""

import numpy as np
import pytest

import zoo
from compare import assert_within
from eckart._derivative import truncation
from eckart._derivative.conjugate_gradients import conjugate_gradients, repeated
from truth import real

pytestmark = pytest.mark.needs("operators")


M, R = 60, 3
S = np.asarray([2.0, 1.5, 1.1])
T = np.concatenate([[1.09, 1.08, 1.07], 0.5 * 0.9 ** np.arange(37.0)])


def solved(backend, dtype, precondition):
    """The columns ``(I - A A^H / s**2)^{-1} b``, the truth, and how many products it took."""
    U = zoo.orthonormal(M, len(T), seed=0, complex_=dtype.startswith("complex"))
    B = zoo.orthonormal(M, R, seed=1, complex_=dtype.startswith("complex"))
    B[:, 1] = 0.0
    xp = backend.xp
    left, squares = backend.asarray(U, dtype), backend.asarray(T**2, dtype)[:, None]
    over = backend.asarray(1 / S**2, dtype)
    calls = []

    def multiply(X):
        calls.append(None)
        inside = xp.conj(left.T) @ X if dtype.startswith("complex") else left.T @ X
        return X - left @ (squares * inside) * over

    spare = (left[:, :3], backend.asarray(T[:3], real(dtype)), None)
    X, residual = conjugate_gradients(
        multiply,
        backend.asarray(B, dtype),
        precondition=truncation._preconditioner(
            backend.asarray(S, real(dtype)), spare if precondition else None
        ),
        tolerance=1e-5,
        loop=repeated,
    )
    inside = U.conj().T @ B
    ratio = (T[:, None] / S) ** 2
    truth = B + U @ (inside * ratio / (1 - ratio))
    return backend.to_numpy(X), truth, backend.to_numpy(residual), len(calls)


def test_columns_are_solved_to_the_tolerance(backend, dtype):
    """A zero column is its own solution."""
    X, truth, residual, _ = solved(backend, dtype, precondition=False)
    # The smallest eigenvalue of a column's matrix is 1 - (1.09 / 1.1)**2.
    assert np.max(np.abs(X - truth)) < 1e-5 / (1 - (1.09 / 1.1) ** 2)
    assert np.max(residual) < 1e-5
    assert not X[:, 1].any()


def test_spare_triplets_save_steps(backend, dtype):
    """With the leading directions taken care of, what is left is well conditioned."""
    *_, plain = solved(backend, dtype, precondition=False)
    X, truth, _, preconditioned = solved(backend, dtype, precondition=True)
    assert preconditioned <= 7 < plain
    assert_within(X, truth, dtype="float32", size=M, scale=60, units=8)
