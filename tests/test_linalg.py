"""The floor below every algorithm: scaling, and decompositions that behave the same."""

import array_api_compat.numpy
import numpy as np
import pytest

import zoo
from compare import EPS, assert_within
from eckart import _linalg


@pytest.mark.parametrize("exponent", [-1.0, -0.6, 0.0, 0.6, 0.99])
def test_normalized_entries_have_squares_in_range(backend, dtype, exponent):
    """Squares neither overflow nor vanish, and the power is undone exactly."""
    top = 127 if dtype in ("float32", "complex64") else 1023
    value = 2.0 ** max(int(exponent * top), 4 - top)
    A = np.asarray([[value, -value / 2], [0.0, value / 4]])
    scaled, power = map(backend.to_numpy, _linalg.normalized(backend.asarray(A, dtype)))
    modulus = np.abs(scaled.astype(complex)).max()
    assert abs(np.log2(modulus)) < 0.45 * top
    assert power.shape == (1, 1)
    assert np.all(scaled.real / power == A)
    assert np.log2(float(power[0, 0])) % 1 == 0


def test_matrix_that_is_not_finite_is_marked_in_its_own_power(backend, dtype):
    """Zeros to decompose and a NaN to multiply by, leaving the rest of the stack alone."""
    A = np.stack([np.eye(2), np.full((2, 2), np.inf), np.asarray([[1.0, np.nan], [0.0, 1.0]])])
    scaled, power = (
        backend.to_numpy(part) for part in _linalg.normalized(backend.asarray(A, dtype))
    )
    assert np.isnan(power[:, 0, 0]).tolist() == [False, True, True]
    assert_within(scaled, np.stack([np.eye(2), *np.zeros((2, 2, 2))]), dtype=dtype, size=0)


def test_nan_among_many_entries_is_not_passed_over(backend, dtype):
    """Not by a maximum that works on several entries at once, as JAX's does on a CPU."""
    A = np.ones((100, 50))
    A[70, 7] = np.nan
    power = backend.to_numpy(_linalg.normalizing_power(backend.asarray(A, dtype)))
    assert np.isnan(power).all()


def test_product_keeps_the_precision_of_its_arguments(backend, dtype):
    """One rounding an addition, as the dtype promises."""
    rng = np.random.default_rng(0)
    A, B = rng.standard_normal((30, 40)).astype("float32"), rng.standard_normal((40, 20))
    B = B.astype("float32")
    product = _linalg.matmul(backend.asarray(A, dtype), backend.asarray(B, dtype))
    bound = np.abs(A.astype(float)) @ np.abs(B.astype(float))
    error = np.abs(backend.to_numpy(product) - A.astype(float) @ B.astype(float))
    assert np.all(error <= 40 * EPS[dtype] * bound)


@pytest.mark.numpy_only
def test_eigenvectors_are_found_where_lapack_gives_up(monkeypatch):
    """A decomposition that does not converge is tried again on the matrix upside down."""
    xp = array_api_compat.numpy
    eigh, seen = xp.linalg.eigh, []

    def failing_once(A):
        seen.append(A)
        if len(seen) == 1:
            raise np.linalg.LinAlgError
        return eigh(A)

    monkeypatch.setattr(xp.linalg, "eigh", failing_once)
    A = zoo.matrix([3.0, 2.0, 1.0], (3, 5), dtype="float64", seed=0)
    values, vectors = _linalg.eigh(A @ A.T)
    assert len(seen) == 2
    assert_within(values, [1.0, 4.0, 9.0], dtype="float64", size=3, scale=9)
    assert_within(A @ A.T @ vectors, vectors * values, dtype="float64", size=3, scale=9)
