"""Length and angle of matrices given by factors are those of the matrices themselves."""

import numpy as np
import pytest

import eckart
from compare import EPS, assert_within
from truth import low_rank
from zoo import random


@pytest.mark.parametrize("stack", [(), (2, 3)], ids=str)
@pytest.mark.parametrize("r", [0, 1, 3, 9])
def test_norm_is_the_frobenius_norm_of_the_matrix(backend, dtype, r, stack):
    """Of a LowRank and of an SVD, also of more columns than the matrix has, and of none."""
    factors, W = low_rank(backend, dtype, r=r, stack=stack)
    expected = np.linalg.norm(W, axis=(-2, -1))
    for each in factors, eckart.truncated_svd(factors, min(r, 5)):
        actual = backend.to_numpy(eckart.norm(each))
        assert_within(actual, expected, dtype=dtype, size=7, scale=40.0, units=2)


def test_inner_product_is_that_of_the_entries(backend, dtype):
    """The first matrix conjugate, stacks broadcast."""
    one, first = low_rank(backend, dtype, r=2, stack=(4, 1), seed=1)
    other, second = low_rank(backend, dtype, r=3, stack=(3,), seed=5)
    expected = np.sum(first.conj() * second, axis=(-2, -1))
    actual = backend.to_numpy(eckart.inner(one, other))
    assert_within(actual, expected, dtype=dtype, size=7, scale=900.0)
    turned = backend.to_numpy(eckart.inner(eckart.truncated_svd(other, 3), one))
    assert_within(turned, expected.conj(), dtype=dtype, size=7, scale=900.0)


def test_squared_norm_is_the_inner_product_with_itself(backend, dtype):
    """So the two belong together."""
    factors, _ = low_rank(backend, dtype)
    square = backend.to_numpy(eckart.inner(factors, factors)).real
    assert_within(
        backend.to_numpy(eckart.norm(factors)) ** 2, square, dtype=dtype, size=7, scale=200
    )


def test_distance_of_nearly_equal_matrices_keeps_its_digits(backend, dtype):
    """Where a difference of squares would have none left."""
    m, r = 7, 2
    B, A = np.linalg.qr(random((m, r), dtype, 1))[0], np.linalg.qr(random((5, r), dtype, 2))[0].T
    little = 64 * EPS[dtype]
    moved = B.copy()
    moved[:, 0] = moved[:, 0] * (1 + little)
    distance = np.linalg.norm((moved.astype(complex) - B) @ A)
    terms = (
        eckart.LowRank(backend.asarray(part, dtype), backend.asarray(A, dtype))
        for part in (moved, B)
    )
    found = eckart.norm(eckart.add(*terms, weights=[1, -1]))
    assert distance > 32 * EPS[dtype]
    assert_within(backend.to_numpy(found), distance, dtype=dtype, size=1, scale=4.0)


@pytest.mark.parametrize("end", [1, -1])
def test_ends_of_the_range_do_not_overflow(backend, dtype, end):
    """Factors whose own squares leave the range, of matrices whose norms and products do not."""
    exponent = end * (30 if EPS[dtype] > 1e-10 else 300)
    B, A = np.full((4, 1), 10.0**exponent), np.full((1, 3), 10.0**-exponent)
    factors = eckart.LowRank(backend.asarray(B, dtype), backend.asarray(A, dtype))
    assert_within(backend.to_numpy(eckart.norm(factors)), np.sqrt(12), dtype=dtype, size=4, scale=4)
    assert_within(
        backend.to_numpy(eckart.inner(factors, factors)).real, 12.0, dtype=dtype, size=4, scale=12
    )
    large = eckart.LowRank(backend.asarray(B, dtype), backend.asarray(0 * A + 1, dtype))
    norm = backend.to_numpy(eckart.norm(large)) / 10.0**exponent
    assert_within(norm, np.sqrt(12), dtype=dtype, size=4, scale=4)


def test_half_precision_is_computed_in_single(backend, half):
    """And returned as it came."""
    factors, W = low_rank(backend, "float32")
    narrow = eckart.LowRank(*(backend.xp.astype(part, backend.dtype(half)) for part in factors))
    length = eckart.norm(narrow)
    assert length.dtype == backend.dtype(half) == eckart.inner(narrow, narrow).dtype
    expected = np.linalg.norm(W)
    assert_within(backend.to_numpy(length), expected, dtype=half, size=2, scale=expected)


def test_what_is_no_matrix_of_one_shape_is_refused(backend):
    """By name, with what came."""
    factors, _ = low_rank(backend, "float32")
    other, _ = low_rank(backend, "float32", m=6)
    with pytest.raises(TypeError, match="`A` must be an array of a library"):
        eckart.norm([1.0])
    with pytest.raises(TypeError, match="`other` must be an array of a library"):
        eckart.inner(factors, None)
    with pytest.raises(ValueError, match=r"`one` and `other` must be matrices of one shape"):
        eckart.inner(factors, other)
    broken = eckart.LowRank(factors.B * float("nan"), factors.A)
    with pytest.raises(ValueError, match=r"`A\.B` must be finite, but 21 of its 21"):
        eckart.norm(broken)
