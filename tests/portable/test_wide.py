"""Matrices with one very long side: what a library's own decompositions lose there."""

import numpy as np
import pytest

import eckart
import zoo
from compare import assert_within

pytestmark = pytest.mark.precision

LONG = 2**17 + 5  # not divisible by what is factorized at once
SPECTRUM = np.asarray([1.3, 0.6, 0.2])


def matrices(backend, dtype):
    """A wide matrix and its adjoint, tall, as they are in the dtype."""
    A = zoo.rounded(zoo.matrix(SPECTRUM, (3, LONG), dtype=dtype, seed=4), dtype)
    return A, A.conj().T


def assert_triplets(backend, A, factors, dtype):
    U, S, Vh = (backend.to_numpy(part) for part in factors)
    wide = np.complex128 if np.iscomplexobj(A) else np.float64
    U, S, Vh, A = U.astype(wide), S.astype(np.float64), Vh.astype(wide), A.astype(wide)
    assert_within(S, np.linalg.svd(A, compute_uv=False), dtype=dtype, size=3, units=8)
    assert_within(U.conj().T @ U, np.eye(3), dtype=dtype, size=3, units=8)
    assert_within(Vh @ Vh.conj().T, np.eye(3), dtype=dtype, size=3, units=8)
    assert_within((U * S) @ Vh, A, dtype=dtype, size=3, scale=S[0], units=8)


def test_one_long_side_costs_no_digits(backend, dtype):
    """On any library, by its full SVD."""
    A, _ = matrices(backend, dtype)
    factors = eckart.truncated_svd(backend.asarray(A, dtype), 3, method="exact")
    assert_triplets(backend, A, factors, dtype)


@pytest.mark.only("numpy", "torch")
@pytest.mark.parametrize("method", ["exact", "gram", "auto"])
def test_no_method_is_worse_than_another_where_one_side_is_long(backend, dtype, method):
    """Values and vectors are exact to some units of rounding, however long the columns are."""
    for A in matrices(backend, dtype):
        factors = eckart.truncated_svd(backend.asarray(A, dtype), 3, method=method)
        assert_triplets(backend, A, factors, dtype)


@pytest.mark.only("numpy", "torch")
def test_factors_with_a_long_side_are_as_exact(backend, dtype):
    """Through the QR of the long one; and so are stacks, and singular values alone."""
    wide, tall = matrices(backend, dtype)
    eye = np.eye(3, dtype=wide.dtype)
    for A, pair in (wide, (eye, wide)), (tall, (tall, eye)):
        factors = eckart.LowRank(*(backend.asarray(part, dtype) for part in pair))
        assert_triplets(backend, A, eckart.truncated_svd(factors, 3), dtype)
        S = np.linalg.svd(A, compute_uv=False)
        stack = backend.asarray(np.stack([A, 2 * A]), dtype)
        values = backend.to_numpy(eckart.singular_values(stack))
        assert_within(values, np.stack([S, 2 * S]), dtype=dtype, size=3, scale=2.0, units=8)
